"""What engines, drivers and Python say when something goes wrong, and which error of the tree it proves.

One table for everything: the log of a refused load, the text of an exception, the last lines of a process that died.
The first entry that any line matches decides, so the specific stand before the general. What becomes of a finding is
`webui.loaders.causes`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from webui.errors import (
    AppError,
    BrokenPackage,
    ContextTooLong,
    CorruptFile,
    DeviceOutOfMemory,
    EngineCrashed,
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

LINE_CHARACTERS = 300
"""A line as it is quoted is not longer."""
READ_CHARACTERS = 2000
"""So much of a line is looked at: some engines print a damaged file's megabytes as one line."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """A line of an engine and what it proves. `message` may name the {title} of the loader and {what} the line names.

    A `harmless` line is also printed by engines that go on all the same: it explains a refusal that nothing else does,
    and never a death.
    """

    pattern: re.Pattern[str]
    error: type[AppError]
    message: str
    hint: str = ""
    harmless: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """The entry that decides, the place of its line, and what the line names."""

    symptom: Symptom
    place: int
    what: str


def _symptom(pattern: str, error: type[AppError], message: str, hint: str = "", *, harmless: bool = False) -> Symptom:
    return Symptom(re.compile(pattern, re.IGNORECASE), error, message, hint, harmless)


_GPU = r"(?:CUDA|HIP|ROCm|XPU|MPS|Vulkan|SYCL|Metal|MTL)"

_INSTALLATION = (
    _symptom(
        r"GLIBC(?:XX)?_[\d.]+\S* not found|CXXABI_[\d.]+\S* not found",
        BrokenPackage,
        "The installed build of {title} is made for a newer system than this one.",
        "Install a build for this system (the Backend tab compiles one where there is none), or choose another loader.",
    ),
    _symptom(
        r"libcuda\.so[\d.]*: cannot open shared object|libcuda\.so[\d.]* (?:not found|cannot be found)"
        r"|Found no NVIDIA driver",
        IncompatibleDriver,
        "{title} is built for NVIDIA GPUs and finds no NVIDIA driver here.",
        "Install the NVIDIA driver, or another build of the backend.",
    ),
    _symptom(
        r"(?P<what>[\w.+-]+\.so[\d.]*): cannot open shared object|Library not loaded: \S*?(?P<else>[\w.+-]+\.dylib)",
        BrokenPackage,
        "{title} needs the library {what}, which is not on this machine.",
    ),
    _symptom(
        r"undefined symbol: (?P<what>\w+)|cannot import name '(?P<else>\w+)'|DLL load failed"
        r"|multiarray failed to import|procedure could not be found",
        BrokenPackage,
        "The installed parts of {title} do not fit together.",
    ),
    _symptom(
        r"invalid ELF header|wrong ELF class|file too short|Exec format error|cannot execute binary file|errno 8\)"
        r"|not a valid Win32 application|incompatible architecture",
        BrokenPackage,
        "The installed build of {title} is damaged, or made for another kind of machine.",
    ),
    _symptom(
        r"illegal (?:hardware )?instruction|has no AVX|requires? AVX",
        BrokenPackage,
        "The installed build of {title} uses instructions that this machine's CPU does not have.",
        "Install a build for this CPU, or choose another loader.",
    ),
    _symptom(
        r"cannot run (?P<what>.+?): .*\(errno \d+\)",
        BrokenPackage,
        "The program {what} cannot be run.",
        "Check that it is executable (chmod +x) and made for this machine.",
    ),
    _symptom(
        r"failed to map segment from shared object: Operation not permitted|noexec",
        StorageFailed,
        "{title} lies, or unpacks itself, on a disk from which nothing may be run.",
        "Mount that disk without noexec, or point TMPDIR to another folder.",
    ),
    _symptom(
        r"No module named '(?P<what>[^']+)'|No package metadata was found for (?P<else>[\w-]+)",
        MissingPackage,
        "The package {what} is not installed, and {title} needs it.",
    ),
    _symptom(
        r"ImportError: .*?\brequires? (?:the |latest |version |of )*`?(?P<what>[A-Za-z][\w-]+)`?\b"
        r"|PackageNotFoundError: (?P<else>[\w-]+)",
        MissingPackage,
        "The package {what} is not installed, and {title} needs it for this model.",
    ),
)
_GENERAL = (_symptom(r"\bImportError: ", BrokenPackage, "{title} is installed and does not start."),)

_DRIVERS = (
    _symptom(
        r"failed to initialize " + _GPU + r"|ggml_(?:cuda|hip|vk)_init: .*(?:no |insufficient)",
        IncompatibleDriver,
        "{title} could not use the GPU: its driver does not fit.",
        harmless=True,
    ),
    _symptom(
        r"driver version is insufficient|NVIDIA driver on your system is too old|unsupported display driver"
        r"|forward compatibility was attempted|unsupported toolchain|InsufficientDriver"
        r"|Driver/library version mismatch",
        IncompatibleDriver,
        "The GPU's driver is older than {title} needs.",
    ),
    _symptom(
        r"no kernel image is available|kernel image is invalid|NoBinaryForGpu|TensileLibrary\S* .*for GPU arch"
        r"|not compatible with the current PyTorch installation",
        BrokenPackage,
        "The installed build of {title} has no code for this GPU.",
        "Install a build for this GPU, or run on the CPU.",
    ),
    _symptom(
        r"no (?:CUDA|ROCm|HIP)-capable device|no CUDA GPUs are available|Torch not compiled with CUDA enabled"
        r"|invalid device ordinal|CUDA error 100\b",
        IncompatibleDriver,
        "{title} was to use a GPU, and finds none that it can use.",
        "Set the GPU layers to 0 (the device to CPU), or check the driver.",
    ),
)

_DEVICE_MEMORY = (
    _symptom(
        _GPU + r"\S* error(?: 2 at)?\b.*out of memory|cudaMalloc failed|ErrorOutOfDeviceMemory|OUT_OF_DEVICE_MEMORY"
        r"|" + _GPU + r" (?:backend )?out of memory|CUBLAS_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation"
        r"|CUDA_ERROR_OUT_OF_MEMORY|hipErrorOutOfMemory|Device memory allocation of size \d+ failed"
        r"|unable to allocate " + _GPU + r"\d*(?!_Host)\b|allocating [\d.]+ MiB on device \d+: .*out of memory"
        r"|allocating [\d.]+ MiB on device [1-9]|failed to allocate " + _GPU + r"\d*(?!_Host)\b"
        r"|CommandBufferCallbackErrorOutOfMemory|Insufficient Memory \(0000",
        DeviceOutOfMemory,
        "The GPU's memory does not suffice for this model and context.",
    ),
    _symptom(
        r"ErrorDeviceLost|DeviceLostError|unspecified launch failure|illegal memory access|GPU has fallen off"
        r"|uncorrectable ECC error|devices? .*busy or unavailable|DevicesUnavailable|CUBLAS_STATUS_EXECUTION_FAILED",
        EngineCrashed,
        "{title}'s work on the GPU failed.",
        "Load the model again; if it fails again, use fewer GPU layers or the CPU, and check the driver.",
    ),
)

_STORAGE = (
    _symptom(
        r"No space left on device|Disk quota exceeded|\[Errno (?:28|122)\]|not enough space on the disk",
        StorageFailed,
        "A disk that {title} writes to is full.",
        "Make room on the disk that holds TMPDIR and the app's home folder, and try again.",
    ),
    _symptom(
        r"Read-only file system|\[Errno 30\]|No usable temporary directory",
        StorageFailed,
        "A folder that {title} writes to is read-only.",
        "Point TMPDIR to a folder that can be written to.",
    ),
    _symptom(
        r"Too many open files|\[Errno (?:23|24)\]",
        StorageFailed,
        "The system lets {title} open no more files.",
        "Raise the limit on open files (ulimit -n), or close other programs.",
    ),
    _symptom(
        r"Input/output error|\[Errno 5\]|Stale file handle|\[Errno 116\]",
        StorageFailed,
        "The disk with the model cannot be read.",
        "Check the disk or the network drive, and copy the file to another one.",
    ),
    _symptom(
        r"failed to open .*\(No such file|FileNotFoundError: |No such file or directory: '",
        ModelNotFound,
        "A file that {title} was to read is not there any more.",
        "Check that it was not moved or deleted, and load the model again.",
    ),
    _symptom(
        r"failed to open .*Permission denied|PermissionError|\[Errno 1?3\] Permission",
        StorageFailed,
        "A file may not be read or written by the account that runs this app.",
        "Give this account access to the file.",
    ),
    _symptom(
        r"couldn't bind|Address already in use|failed to bind|EADDRINUSE|bind failed",
        PortTaken,
        "The port that {title} was to listen on is taken by somebody else.",
    ),
)

_SETTINGS = (
    _symptom(
        r"(?<!required for )quantized V cache|V cache quantization",
        InvalidSetting,
        "A quantised value cache needs flash attention.",
        "Switch flash attention on, or set the value cache to f16.",
    ),
    _symptom(
        r"error: (?:unknown|invalid) argument: (?P<what>\S+)|error while handling argument \"(?P<else>[^\"]+)\"",
        InvalidSetting,
        "{title} does not take {what}.",
        "Correct the extra arguments among the loader's controls.",
    ),
    _symptom(
        r"invalid value for main_gpu: (?P<what>-?\d+)",
        InvalidSetting,
        "There is no GPU number {what}.",
        "Choose another main GPU among the loader's controls.",
    ),
    _symptom(
        r"exceeds the available context size|context size has been exceeded|out of context",
        ContextTooLong,
        "Prompt and reply do not fit the context.",
    ),
)

_MODELS = (
    _symptom(
        r"(?:unknown|unsupported) model architecture: '(?P<what>[^']*)'|architecture (?P<else>\S+) is not supported yet"
        r"|model type `(?P<also>[^`]*)` but Transformers does not recognize|does not recognize this architecture"
        r"|Model type '(?P<last>[^']*)' is not supported",
        UnsupportedArchitecture,
        "The installed {title} does not know the architecture {what}.",
    ),
    _symptom(
        r"trust_remote_code",
        UnsupportedArchitecture,
        "This model comes with Python code of its own, which is not trusted.",
        "Allow it among the loader's controls if you trust the model's source.",
    ),
    _symptom(
        r"unknown (?:pre-)?tokenizer(?: type)?: '(?P<what>[^']*)'|Tokenizer class (?P<else>\w+) does not exist"
        r"|unsupported vocab type|instantiate (?:the backend|this) tokenizer|cannot find tokenizer \w+ in"
        r"|untagged enum ModelUntagged",
        UnsupportedTokenizer,
        "The installed {title} does not know the model's tokenizer {what}.",
    ),
    _symptom(
        r"has invalid ggml type (?P<what>-?\d+)|(?P<else>-?\d+) is not a valid GGMLQuantizationType"
        r"|invalid tensor data type '(?P<also>\d+)'|Unknown quantization type,? got (?P<last>\S+)",
        UnsupportedQuantization,
        "The installed {title} does not know the quantisation {what} of the model's weights.",
    ),
    _symptom(
        r"GGUFv1 is no longer supported|between the host and model endianness",
        UnsupportedFormat,
        "The installed {title} does not read this form of GGUF file.",
    ),
    _symptom(r"invalid magic characters|bad (?:file )?magic", UnsupportedFormat, "The file is not a model file."),
    _symptom(
        r"no file named \S*(?:model\.safetensors|pytorch_model)",
        UnsupportedFormat,
        "The folder has no weights that {title} opens.",
    ),
    _symptom(
        r"is not within the file bounds|corrupted or incomplete|corrupted model|duplicated? tensor|invalid GGUF type"
        r"|failed to read (?:magic|header|key-value pairs|tensor info|(?:the )?tensor data)|wrong number of tensors"
        r"|missing tensor|tensor '[^']*' (?:not found|has wrong shape|has invalid data)"
        r"|unexpectedly reached end of file|invalid number of (?:elements|dimensions)|key not found in model"
        r"|key \S+ has wrong (?:type|array length)|invalid (?:n_rot|gguf type for )|out of array bounds for"
        r"|not divisible by block size|bad vocab size|SafetensorError|Error while deserializing header|HeaderTooLarge"
        r"|HeaderTooSmall|InvalidHeader|MetadataIncompleteBuffer|PytorchStreamReader|invalid load key|Ran out of input"
        r"|EOFError|JSONDecodeError|not a valid JSON file|size mismatch for |UnicodeDecodeError",
        CorruptFile,
        "The model's file is damaged or incomplete.",
    ),
)

_HOST_MEMORY = (
    _symptom(
        r"can't start new thread|\[Errno 11\]|what\(\): *Resource temporarily unavailable|pthread_create failed"
        r"|Thread creation failed",
        HostOutOfMemory,
        "{title} could start no further thread: memory, or the number of processes, is at its limit.",
    ),
    _symptom(
        r"failed to allocate|(?:unable|not able) to allocate|bad_alloc|insufficient memory|Cannot allocate memory"
        r"|not enough memory|\bMemoryError\b|can't allocate memory|Memory allocation still failed|out of host memory"
        r"|cannot map zero-fill|cannot allocate memory in static TLS|failed to map segment|mem_buffer != NULL"
        r"|GGML_ASSERT: \S+llama\.cpp:\d+: data$|mmap: 12\b|failed to mmap|ErrorOutOfHostMemory|OUT_OF_HOST_MEMORY"
        r"|paging file is too small|virtual memory exhausted|out of memory",
        HostOutOfMemory,
        "The machine's memory does not suffice for {title} with this model and context.",
    ),
)

TABLE: tuple[Symptom, ...] = (
    *_INSTALLATION,
    *_DRIVERS[1:],
    *_DEVICE_MEMORY,
    *_STORAGE,
    *_SETTINGS,
    *_HOST_MEMORY,  # before the models: a reader that gets no memory also says that it could not read the file
    *_MODELS,
    *_GENERAL,
    *_DRIVERS[:1],
)
"""Specific before general; what engines also print when all goes well comes last."""

_NOISE = re.compile(r"failed to mlock|VirtualLock|pinned memory|retrying without|warn_or_error|warning:", re.IGNORECASE)
"""Lines that look like a symptom and say that the engine goes on."""

_LAST_WORDS = re.compile(
    r"GGML_ASSERT|GGML_ABORT|Assertion .* failed|terminate called|what\(\):|double free|free\(\): |malloc\(\): "
    r"|corrupted size|stack smashing|Fatal Python error: (?!Segmentation|Aborted|Bus|Floating)|\w+(?:Error|Exception): "
    r"|: error: ",
)
_CLOCK = re.compile(r"^(?:\d+\.){3}\d+ [A-Z] +")


_HARMLESS = tuple(symptom for symptom in TABLE if symptom.harmless)


def find(lines: Sequence[str], *, dead: bool = False) -> Finding | None:
    """The entry of the table that `lines` prove, if any. `dead`: the process that said them has ended."""
    read = ((place, line[:READ_CHARACTERS]) for place, line in enumerate(lines))
    numbered = [(place, line) for place, line in read if not _NOISE.search(line)]
    telling = [(place, line) for place, line in numbered if not any(each.pattern.search(line) for each in _HARMLESS)]
    for symptom in TABLE:
        if dead and symptom.harmless:
            continue
        for place, line in numbered if symptom.harmless else telling:
            if found := symptom.pattern.search(line):
                names = [name for name in found.groupdict().values() if name]
                return Finding(symptom, place, names[0] if names else "")
    return None


def last_words(lines: Sequence[str]) -> str:
    """The last line in which a dying process says why in its own words; empty if there is none."""
    return next((said(line) for line in reversed(lines) if _LAST_WORDS.search(line[:READ_CHARACTERS])), "")


def said(line: str) -> str:
    """A line as it is quoted: without the engine's clock, of bounded length."""
    return _CLOCK.sub("", line[:READ_CHARACTERS].strip())[:LINE_CHARACTERS]
