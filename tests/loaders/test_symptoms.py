"""The table of symptoms, with lines that engines, drivers, systems and Python really print."""

from __future__ import annotations

import errno
import os
import time

import pytest

from webui.errors import (
    EVIDENCE_LINES,
    AppError,
    BrokenPackage,
    ContextTooLong,
    CorruptFile,
    DeviceOutOfMemory,
    EngineCrashed,
    EngineRefused,
    HostOutOfMemory,
    IncompatibleDriver,
    InvalidSetting,
    MissingPackage,
    ModelNotFound,
    PortTaken,
    StorageFailed,
    UnsupportedArchitecture,
    UnsupportedFormat,
    UnsupportedQuantization,
    UnsupportedTokenizer,
)
from webui.loaders.causes import explain_exception, explain_exit, explain_lines, import_failure, name_limit, typed

LLAMA_CPP: list[tuple[str, type[AppError]]] = [
    (
        "0.00.051.630 E llama_model_load: error loading model: unknown model architecture: 'zzzzz'",
        UnsupportedArchitecture,
    ),
    (
        "llama_model_load: error loading model: error loading model vocabulary: unknown pre-tokenizer type: 'zmollm'",
        UnsupportedTokenizer,
    ),
    (
        "llama_model_load: error loading model: error loading model vocabulary: unknown tokenizer: 'zzzz'",
        UnsupportedTokenizer,
    ),
    ("gguf_init_from_reader: tensor 'x' has invalid ggml type 99. should be in [0, 43)", UnsupportedQuantization),
    ("gguf_init_from_reader: GGUFv1 is no longer supported, please use a more up-to-date version", UnsupportedFormat),
    ("gguf_init_from_reader: invalid magic characters: 'XXXX', expected 'GGUF'", UnsupportedFormat),
    ("gguf_init_from_reader: failed to read magic", CorruptFile),
    ("gguf_init_from_reader: failed to read header", CorruptFile),
    ("gguf_init_from_reader: failed to read key-value pairs", CorruptFile),
    ("gguf_init_from_reader: failed to read tensor info", CorruptFile),
    (
        "llama_model_load: error loading model: tensor 'blk.2.ffn_up.weight' data is not within the file bounds, model "
        "is corrupted or incomplete",
        CorruptFile,
    ),
    ("llama_model_load: error loading model: check_tensor_dims: tensor 'blk.0.attn_k.weight' not found", CorruptFile),
    (
        "0.00.004.1 E llama_model_load: error loading model: error loading model hyperparameters: key "
        "llama.rope.dimension_count has wrong type str but expected type u32",
        CorruptFile,
    ),
    (
        "llama_model_load: error loading model: error loading model hyperparameters: key llama.attention.head_count "
        "has wrong array length; expected 2, got 600",
        CorruptFile,
    ),
    ("error loading model: error loading model hyperparameters: invalid n_rot: 8, expected 16", CorruptFile),
    ("error loading model vocabulary: Index out of array bounds for toktypes (1 < 481)", CorruptFile),
    (
        "llama_model_load: error loading model: error loading model hyperparameters: key not found in model: "
        "llama.block_count",
        CorruptFile,
    ),
    ("gguf_init_from_file: failed to open GGUF file '/m/gone.gguf' (No such file or directory)", ModelNotFound),
    ("gguf_init_from_file: failed to open GGUF file '/m/mine.gguf' (Permission denied)", StorageFailed),
    ("gguf_read_emplace_helper: encountered bad_alloc error while reading value for key 'x'", HostOutOfMemory),
    ("llama_model_load: error loading model: mmap failed: Cannot allocate memory", HostOutOfMemory),
    ("llama_model_load: error loading model: unable to allocate CPU buffer", HostOutOfMemory),
    ("ggml_aligned_malloc: insufficient memory (attempted to allocate  98.25 MB)", HostOutOfMemory),
    ("/llama.cpp/ggml/src/ggml.c:1644: GGML_ASSERT(ctx->mem_buffer != NULL) failed", HostOutOfMemory),
    ("  what():  Resource temporarily unavailable", HostOutOfMemory),
    ("error creating backtrace: mmap: 12", HostOutOfMemory),
    ("llama_init_from_model: quantized V cache was requested, but this requires Flash Attention", InvalidSetting),
    ("error: invalid argument: --no-such-flag", InvalidSetting),
    ("llama_prepare_model_devices: invalid value for main_gpu: 3 (available devices: 1)", InvalidSetting),
    ("request (900 tokens) exceeds the available context size (512 tokens), try increasing it", ContextTooLong),
    ("srv  start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8080", PortTaken),
]
GPU: list[tuple[str, type[AppError]]] = [
    (
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 144817.04 MiB on device 0: cudaMalloc failed: out of "
        "memory",
        DeviceOutOfMemory,
    ),
    ("alloc_tensor_range: failed to allocate CUDA0 buffer of size 151851674624", DeviceOutOfMemory),
    ("llama_model_load: error loading model: unable to allocate CUDA0 buffer", DeviceOutOfMemory),
    ("CUDA error: out of memory", DeviceOutOfMemory),
    ("CUDA error 2 at /data/llama.cpp/ggml-cuda.cu:5509: out of memory", DeviceOutOfMemory),
    ("ggml_vulkan: Device memory allocation of size 118497280 failed.", DeviceOutOfMemory),
    ("ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory", DeviceOutOfMemory),
    ("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 3.31 GiB. GPU 0 has a total", DeviceOutOfMemory),
    ("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.70 GiB.", DeviceOutOfMemory),
    ("RuntimeError: MPS backend out of memory (MPS allocated: 8.00 GB)", DeviceOutOfMemory),
    ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", DeviceOutOfMemory),
    ("CUDA error 35 at /x/ggml-cuda.cu:5067: CUDA driver version is insufficient for CUDA runtime", IncompatibleDriver),
    ("RuntimeError: The NVIDIA driver on your system is too old (found version 11040).", IncompatibleDriver),
    ("RuntimeError: Found no NVIDIA driver on your system.", IncompatibleDriver),
    ("RuntimeError: No CUDA GPUs are available", IncompatibleDriver),
    ("CUDA error: no kernel image is available for execution on the device", BrokenPackage),
    ("ROCm error: no kernel image is available for execution on the device", BrokenPackage),
    ("ROCm error: device kernel image is invalid", BrokenPackage),
    ("hipErrorNoBinaryForGpu: Unable to find code object for all current devices!", BrokenPackage),
    ("OSError: libcuda.so.1: cannot open shared object file: No such file or directory", IncompatibleDriver),
    ("OSError: libcudart.so.12: cannot open shared object file: No such file or directory", BrokenPackage),
    ("CUDA error: an illegal memory access was encountered", EngineCrashed),
    ("terminate called after throwing an instance of 'vk::DeviceLostError'", EngineCrashed),
]
PYTHON: list[tuple[str, type[AppError]]] = [
    ("ModuleNotFoundError: No module named 'torch'", MissingPackage),
    (
        "ImportError: Using `bitsandbytes` 4-bit quantization requires bitsandbytes: `pip install -U bitsandbytes`",
        MissingPackage,
    ),
    ("ImportError: Loading a TorchAo model requires torchao library, which is not installed", MissingPackage),
    ("OSError: libllama.so: undefined symbol: ggml_backend_reg_count", BrokenPackage),
    ("OSError: /lib/libm.so.6: version `GLIBC_2.38' not found (required by /x/libggml.so)", BrokenPackage),
    ("ImportError: cannot import name 'Cache' from 'transformers'", BrokenPackage),
    ("ImportError: DLL load failed while importing _C: The specified module could not be found.", BrokenPackage),
    ("OSError: /x/libctransformers.so: invalid ELF header", BrokenPackage),
    ("ImportError: a reason of its own", BrokenPackage),
    ("Illegal instruction (core dumped)", BrokenPackage),
    ("cannot run /x/llamafile: Permission denied (errno 13)", BrokenPackage),
    ("MemoryError", HostOutOfMemory),
    ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 36.0 KiB for an array", HostOutOfMemory),
    ("RuntimeError: can't start new thread", HostOutOfMemory),
    ("ImportError: /x/_sqlite3.so: failed to map segment from shared object", HostOutOfMemory),
    ("/x/libctransformers.so: cannot map zero-fill pages", HostOutOfMemory),
    ("OpenBLAS error: Memory allocation still failed after 10 retries, giving up.", HostOutOfMemory),
    ("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory", HostOutOfMemory),
    ("GGML_ASSERT: /x/models/ggml/llama.cpp:453: data", HostOutOfMemory),
    ("OSError: [Errno 28] No space left on device", StorageFailed),
    ("OSError: [Errno 30] Read-only file system: '/tmp/x'", StorageFailed),
    ("FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp']", StorageFailed),
    ("OSError: [Errno 24] Too many open files", StorageFailed),
    ("PermissionError: [Errno 13] Permission denied: '/m/model.gguf'", StorageFailed),
    ("OSError: [Errno 5] Input/output error", StorageFailed),
    ("OSError: [Errno 98] Address already in use", PortTaken),
    ("SafetensorError: Error while deserializing header: HeaderTooLarge", CorruptFile),
    ("SafetensorError: Error while deserializing header: MetadataIncompleteBuffer", CorruptFile),
    ("ValueError: GGUF model with architecture rwkv7 is not supported yet.", UnsupportedArchitecture),
    (
        "ValueError: The checkpoint you are trying to load has model type `neo` but Transformers does not recognize "
        "this architecture.",
        UnsupportedArchitecture,
    ),
    ("ValueError: 99 is not a valid GGMLQuantizationType", UnsupportedQuantization),
    ("ValueError: Tokenizer class Grok1Tokenizer does not exist or is not currently imported.", UnsupportedTokenizer),
    ("OSError: Error no file named model.safetensors found in directory /m", UnsupportedFormat),
]


@pytest.mark.parametrize(("line", "kind"), LLAMA_CPP + GPU + PYTHON, ids=lambda value: str(value)[:60])
def test_a_line_names_the_error(line: str, kind: type[AppError]) -> None:
    error = explain_lines("Engine", "load the model", ["loaded meta data", "....", line + "\n", "failed to load model"])
    assert type(error) is kind
    assert line in error.evidence
    assert "...." not in error.evidence
    assert error.cause and "{" not in error.message
    assert type(typed("Engine", [line], dead=True)) is kind


@pytest.mark.parametrize(
    "line",
    [
        "warning: failed to mlock 98304-byte buffer (after previously locking 0 bytes): Cannot allocate memory",
        "ggml_cuda_host_malloc: failed to allocate 64.00 MiB of pinned memory: out of memory",
        "compute buffer allocation failed, retrying without pipeline parallelism",
        "UserWarning: CUDA initialization: The NVIDIA driver on your system is too old",
        "print_info: rope_finetuned        = unknown",
        "llama_init_from_model: enabling flash_attn since it is required for quantized V cache",
        "common_param: common_params_print_info: build 0 (unknown) with GNU 10.2.1 for Linux x86_64",
        "llama_context: n_ctx_seq (768) < n_ctx_train (8192) -- the full capacity of the model will not be utilized",
    ],
)
def test_a_line_that_only_warns_names_nothing(line: str) -> None:
    assert typed("Engine", [line]) is None


def test_a_driver_that_an_engine_goes_on_without_explains_a_refusal_and_no_death() -> None:
    line = "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version"
    assert isinstance(typed("Engine", [line]), IncompatibleDriver)
    memory = "ggml_aligned_malloc: insufficient memory (attempted to allocate 98.25 MB)"
    assert isinstance(typed("Engine", [line, memory]), HostOutOfMemory)


def test_a_quiet_engine_dies_of_nothing_known() -> None:
    death = explain_exit("Engine", -11, ["ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device"])
    assert type(death) is EngineCrashed


def test_a_line_of_megabytes_is_read_as_far_as_it_matters() -> None:
    """An engine quotes a damaged header whole: a search that takes the square of its length would never end."""
    line = "llama_model_load: error loading model: unknown model architecture: '" + "x" * 2_000_000 + "'"
    used = time.process_time()
    error = explain_lines("Engine", "load the model", [line] * 3)
    explain_exit("Engine", -6, [line] * 3)
    assert time.process_time() - used < 5
    assert isinstance(error, EngineRefused | UnsupportedArchitecture)


def test_the_name_the_engine_does_not_know_is_told() -> None:
    error = explain_lines("Engine", "load the model", ["unknown model architecture: 'future'"])
    assert "future" in error.message and "Engine" in error.message
    missing = explain_lines("Engine", "start", ["ModuleNotFoundError: No module named 'llama_cpp.lib'"])
    assert missing.facts["package"] == "llama_cpp"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.EIO, errno.EACCES])
def test_what_the_system_refuses_is_storage(number: int) -> None:
    error = explain_exception("Engine", "load the model", OSError(number, os.strerror(number), "/x"))
    assert type(error) is StorageFailed


def test_an_exception_is_read_to_its_root() -> None:
    def broken() -> None:
        try:
            raise MemoryError
        except MemoryError as root:
            raise ValueError("the weights could not be read") from root

    with pytest.raises(ValueError, match="weights") as caught:
        broken()
    error = explain_exception("Engine", "load the model", caught.value)
    assert type(error) is HostOutOfMemory
    assert any("ValueError" in line for line in error.evidence)


def test_the_unknown_says_so() -> None:
    error = explain_lines("Engine", "load the model", ["something nobody has seen before"])
    assert type(error) is EngineRefused
    assert "for a reason this app does not know" in error.message
    assert error.evidence == ("something nobody has seen before",)
    assert error.facts == {"unknown": True}
    told = explain_exception("Engine", "answer", RuntimeError("the moon"))
    assert "the moon" in told.message and told.facts["unknown"]


def test_a_library_that_does_not_come_up_is_broken() -> None:
    assert type(import_failure("Engine", ModuleNotFoundError("No module named 'x'"))) is MissingPackage
    assert type(import_failure("Engine", RuntimeError("something odd"))) is BrokenPackage


def test_the_telling_line_is_among_the_evidence_however_much_follows() -> None:
    lines = [f"before {n}" for n in range(50)] + ["std::bad_alloc"] + [f"after {n}" for n in range(300)]
    error = typed("Engine", lines, dead=True)
    assert error is not None
    assert "std::bad_alloc" in error.evidence
    assert error.evidence[-1] == "after 299"
    assert len(error.evidence) <= EVIDENCE_LINES


def test_a_kill_for_memory_is_told_from_any_other() -> None:
    proven = explain_exit("Engine", -9, ["at work"], killed_for_memory=True)
    assert type(proven) is HostOutOfMemory
    assert proven.facts["signal"] == "SIGKILL"
    assert type(explain_exit("Engine", -9, ["at work"])) is EngineCrashed


def test_a_program_that_a_shell_cannot_run_is_broken() -> None:
    assert type(explain_exit("Engine", 127, ["sh: engine: not found"])) is BrokenPackage


def test_windows_says_signals_in_numbers() -> None:
    assert explain_exit("Engine", 0xC0000005, []).facts["signal"] == "SIGSEGV"
    assert type(explain_exit("Engine", 0xC000001D, [])) is BrokenPackage


def test_a_limit_of_ours_is_named_and_no_other() -> None:
    lack = explain_exit("Engine", -6, ["std::bad_alloc"])
    limited = name_limit("Engine", lack, 512 << 20)
    assert "512 MiB" in limited.message and "worker_memory_mib" in limited.hint
    killed = explain_exit("Engine", -9, [], killed_for_memory=True)
    assert "512" not in name_limit("Engine", killed, 512 << 20).message
