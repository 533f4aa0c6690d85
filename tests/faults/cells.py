"""The matrix: every fault × every phase × every loader, as one table that can be read.

A `Fault` says how something goes wrong and what has to come of it; a `Cell` is a fault in one phase of one loader.
Faults of three kinds: those of `tests.fakes.misbehaving`, an engine that fails on request; those that are done to a
real engine from outside; and real ones of its file, its package, its memory, its disk, its port.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from webui.loaders import LOADERS

MISBEHAVING = "misbehaving"
REAL = tuple(LOADERS)
SERVERS = ("llamafile",)
"""Loaders whose engine is a process of its own behind the worker."""
MAPPING = ("ctransformers", "llamafile", "xllamacpp", "llama-cpp-python")
"""Loaders whose engine maps the file: what is cut off there is a bus error here."""


class Phase(StrEnum):
    """When it goes wrong. `LOAD` is into an empty pool, `SWAP` is with a model there that has to stay."""

    START = "start"
    IMPORT = "import"
    LOAD = "load"
    SWAP = "swap"
    CANARY = "canary"
    FIRST_TOKEN = "first_token"
    MID_STREAM = "mid_stream"
    IDLE = "idle"
    UNLOAD = "unload"


LOADING = frozenset({Phase.START, Phase.IMPORT, Phase.LOAD, Phase.SWAP, Phase.CANARY})
REPLYING = frozenset({Phase.FIRST_TOKEN, Phase.MID_STREAM})


class Kind(StrEnum):
    """Who brings the fault about."""

    ENGINE = "the engine itself"
    SIGNAL = "a signal from outside"
    FILE = "the model's file"
    PACKAGE = "the engine's package"
    REQUEST = "what was asked"
    MEMORY = "a limit on memory"
    DISK = "a disk that takes nothing"
    PORT = "a port that is taken"


@dataclass(frozen=True)
class Fault:
    """One way to go wrong. `code` is the error it has to become, empty where it must not matter at all.

    `codes` are the phases in which it is another one; `facts` must be among the error's facts. After a `silent` fault
    there is nothing but time to tell it by. After a `lost` one a running model is given up: to load it again as it was
    would fail again.
    """

    name: str
    kind: Kind
    code: str
    phases: tuple[Phase, ...]
    loaders: tuple[str, ...] = REAL
    facts: dict[str, object] = field(default_factory=dict)
    codes: dict[Phase, str] = field(default_factory=dict)
    silent: bool = False
    lost: bool = False

    def expected(self, phase: Phase) -> str:
        """The error's code in `phase`. Whatever an engine does while it is unloaded must not matter."""
        return self.codes.get(phase, "" if phase is Phase.UNLOAD else self.code)


@dataclass(frozen=True)
class Cell:
    loader: str
    phase: Phase
    fault: Fault

    @property
    def id(self) -> str:
        return f"{self.loader}-{self.phase}-{self.fault.name}"


HEAVY = frozenset({"transformers"})
"""Loading them takes seconds of a processor: `SIGKILL` strikes them in each phase, other faults in one while they load
and in one afterwards."""
_LIGHT = tuple(name for name in REAL if name not in HEAVY)
_ALL = tuple(Phase)
_INSIDE = tuple(phase for phase in Phase if phase is not Phase.START)
_ASKED = tuple(phase for phase in _INSIDE if phase is not Phase.IDLE)
"""Where an engine is asked for something, and can raise: not while it is idle."""
_WORKING = tuple(phase for phase in _ASKED if phase is not Phase.UNLOAD)
_OUTSIDE = tuple(phase for phase in Phase if phase is not Phase.IMPORT)
_HANGS = dict.fromkeys((Phase.START, Phase.IMPORT, Phase.LOAD, Phase.SWAP), "timed_out")
_LIFE = (Phase.LOAD, Phase.MID_STREAM, Phase.IDLE)
"""One phase of each sort."""


def _engine(
    name: str,
    code: str,
    phases: tuple[Phase, ...],
    *,
    codes: dict[Phase, str] | None = None,
    silent: bool = False,
    lost: bool = False,
    **facts: object,
) -> Fault:
    return Fault(name, Kind.ENGINE, code, phases, (MISBEHAVING,), facts, codes or {}, silent, lost)


def _engine_faults() -> Iterable[Fault]:
    for name in ("SIGSEGV", "SIGKILL", "SIGTERM"):
        yield _engine(name, "engine_crashed", _ALL, signal=name)
    for name in ("SIGABRT", "SIGBUS", "SIGFPE"):
        yield _engine(name, "engine_crashed", _LIFE, signal=name)
    yield _engine("SIGILL", "broken_package", _LIFE, signal="SIGILL")
    yield _engine("assertion", "engine_crashed", _ALL, signal="SIGABRT")
    yield _engine("exit-0", "engine_crashed", _ALL, exit_status=0)
    yield _engine("exit-3", "engine_crashed", _LIFE, exit_status=3)
    yield _engine("child-and-die", "engine_crashed", _ALL, signal="SIGKILL")
    yield _engine("detached-child-and-die", "engine_crashed", _LIFE, signal="SIGKILL")
    yield _engine("bad-alloc", "host_out_of_memory", _ALL, lost=True)
    yield _engine("refuse", "engine_refused", tuple(phase for phase in _ASKED if phase is not Phase.IMPORT))
    yield _engine("raise", "engine_refused", _ASKED)
    yield _engine("recursion", "engine_refused", (Phase.LOAD, Phase.MID_STREAM))
    yield _engine("thread-ends", "engine_refused", _ASKED)
    yield _engine("disk-full", "storage_failed", _ASKED)
    yield _engine("missing-library", "missing_package", (Phase.IMPORT, Phase.LOAD, Phase.SWAP, Phase.CANARY))
    yield _engine("broken-library", "broken_package", (Phase.IMPORT, Phase.LOAD, Phase.SWAP, Phase.CANARY))
    yield _engine("eat-memory", "host_out_of_memory", _WORKING)
    yield _engine("leak-memory", "host_out_of_memory", _WORKING)
    yield _engine("hang", "engine_hung", (Phase.START, *_ASKED), codes=_HANGS, silent=True)
    yield _engine("freeze", "engine_hung", _ALL, codes=_HANGS, silent=True)
    # What stands on the channel before the first message may come from Python itself: only the silence after it counts.
    yield _engine("garbage", "engine_garbled", _ALL, codes={Phase.START: "timed_out"})
    yield _engine("wrong-shape", "engine_garbled", _ALL, codes={Phase.START: "timed_out"})
    yield _engine("endless-line", "engine_garbled", _ALL)
    yield _engine("close-channel", "engine_garbled", _ALL)
    yield _engine("flood-stderr", "", _ALL)
    yield _engine("flood-stdout", "", _LIFE)
    yield _engine("slow", "", _ALL)


def _signals() -> Iterable[Fault]:
    """Signals from outside to the worker of a real engine, and to the server behind it where there is one."""
    yield Fault("SIGKILL", Kind.SIGNAL, "engine_crashed", _OUTSIDE, facts={"signal": "SIGKILL"})
    yield Fault("SIGSEGV", Kind.SIGNAL, "engine_crashed", _OUTSIDE, facts={"signal": "SIGSEGV"})
    yield Fault("SIGTERM", Kind.SIGNAL, "engine_crashed", _LIFE, _LIGHT, facts={"signal": "SIGTERM"})
    yield Fault("SIGSTOP", Kind.SIGNAL, "engine_hung", _OUTSIDE, codes=_HANGS, silent=True)
    behind = tuple(phase for phase in _OUTSIDE if phase not in (Phase.START, Phase.UNLOAD))
    for name in ("SIGSEGV", "SIGKILL"):
        yield Fault(f"server-{name}", Kind.SIGNAL, "engine_crashed", behind, SERVERS)
    yield Fault("server-SIGSTOP", Kind.SIGNAL, "engine_hung", behind, SERVERS, codes=_HANGS, silent=True)


def _real_faults() -> Iterable[Fault]:
    """What really happens to files, packages, memory, disks and ports."""
    loads = (Phase.LOAD, Phase.SWAP)
    later = (Phase.MID_STREAM, Phase.IDLE)
    yield Fault("truncated", Kind.FILE, "corrupt_file", loads)
    yield Fault("truncated-after-inspection", Kind.FILE, "corrupt_file", loads)
    yield Fault("bit-flipped", Kind.FILE, "corrupt_file", loads)
    yield Fault("bit-flipped-after-inspection", Kind.FILE, "corrupt_file", (Phase.LOAD,))
    yield Fault("removed-before-load", Kind.FILE, "model_not_found", (Phase.LOAD,))
    yield Fault("removed", Kind.FILE, "", later)
    yield Fault("removed-then-killed", Kind.FILE, "engine_crashed", later, lost=True)
    yield Fault("emptied", Kind.FILE, "corrupt_file", later, MAPPING, lost=True)
    yield from _strange_files()
    yield Fault("prompt-too-long", Kind.REQUEST, "context_too_long", (Phase.FIRST_TOKEN,))
    yield Fault("missing", Kind.PACKAGE, "missing_package", loads)
    yield Fault("vanished", Kind.PACKAGE, "missing_package", loads, tuple(name for name in REAL if name not in SERVERS))
    yield Fault("broken", Kind.PACKAGE, "broken_package", loads)
    yield Fault("rlimit", Kind.MEMORY, "host_out_of_memory", loads)
    yield Fault("full-disk", Kind.DISK, "", (Phase.LOAD, Phase.MID_STREAM, Phase.IDLE))
    yield Fault("read-only-home", Kind.DISK, "", (Phase.LOAD, Phase.MID_STREAM, Phase.IDLE))
    yield Fault("port-taken-once", Kind.PORT, "", loads, SERVERS)
    yield Fault("port-taken", Kind.PORT, "port_taken", loads, SERVERS)


def _strange_files() -> Iterable[Fault]:
    """Files that are whole, and not what an engine knows: it says so itself, or its file is judged before it starts."""
    load = (Phase.LOAD,)
    modern = tuple(name for name in REAL if name != "ctransformers")
    yield Fault("unknown-architecture", Kind.FILE, "unsupported_architecture", (Phase.SWAP,))
    yield Fault("unknown-architecture-after-inspection", Kind.FILE, "unsupported_architecture", load, modern)
    yield Fault("unknown-tokenizer", Kind.FILE, "unsupported_tokenizer", (Phase.SWAP,))
    yield Fault("unknown-tokenizer-after-inspection", Kind.FILE, "unsupported_tokenizer", load, modern)
    yield Fault("unknown-quantization", Kind.FILE, "unsupported_quantization", (Phase.SWAP,), MAPPING)
    told = tuple(name for name in MAPPING if name in modern)
    yield Fault("unknown-quantization-after-inspection", Kind.FILE, "unsupported_quantization", load, told)
    yield Fault("missing-tensor", Kind.FILE, "corrupt_file", (Phase.LOAD, Phase.SWAP), modern)
    # The oldest engine gives no reason, and computes with whatever it reads.
    old = ("ctransformers",)
    yield Fault("missing-tensor", Kind.FILE, "engine_refused", (Phase.LOAD, Phase.SWAP), old)
    yield Fault("unknown-architecture-after-inspection", Kind.FILE, "engine_refused", load, old)
    crash = {"signal": "SIGFPE"}
    yield Fault("unknown-quantization-after-inspection", Kind.FILE, "engine_crashed", load, old, crash)


FAULTS: tuple[Fault, ...] = (*_engine_faults(), *_signals(), *_real_faults())


def _phases(fault: Fault, loader: str) -> tuple[Phase, ...]:
    """The phases in which `fault` strikes `loader`."""
    if loader not in HEAVY or fault.name == "SIGKILL":
        return fault.phases
    loading = [phase for phase in fault.phases if phase in LOADING]
    later = [phase for phase in fault.phases if phase not in LOADING]
    wanted = (Phase.LOAD, Phase.MID_STREAM)
    return tuple(next((phase for phase in group if phase in wanted), group[0]) for group in (loading, later) if group)


CELLS: tuple[Cell, ...] = tuple(
    Cell(loader, phase, fault) for fault in FAULTS for loader in fault.loaders for phase in _phases(fault, loader)
)
BY_ID: dict[str, Cell] = {cell.id: cell for cell in CELLS}
