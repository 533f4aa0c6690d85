"""Decisions as values: what a plan, a ranking or a step of the ladder was decided from, to be decided again elsewhere.

Each question can be written as plain JSON types and read back. Asked again with the same loaders it gives the same
answer, whatever the machine: nothing here looks at one. Reading raises `KeyError`, `TypeError` or `ValueError` for
anything that writing does not give.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from webui.errors import AppError, UnsupportedFormat
from webui.loaders.contract import Availability, LoaderSpec
from webui.loaders.llama_log import EnginePlan
from webui.models.facts import ModelFacts, facts_from_dict, facts_to_dict
from webui.planning.alternatives import plan
from webui.planning.evidence import Engines, Evidence
from webui.planning.plan import Machine, Measured, MemoryPlan
from webui.planning.planner import Extras, Question
from webui.planning.recovery import (
    Attempt,
    Bounds,
    GiveUp,
    Known,
    Situation,
    StepKind,
    Tried,
    next_attempt,
    restart_attempt,
)
from webui.planning.selection import Candidate, rank
from webui.planning.speed import Speed

Plain = dict[str, Any]
Loaders = Mapping[str, LoaderSpec]


@dataclass(frozen=True, slots=True)
class PlanQuestion:
    """A load to be planned, with what its engine said of it and what the last load like it took."""

    question: Question
    engine: EnginePlan | None = None
    measured: Measured | None = None

    def answer(self) -> MemoryPlan:
        return replace(plan(self.question, self.engine), measured=self.measured)

    def to_dict(self) -> Plain:
        asked = self.question
        return {
            "facts": facts_to_dict(asked.facts),
            "loader": asked.spec.name,
            "parameters": plain(dict(asked.parameters)),
            "machine": _dump(Machine, asked.machine),
            "extras": _dump(Extras, asked.extras),
            "corrected": asked.corrected,
            "engine": None if self.engine is None else _dump(EnginePlan, self.engine),
            "measured": None if self.measured is None else _dump(Measured, self.measured),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], loaders: Loaders) -> PlanQuestion:
        return cls(
            Question(
                facts_from_dict(data["facts"]),
                loaders[data["loader"]],
                dict(data["parameters"]),
                _load(Machine, data["machine"]),
                _load(Extras, data["extras"]),
                int(data["corrected"]),
            ),
            None if data["engine"] is None else _load(EnginePlan, data["engine"]),
            None if data["measured"] is None else _load(Measured, data["measured"]),
        )


@dataclass(frozen=True, slots=True)
class RankingQuestion:
    """Which loader is to open `facts`. `enabled` are those that may be chosen by themselves; see `selection.rank`."""

    facts: ModelFacts
    order: tuple[str, ...]
    enabled: frozenset[str]
    forced: str | None
    availability: Mapping[str, Availability]
    evidence: Evidence = field(default_factory=Evidence)

    def answer(self, loaders: Loaders) -> tuple[Candidate, ...]:
        unknown = Availability(False, "it was not there when this was recorded")
        return rank(
            self.facts,
            loaders,
            order=self.order,
            enabled=lambda name: name in self.enabled,
            forced=self.forced,
            availability=lambda spec, of: self.availability.get(spec.name, unknown),
            evidence=self.evidence,
        )

    def to_dict(self) -> Plain:
        known = self.evidence
        return {
            "facts": facts_to_dict(self.facts),
            "order": list(self.order),
            "enabled": sorted(self.enabled),
            "forced": self.forced,
            "availability": {name: asdict(one) for name, one in self.availability.items()},
            "evidence": {
                "asked": {name: plain(dict(values)) for name, values in known.asked.items()},
                "plans": {name: _dump(MemoryPlan, one) for name, one in known.plans.items()},
                "speeds": [_dump(Speed, one) for one in known.speeds],
                "engines": _dump(Engines, known.engines),
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RankingQuestion:
        known = data["evidence"]
        evidence = Evidence(
            {name: dict(values) for name, values in known["asked"].items()},
            {name: _load(MemoryPlan, one) for name, one in known["plans"].items()},
            tuple(_load(Speed, one) for one in known["speeds"]),
            _load(Engines, known["engines"]),
        )
        return cls(
            facts_from_dict(data["facts"]),
            tuple(map(str, data["order"])),
            frozenset(map(str, data["enabled"])),
            data["forced"],
            {name: Availability(**one) for name, one in data["availability"].items()},
            evidence,
        )


@dataclass(frozen=True, slots=True)
class LadderQuestion:
    """What to try next: after the failures of `situation`, or for a running model that died for the `deaths`th time."""

    situation: Situation
    death: AppError | None = None
    deaths: int = 0

    def answer(self) -> Attempt | GiveUp:
        if self.death is not None:
            return restart_attempt(self.situation, self.death, self.deaths)
        return next_attempt(self.situation)


@dataclass(frozen=True, slots=True)
class Decision:
    """A question to the ladder, and what was decided."""

    question: LadderQuestion
    chosen: Attempt | GiveUp


def decide(question: LadderQuestion) -> Decision:
    return Decision(question, question.answer())


def decisions_to_dict(decisions: Sequence[Decision]) -> Plain:
    """The decisions of one climb, at least one: what they have in common is written once."""
    base = decisions[0].question.situation
    tried: list[Plain] = []
    asked = [_asked_to_dict(one, tried) for one in decisions]
    return {
        "facts": facts_to_dict(base.facts),
        "candidates": [candidate_to_dict(one) for one in base.candidates],
        "asked": {name: plain(dict(values)) for name, values in base.asked.items()},
        "known": [plain(asdict(one)) for one in base.known],
        "forced": base.forced,
        "fallback": base.fallback,
        "bounds": asdict(base.bounds),
        "tried": tried,
        "decisions": asked,
    }


def decisions_from_dict(data: Mapping[str, Any], loaders: Loaders) -> list[Decision]:
    """The inverse. A loader that is not among `loaders` raises `KeyError`."""
    base = Situation(
        facts_from_dict(data["facts"]),
        {name: loaders[name] for name in data["asked"]},
        [_candidate(one) for one in data["candidates"]],
        {name: dict(values) for name, values in data["asked"].items()},
        known=[Known(**one) for one in data["known"]],
        forced=bool(data["forced"]),
        fallback=bool(data["fallback"]),
        bounds=_load(Bounds, data["bounds"]),
    )
    tried = [_tried(one) for one in data["tried"]]
    return [_decision(one, base, tried) for one in data["decisions"]]


def candidate_to_dict(candidate: Candidate) -> Plain:
    return {**asdict(candidate), "error": candidate.error.code}


def chosen_to_dict(chosen: Attempt | GiveUp) -> Plain:
    """A step as plain JSON types; of giving up, the error."""
    if isinstance(chosen, GiveUp):
        return {"give_up": plain(chosen.error.to_dict())}
    return plain({**asdict(chosen), "kind": chosen.kind.value})


def plain(content: Mapping[str, Any]) -> Plain:
    """`content` as JSON types; what is none of them becomes text."""
    known: Plain = json.loads(json.dumps(content, default=str))
    return known


def _asked_to_dict(decision: Decision, tried: list[Plain]) -> Plain:
    question, situation = decision.question, decision.question.situation
    return {
        "host_available": situation.host_available,
        "device_available": situation.device_available,
        "device_total": situation.device_total,
        "elapsed_seconds": situation.elapsed_seconds,
        "tried": [_place(one, tried) for one in situation.tried],
        "death": None if question.death is None else plain(question.death.to_dict()),
        "deaths": question.deaths,
        "chosen": chosen_to_dict(decision.chosen),
    }


def _place(one: Tried, tried: list[Plain]) -> int:
    """Where `one` stands in `tried`, into which it is put where it is new."""
    error = None if one.error is None else plain(one.error.to_dict())
    content = {"attempt": chosen_to_dict(one.attempt), "error": error, "seconds": one.seconds}
    if content not in tried:
        tried.append(content)
    return tried.index(content)


def _decision(data: Mapping[str, Any], base: Situation, tried: Sequence[Tried]) -> Decision:
    places = [int(place) for place in data["tried"]]
    if any(not 0 <= place < len(tried) for place in places):
        raise ValueError("a decision names an attempt that is not there")
    situation = replace(
        base,
        tried=tuple(tried[place] for place in places),
        host_available=data["host_available"],
        device_available=data["device_available"],
        device_total=data["device_total"],
        elapsed_seconds=float(data["elapsed_seconds"]),
    )
    death = None if data["death"] is None else AppError.from_dict(data["death"])
    return Decision(LadderQuestion(situation, death, int(data["deaths"])), _chosen(data["chosen"]))


def _tried(data: Mapping[str, Any]) -> Tried:
    error = None if data["error"] is None else AppError.from_dict(data["error"])
    return Tried(_attempt(data["attempt"]), error, float(data["seconds"]))


def _chosen(data: Mapping[str, Any]) -> Attempt | GiveUp:
    return GiveUp(AppError.from_dict(data["give_up"])) if "give_up" in data else _attempt(data)


def _attempt(data: Mapping[str, Any]) -> Attempt:
    return Attempt(
        StepKind(data["kind"]),
        str(data["loader"]),
        dict(data["parameters"]),
        dict(data["changes"]),
        str(data["reason"]),
        str(data["given_up"]),
    )


def _candidate(data: Mapping[str, Any]) -> Candidate:
    error = AppError.from_dict({"code": data["error"]})
    kind = type(error) if error.code == data["error"] else UnsupportedFormat
    return Candidate(**{**data, "error": kind})


def _dump(kind: type[Any], value: Any) -> Plain:
    dumped: Plain = _adapter(kind).dump_python(value, mode="json")
    return {name: sorted(one) if name == "instruction_sets" else one for name, one in dumped.items()}


def _load(kind: type[Any], data: Any) -> Any:
    return _adapter(kind).validate_python(data)


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return _ADAPTERS[kind]


_KINDS: Iterable[type[Any]] = (Bounds, EnginePlan, Engines, Extras, Machine, Measured, MemoryPlan, Speed)
_ADAPTERS = {kind: TypeAdapter(kind) for kind in _KINDS}
