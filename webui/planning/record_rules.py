"""What the rules of `record_advice` have in common: what they give, what they know of this machine, and their words.

A rule is a function of the record and of `Here`. It is silent where it has too little to go by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from webui.planning.record import LoadRecord, Record, ReplyRecord
from webui.planning.robust import middle

DAY_SECONDS = 86400.0
WEEKS = 30.0
"""Days that most rules look back: what was longer ago says little of now."""
LATELY = 14.0
CLOCK_SECONDS = 3600.0
"""A clock that was set right just now may have been wrong by so much."""
IN_USE = 10
"""A backend is given up when so many replies were written with others since."""
SHALLOW = 2048
"""Contexts with fewer tokens than this count as equally deep; beyond, depth doubles."""

ActKind = Literal["prefer", "restart", "load", "tune", "benchmark", "repair", "check"]


@dataclass(frozen=True, slots=True)
class Act:
    """What a button does about it: take `loader` for this model from now on, start the worker again, load with
    `parameters`, search for settings, measure, repair a backend, or look at the health of the machine.
    """

    kind: ActKind
    model: str = ""
    loader: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        if self.kind == "load":
            return "Load with " + " and ".join(_setting(name, value) for name, value in self.parameters.items())
        return {
            "prefer": f"Use {self.loader} for this model",
            "restart": "Start the worker again",
            "tune": "Find the best settings",
            "benchmark": "Measure it",
            "repair": f"See {self.loader} on the Backend tab",
            "check": "Check the health",
        }[self.kind]

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "label": self.label,
            "model": self.model,
            "loader": self.loader,
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True, slots=True)
class RecordAdvice:
    """One thing that the record shows. `about` tells it from others of the same rule, model and loader.

    `size` says how large the matter is, in the rule's own measure: what was dismissed comes back when it has grown.
    `weight` orders different rules: 3 something fails or will, 2 something is slow, 1 something could be better.
    """

    rule: str
    model: str
    loader: str
    sentence: str
    evidence: tuple[str, ...]
    act: Act | None = None
    size: float = 1.0
    weight: int = 2
    about: str = ""

    @property
    def key(self) -> str:
        return "|".join((self.rule, self.model, self.loader, self.about))

    def to_dict(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "model": self.model,
            "loader": self.loader,
            "sentence": self.sentence,
            "evidence": list(self.evidence),
            "act": self.act.to_dict() if self.act else None,
        }


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model that is loaded now; `life` is when its worker was started, as in `ReplyRecord`."""

    model: str
    loader: str
    life: float
    context: int = 0


@dataclass(frozen=True, slots=True)
class Here:
    """What holds now. `ready` are the backends that are installed and switched on, `on_gpu` those whose engine uses a
    GPU here, `with_slots` those that can write several replies at once. `gpu`: there is one that models may go to.
    `suitable` are the backends that can open a model, for the models of which that is known.
    """

    now: float
    ready: frozenset[str] = frozenset()
    gpu: bool = False
    on_gpu: frozenset[str] = frozenset()
    with_slots: frozenset[str] = frozenset()
    suitable: Mapping[str, frozenset[str]] = field(default_factory=dict)
    loaded: Loaded | None = None
    free: int | None = None
    memory: int | None = None


Rule = Callable[[Record, Here], Iterable[RecordAdvice]]
Key = tuple[str, str]
"""A model and a loader."""


def recent(records: Sequence[Any], here: Here, days: float) -> list[Any]:
    """Those of the last `days`, oldest first. A clock that was wrong made records that are yet to come: they tell
    nothing of what was last.
    """
    since = here.now - days * DAY_SECONDS
    return sorted((one for one in records if since < one.at <= here.now + CLOCK_SECONDS), key=lambda one: one.at)


def replies_of(record: Record, here: Here, days: float) -> dict[Key, list[ReplyRecord]]:
    """The replies of the last `days` by model and loader, oldest first."""
    return _grouped(recent(record.replies, here, days))


def in_use(record: Record, here: Here, days: float) -> dict[Key, list[ReplyRecord]]:
    """As `replies_of`, without backends that were given up for another one: how they are is no matter any more."""
    lately: defaultdict[str, list[str]] = defaultdict(list)
    for one in recent(record.replies, here, days):
        lately[one.under.model].append(one.under.loader)
    found = replies_of(record, here, days)
    return {(model, loader): its for (model, loader), its in found.items() if loader in lately[model][-IN_USE:]}


def loads_of(record: Record, here: Here, days: float) -> dict[Key, list[LoadRecord]]:
    return _grouped(recent(record.loads, here, days))


def alone(replies: Iterable[ReplyRecord]) -> list[ReplyRecord]:
    """Those whose speed says something: the engine wrote nothing beside them."""
    return [one for one in replies if one.speed and not one.shared and one.outcome != "failed"]


def speeds(replies: Iterable[ReplyRecord]) -> dict[Hashable, list[float]]:
    """Speeds by how deep the context was, so that like is compared with like."""
    found: defaultdict[Hashable, list[float]] = defaultdict(list)
    for one in replies:
        if one.speed:
            found[depth_class(one.depth)].append(one.speed)
    return dict(found)


def depth_class(depth: int) -> int:
    """0, 2,048, 4,096, 8,192 …: the least depth that counts as equal."""
    return 0 if depth < SHALLOW else 1 << (depth.bit_length() - 1)


def occasions(replies: Iterable[ReplyRecord]) -> int:
    """Days and lives of a worker among the replies: what was slow once may have had company."""
    return len({(one.life, int(one.at // DAY_SECONDS)) for one in replies})


def day(at: float) -> str:
    """`12 Nov`, in local time."""
    moment = datetime.fromtimestamp(at)
    return f"{moment.day} {moment:%b}"


def between(records: Sequence[LoadRecord | ReplyRecord]) -> str:
    """`3 Nov to 20 Nov`."""
    first, last = day(records[0].at), day(records[-1].at)
    return first if first == last else f"{first} to {last}"


def told(name: str, replies: Sequence[ReplyRecord]) -> str:
    """One line of evidence: `xllamacpp: 28.3 tokens/s in the median of 14 replies, 3 Nov to 20 Nov`."""
    found = middle([one.speed for one in replies if one.speed])
    speed = f"{found.value:.3g} tokens/s in the median of {found.count}" if found is not None else f"{len(replies)}"
    return f"{name}: {speed} replies, {between(replies)}"


def codes(records: Iterable[LoadRecord | ReplyRecord]) -> str:
    """`device out of memory 3, timed out 1`."""
    found: defaultdict[str, int] = defaultdict(int)
    for one in records:
        if one.outcome == "failed":
            found[one.code.replace("_", " ") or "unknown"] += 1
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{code} {number}" for code, number in ordered)


def _grouped(records: Iterable[Any]) -> dict[Key, list[Any]]:
    found: defaultdict[Key, list[Any]] = defaultdict(list)
    for one in records:
        found[one.under.model, one.under.loader].append(one)
    return dict(found)


def _setting(name: str, value: Any) -> str:
    if name == "context_size":
        return f"{value:,} tokens of context"
    if name == "gpu_layers":
        return "all layers on the GPU" if value == -1 else f"{value} layers on the GPU"
    return f"{value} {name}" if name == "slots" else f"{name} {value}"
