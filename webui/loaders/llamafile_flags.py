"""From parameters to a server's command line, for every generation of llamafile and llama-server.

A table: each row names a parameter, the flags that have meant it over the years, and the value to write. A flag is
written only if the program's help lists it and the parameter differs from what the program does anyway; a wish that no
flag can express comes back as a note.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from webui.loaders.llama_server import Dialect
from webui.loaders.llamafile_parameters import LlamafileParameters
from webui.loaders.llamafile_program import Program
from webui.loaders.threads import choose_threads

ALL_LAYERS = 999


@dataclass(frozen=True, slots=True)
class Row:
    """`value` gives the words behind the flag for a parameter's value: a list, or None to leave the flag out."""

    parameter: str
    flags: tuple[str, ...]
    value: Callable[[Any], list[str] | None] = lambda value: [_text(value)]
    always: bool = False
    """Written even at our default, because the program's is another."""


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bare(value: Any) -> list[str] | None:
    return [] if value else None


def _bare_if_off(value: Any) -> list[str] | None:
    return None if value else []


_PRIORITY = {"low": "-1", "normal": "0", "medium": "1", "high": "2", "realtime": "3"}

ROWS: tuple[Row, ...] = (
    Row("threads_batch", ("--threads-batch", "-tb")),
    Row("batch_size", ("--batch-size", "-b"), always=True),
    Row("micro_batch_size", ("--ubatch-size", "-ub")),
    Row("cache_type_k", ("--cache-type-k", "-ctk")),
    Row("cache_type_v", ("--cache-type-v", "-ctv")),
    Row("offload_kv_cache", ("--no-kv-offload", "-nkvo"), _bare_if_off),
    Row("full_window_cache", ("--swa-full",), _bare),
    Row("context_shift", ("--context-shift",), _bare),
    Row("cache_reuse", ("--cache-reuse",)),
    Row("cache_ram", ("--cache-ram", "-cram"), always=True),
    Row("poll", ("--poll",)),
    Row("priority", ("--prio",), lambda value: [_PRIORITY[value]]),
    Row("cpu_mask", ("--cpu-mask", "-C"), lambda value: [value.lower().removeprefix("0x")]),
    Row("cpu_strict", ("--cpu-strict",), lambda value: ["1"] if value else None),
    Row("numa", ("--numa",)),
    Row("check_tensors", ("--check-tensors",), _bare),
    Row("cpu_repacking", ("--no-repack", "-nr"), lambda value: [] if value == "off" else None),
    Row("warmup", ("--no-warmup",), _bare_if_off),
    Row("fit_to_memory", ("--fit", "-fit"), lambda value: None if value else ["off"]),
    Row("main_gpu", ("--main-gpu", "-mg")),
    Row("split_mode", ("--split-mode", "-sm")),
    Row("tensor_split", ("--tensor-split", "-ts"), lambda value: [value.replace(" ", "")]),
    Row("offload_operations", ("--no-op-offload",), _bare_if_off),
    Row("expert_layers_on_cpu", ("--n-cpu-moe", "-ncmoe")),
    Row("override_tensors", ("--override-tensor", "-ot")),
    Row("rope_scaling", ("--rope-scaling",)),
    Row("rope_freq_base", ("--rope-freq-base",)),
    Row("rope_freq_scale", ("--rope-freq-scale",)),
    Row("yarn_original_context", ("--yarn-orig-ctx",)),
    Row("yarn_ext_factor", ("--yarn-ext-factor",)),
    Row("yarn_attn_factor", ("--yarn-attn-factor",)),
    Row("yarn_beta_fast", ("--yarn-beta-fast",)),
    Row("yarn_beta_slow", ("--yarn-beta-slow",)),
    Row("draft_model", ("--model-draft", "--spec-draft-model", "-md")),
    Row("projector", ("--mmproj", "-mm")),
    Row("projector_on_gpu", ("--no-mmproj-offload",), _bare_if_off),
    Row("gpu", ("--gpu",)),
    Row("device", ("--device", "-dev")),
)
"""Parameters that are one flag. Those that are several, or another one in each generation, have functions below."""

DRAFT_ROWS: tuple[Row, ...] = (
    Row("draft_max", ("--spec-draft-n-max", "--draft-max", "--draft"), always=True),
    Row("draft_min", ("--spec-draft-n-min", "--draft-min"), always=True),
    Row("draft_p_min", ("--spec-draft-p-min", "--draft-p-min"), always=True),
    Row(
        "draft_gpu_layers",
        ("--spec-draft-ngl", "--gpu-layers-draft", "-ngld"),
        lambda value: [str(_layers(value))],
        always=True,
    ),
)


def _layers(value: int) -> int:
    return ALL_LAYERS if value < 0 else value


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The arguments, how many jobs they make room for, whether those share one cache, and what could not be said."""

    arguments: tuple[str, ...]
    slots: int
    shared_cache: bool
    notes: tuple[str, ...]


def server_arguments(
    program: Program, wanted: LlamafileParameters, *, model: str | None, port: int, trained_context: int | None
) -> CommandLine:
    """The words behind `program.start`; `model` is None where the weights are inside the executable."""
    line = _Line(program)
    if program.is_llamafile:
        line.words("--server")
    if program.dialect is Dialect.V2:
        line.words("--v2", "-l", f"127.0.0.1:{port}")
    else:
        line.words("--host", "127.0.0.1", "--port", str(port))
    if name := program.has("--nobrowser"):
        line.words(name)
    if name := program.has("--no-webui", "--no-ui"):
        line.words(name)
    if model is not None:
        line.words("-m", model)
    slots, shared = _context(line, wanted, trained_context)
    line.flag("threads", ("--threads", "-t"), [str(choose_threads(wanted.threads))])
    _devices(line, wanted)
    _flash_attention(line, wanted)
    _memory(line, wanted)
    _adapters(line, wanted)
    changed = wanted.changed()
    for row in (*ROWS, *(DRAFT_ROWS if wanted.draft_model else ())):
        if row.parameter in changed or row.always:
            words = row.value(getattr(wanted, row.parameter))
            if words is not None:
                line.flag(row.parameter, row.flags, words, needed=row.parameter in changed)
    return CommandLine(tuple(line.arguments), slots, shared, tuple(line.notes))


class _Line:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.arguments: list[str] = []
        self.notes: list[str] = []

    def words(self, *words: str) -> None:
        self.arguments += words

    def flag(self, parameter: str, names: tuple[str, ...], values: list[str], *, needed: bool = False) -> None:
        """Write the first of `names` the program has; a `needed` one it does not have becomes a note."""
        if name := self.program.has(*names):
            self.words(name, *values)
        elif needed:
            self.notes.append(f"{self.program.path.name} {self.program.version} cannot set {parameter}.")


def _context(line: _Line, wanted: LlamafileParameters, trained: int | None) -> tuple[int, bool]:
    """Context and slots. Where slots do not share a cache, most generations divide the context among them."""
    program = line.program
    unified = program.has("--kv-unified", "-kvu")
    shares = bool(unified) and wanted.shared_cache
    slots = wanted.all_slots(shares_cache=bool(unified))
    if program.dialect is Dialect.V2:
        line.flag("context_size", ("--ctx-size", "-c"), [str(wanted.context_size)])
        line.flag("slots", ("--slots", "-s"), [str(slots)], needed=slots > 1)
        return slots, False
    one = wanted.context_size or (0 if shares else trained or 0)
    line.words("-c", str(one if shares else one * slots))
    if program.has("--parallel", "-np"):
        line.flag("slots", ("--parallel", "-np"), [str(slots)])
    elif slots > 1:
        line.notes.append(f"{program.path.name} {program.version} cannot run several jobs at once.")
        slots = 1
    if unified and shares:
        line.words(unified)
    elif name := program.has("--no-kv-unified"):
        line.words(name)
    return slots, shares


def _devices(line: _Line, wanted: LlamafileParameters) -> None:
    names = ("--n-gpu-layers", "--gpu-layers", "-ngl")
    fits_by_itself = line.program.has("--fit", "-fit") and wanted.fit_to_memory
    if wanted.gpu_layers >= 0:
        line.flag("gpu_layers", names, [str(wanted.gpu_layers)], needed=wanted.gpu_layers > 0)
    elif not fits_by_itself:
        line.flag("gpu_layers", names, [str(ALL_LAYERS)])


def _flash_attention(line: _Line, wanted: LlamafileParameters) -> None:
    """A switch in older programs, on | off | auto in newer ones."""
    if wanted.flash_attention == "auto":
        return
    name = line.program.has("--flash-attn", "-fa")
    if name and line.program.takes_value(name):
        line.words(name, wanted.flash_attention)
    elif wanted.flash_attention == "on":
        line.flag("flash_attention", ("--flash-attn", "-fa"), [], needed=True)


_LOAD = {(True, True): "mmap+mlock", (False, True): "mlock", (False, False): "none"}


def _memory(line: _Line, wanted: LlamafileParameters) -> None:
    """Two switches in older programs, one choice in newer ones."""
    mode = _LOAD.get((wanted.use_mmap, wanted.use_mlock))
    if mode is None:
        return
    if name := line.program.has("--load-mode"):
        line.words(name, mode)
        return
    if not wanted.use_mmap:
        line.flag("use_mmap", ("--no-mmap",), [], needed=True)
    if wanted.use_mlock:
        line.flag("use_mlock", ("--mlock",), [], needed=True)


def _adapters(line: _Line, wanted: LlamafileParameters) -> None:
    """Newer programs write path and scale as one word, path:scale; older ones as two."""
    for parameter, path, scale, plain, scaled in (
        ("lora", wanted.lora, wanted.lora_scale, "--lora", "--lora-scaled"),
        (
            "control_vector",
            wanted.control_vector,
            wanted.control_vector_scale,
            "--control-vector",
            "--control-vector-scaled",
        ),
    ):
        if not path:
            continue
        if scale == 1.0 or not line.program.has(scaled):
            line.flag(parameter, (plain,), [path], needed=True)
            if scale != 1.0:
                line.notes.append(f"{line.program.path.name} {line.program.version} cannot scale {parameter}.")
        elif f"{scaled} FNAME SCALE" in line.program.help:
            line.words(scaled, path, _text(scale))
        else:
            line.words(scaled, f"{path}:{_text(scale)}")
