"""llama.cpp's server engine in the worker process, through the xllamacpp package: several jobs at once, no compiler.

The engine's completion handler is called directly, not over HTTP: it calls back per token, lets go of the interpreter
while it computes, and stops when the callback says so. Its HTTP server cannot be switched off; it listens on a loopback
port of the system's choice behind a random key, and is used for tokenising and for asking the context size.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from webui.errors import InvalidSetting, ModelNotFound
from webui.loaders.causes import explain_lines, import_failure
from webui.loaders.context_budget import ContextBudget
from webui.loaders.contract import (
    Chunk,
    Finished,
    GenerationRequest,
    LoadedModel,
    Loader,
    LoaderSpec,
    ReportProgress,
)
from webui.loaders.llama_files import judge_gguf
from webui.loaders.llama_log import read_device
from webui.loaders.llama_parameters import LlamaServerParameters, slots_of
from webui.loaders.llama_reply import SAMPLERS, Emit, Reply, messages, openai_piece, request_body
from webui.loaders.llama_server import LlamaServer
from webui.loaders.reply import check_fits
from webui.loaders.threads import choose_threads
from webui.loaders.xllamacpp_log import LogFile
from webui.models.facts import ModelFormat

TITLE = "xllamacpp"
HTTP_THREADS = 2
LOAD_VERBOSITY = 4
"""At this level the engine says where it puts the model and why it cannot; one level lower it says neither."""

QUIET_VERBOSITY = 3


class XllamacppParameters(LlamaServerParameters):
    """What this engine adds to the common parameters: nothing; the class is the loader's own place for it."""


class XllamacppLoader(Loader[XllamacppParameters]):
    """One model in `slots` slots."""

    _server: Any = None
    _http: LlamaServer
    _context_size: int
    _budget: ContextBudget

    def load(self, progress: ReportProgress) -> LoadedModel:
        progress("Importing xllamacpp", None)
        engine = _import_engine()
        parameters = engine_parameters(engine, self.parameters, self.facts.path, self.facts.context_length)
        key = secrets.token_urlsafe(24)
        parameters.api_keys = [key]
        progress("Loading the weights", None)
        with LogFile(engine, QUIET_VERBOSITY) as log:
            try:
                self._server = engine.Server(parameters)
            except RuntimeError as error:
                raise explain_lines(TITLE, "load the model", [*log.lines(), str(error)]) from None
            device = read_device(log.lines())
        self._http = LlamaServer(self._server.listening_address, key)
        self._context_size = context_size = self._http.context_size()
        slots = self.parameters.all_slots()
        self._budget = ContextBudget(context_size if self.parameters.shared_cache else context_size * slots)
        return LoadedModel(
            context_size=context_size,
            device=device.text,
            device_kind=device.kind,
            engine="xllamacpp",
            engine_version=str(engine.__version__),
            slots=slots,
            gpu_layers=device.layers,
            notes=tuple(self._notes(context_size, device.layers)),
        )

    def dry_run(self) -> None:
        """The engine has no way to stop when it has planned: it goes on with a model it has not got, and crashes."""
        engine = _import_engine()
        parameters = engine_parameters(engine, self.parameters, self.facts.path, self.facts.context_length)
        parameters.no_alloc, parameters.warmup = True, False
        parameters.load_mode = engine.llama_load_mode.LLAMA_LOAD_MODE_NONE
        with contextlib.suppress(RuntimeError):  # why it does not load the file stands in its log
            engine.Server(parameters)

    def _notes(self, context_size: int, gpu_layers: int) -> Iterator[str]:
        wanted = self.parameters.context_size
        if wanted > context_size:
            yield f"The context was cut from {wanted} to {context_size} tokens, the model's own or what fits."
        blocks = self.facts.block_count
        if self.parameters.gpu_layers < 0 and blocks is not None and 0 < gpu_layers <= blocks:
            yield f"{gpu_layers} of {blocks + 1} layers fit into the GPU's memory; the others run on the CPU."

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        return self._http.tokenize(text, add_bos=add_bos)

    def generate(self, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        tokens = self.tokenize(request.prompt, add_bos=True)
        check_fits(len(tokens), self._context_size)
        body = {**request_body(request.sampling, self._context_size), "prompt": tokens}

        def produce(emit: Emit) -> None:
            self._server.handle_completions(body, emit)

        reply = Reply(request, SAMPLERS, len(tokens))
        with self._budget.reserve(reply.longest(self._context_size), cancelled) as held:
            pieces = (openai_piece(message) for message in messages(produce, cancelled))
            yield from reply.events(pieces, cancelled) if held else reply.never_started()

    def close(self) -> None:
        self._server = None


def _import_engine() -> Any:
    try:
        import xllamacpp
    except (ImportError, OSError, RuntimeError) as error:
        raise import_failure(TITLE, error) from error
    return xllamacpp


def engine_parameters(engine: Any, wanted: XllamacppParameters, model: Path, trained_context: int | None) -> Any:
    """The engine's own parameter object. Raises `ModelNotFound` and `InvalidSetting` for what it would choke on."""
    params = engine.CommonParams()
    params.model.path = str(model)
    slots = wanted.all_slots()
    params.n_parallel = slots
    params.kv_unified = wanted.shared_cache
    # Without a shared cache the engine divides n_ctx among the slots; ours is what one job can use.
    one = wanted.context_size or (0 if wanted.shared_cache else trained_context or 0)
    params.n_ctx = one if wanted.shared_cache else one * slots
    params.n_batch = wanted.batch_size
    params.n_ubatch = min(wanted.micro_batch_size, wanted.batch_size)
    params.flash_attn_type = engine.llama_flash_attn_type[f"LLAMA_FLASH_ATTN_TYPE_{_FLASH[wanted.flash_attention]}"]
    params.cache_type_k = engine.ggml_type[f"GGML_TYPE_{wanted.cache_type_k.upper()}"]
    params.cache_type_v = engine.ggml_type[f"GGML_TYPE_{wanted.cache_type_v.upper()}"]
    params.no_kv_offload = not wanted.offload_kv_cache
    params.swa_full = wanted.full_window_cache
    params.ctx_shift = wanted.context_shift
    params.n_cache_reuse = wanted.cache_reuse
    params.cache_ram_mib = wanted.cache_ram
    # A job that ends must not pay for copying its conversation out of the KV cache before somebody needs the room.
    params.cache_idle_slots = False
    params.numa = engine.ggml_numa_strategy[f"GGML_NUMA_STRATEGY_{_NUMA[wanted.numa]}"]
    params.load_mode = engine.llama_load_mode[f"LLAMA_LOAD_MODE_{_LOAD[wanted.use_mmap, wanted.use_mlock]}"]
    params.check_tensors = wanted.check_tensors
    params.no_extra_bufts = wanted.cpu_repacking == "off"
    params.warmup = wanted.warmup
    params.verbosity = LOAD_VERBOSITY
    params.ui = False
    # Prompts come rendered. A template that the engine's own parser cannot read must not keep the model from loading.
    params.chat_template = "chatml"
    params.use_jinja = False
    params.n_threads_http = HTTP_THREADS
    _set_processor(engine, params, wanted)
    _set_devices(engine, params, wanted)
    _set_rope(engine, params, wanted)
    _set_extra_files(engine, params, wanted)
    return params


_FLASH = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}
_NUMA = {"off": "DISABLED", "distribute": "DISTRIBUTE", "isolate": "ISOLATE", "numactl": "NUMACTL"}
_LOAD = {(True, False): "MMAP", (True, True): "MMAP_MLOCK", (False, True): "MLOCK", (False, False): "NONE"}
_ROPE = {"model": "UNSPECIFIED", "none": "NONE", "linear": "LINEAR", "yarn": "YARN"}


def _set_processor(engine: Any, params: Any, wanted: XllamacppParameters) -> None:
    threads = choose_threads(wanted.threads)
    for cpu, count in ((params.cpuparams, threads), (params.cpuparams_batch, wanted.threads_batch or threads)):
        cpu.n_threads = count
        cpu.poll = wanted.poll
        cpu.priority = engine.ggml_sched_priority[f"GGML_SCHED_PRIO_{wanted.priority.upper()}"]
        cpu.strict_cpu = wanted.cpu_strict
        if wanted.cpu_mask:
            bits = int(wanted.cpu_mask, 16)
            cpu.cpumask = [bool(bits >> core & 1) for core in range(len(cpu.cpumask))]
            cpu.mask_valid = True


def _set_devices(engine: Any, params: Any, wanted: XllamacppParameters) -> None:
    # The engine reads -1 as "choose", which fits the layers to free memory where that is allowed, and otherwise is all.
    params.n_gpu_layers = wanted.gpu_layers
    params.fit_params = wanted.fit_to_memory and wanted.gpu_layers < 0 and _has_gpu(engine)
    params.main_gpu = wanted.main_gpu
    params.split_mode = engine.llama_split_mode[f"LLAMA_SPLIT_MODE_{wanted.split_mode.upper()}"]
    shares = [float(share) for share in wanted.tensor_split.split(",") if share.strip()]
    if shares:
        room = len(params.tensor_split)
        params.tensor_split = (shares + [0.0] * room)[:room]
    params.no_op_offload = not wanted.offload_operations
    placements = [wanted.override_tensors] if wanted.override_tensors else []
    placements += [
        rf"blk\.{block}\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU" for block in range(wanted.expert_layers_on_cpu)
    ]
    if placements:
        try:
            params.tensor_buft_overrides = ",".join(placements)
        except (RuntimeError, ValueError) as error:
            raise InvalidSetting(
                f"override_tensors is {wanted.override_tensors!r}, which the engine does not understand.",
                cause=str(error),
                hint="Write pattern=device pairs separated by commas, such as ffn_.*_exps=CPU.",
            ) from error


def _has_gpu(engine: Any) -> bool:
    kinds = engine.ggml_backend_dev_type
    gpus = (kinds.GGML_BACKEND_DEVICE_TYPE_GPU, kinds.GGML_BACKEND_DEVICE_TYPE_IGPU)
    return any(device["type"] in gpus for device in engine.get_device_info())


def _set_rope(engine: Any, params: Any, wanted: XllamacppParameters) -> None:
    params.rope_scaling_type = engine.llama_rope_scaling_type[f"LLAMA_ROPE_SCALING_TYPE_{_ROPE[wanted.rope_scaling]}"]
    params.rope_freq_base = wanted.rope_freq_base
    params.rope_freq_scale = wanted.rope_freq_scale
    params.yarn_orig_ctx = wanted.yarn_original_context
    params.yarn_ext_factor = wanted.yarn_ext_factor
    params.yarn_attn_factor = wanted.yarn_attn_factor
    params.yarn_beta_fast = wanted.yarn_beta_fast
    params.yarn_beta_slow = wanted.yarn_beta_slow


def _set_extra_files(engine: Any, params: Any, wanted: XllamacppParameters) -> None:
    if wanted.draft_model:
        speculative = params.speculative
        speculative.types = [engine.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
        draft = speculative.draft
        draft.mparams.path = existing(wanted.draft_model, "draft model")
        draft.n_max = wanted.draft_max
        draft.n_min = min(wanted.draft_min, wanted.draft_max)
        draft.p_min = wanted.draft_p_min
        draft.n_gpu_layers = wanted.draft_gpu_layers
    if wanted.lora:
        adapter = engine.CommonAdapterLoraInfo(existing(wanted.lora, "LoRA adapter"), wanted.lora_scale)
        params.lora_adapters = [adapter]
    if wanted.projector:
        params.mmproj.path = existing(wanted.projector, "vision projector")
        params.mmproj_use_gpu = wanted.projector_on_gpu


def existing(path: str, what: str) -> str:
    """`path` with `~` expanded, if the file is there; `ModelNotFound` names `what` is missing otherwise."""
    found = Path(path).expanduser()
    if not found.is_file():
        raise ModelNotFound(f"The {what} {found} does not exist.", hint="Check the path on the Model tab.")
    return str(found)


SPEC = LoaderSpec(
    name="xllamacpp",
    title=TITLE,
    summary="llama.cpp's server engine from a ready-made package: several replies at once, nothing to compile.",
    parameters=XllamacppParameters,
    loader=XllamacppLoader,
    formats=frozenset({ModelFormat.GGUF}),
    devices=("cpu", "cuda", "rocm", "vulkan", "metal"),
    samplers=SAMPLERS,
    can_open=judge_gguf,
    distributions=("xllamacpp",),
    requirements="xllamacpp.txt",
    slots=slots_of,
    safe_steps=({"cpu_repacking": "off"}, {"flash_attention": "off"}),
    cpu_parameters={"gpu_layers": 0},
    logits_of_all=False,
    engine_bytes=26 * 1024 * 1024,
    token_bytes=240,
)
