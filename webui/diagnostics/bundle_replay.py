"""What a bundle holds to decide again: plans and rankings as they are now, ladders as they were climbed.

Facts of a model stand once in the whole, however many questions are about it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import webui
from webui.errors import AppError
from webui.loaders.contract import LoaderSpec
from webui.models.facts import ModelFacts, facts_from_dict
from webui.models.inspect import inspect_model, model_id
from webui.planning.decisions import (
    PlanQuestion,
    RankingQuestion,
    candidate_to_dict,
    chosen_to_dict,
    decisions_from_dict,
)
from webui.planning.plan import MemoryPlan
from webui.planning.selection import Candidate

if TYPE_CHECKING:
    from webui.context import AppContext

MOST_MODELS = 4
Plain = dict[str, Any]
Loaders = Mapping[str, LoaderSpec]


@dataclass(frozen=True, slots=True)
class Wish:
    """A model that the bundle is to speak of, loaded as it was asked for last."""

    facts: ModelFacts
    loader: str = "auto"
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Something that was decided again. `same` tells whether it came out as it was recorded.

    `kind` is "plan", "ranking" or "ladder", `about` the loader, or the step of the ladder; `problem` says why it could
    not be decided here.
    """

    kind: str
    model: str
    about: str
    recorded: Any
    again: Any
    problem: str = ""

    @property
    def same(self) -> bool:
        return not self.problem and self.recorded == self.again


# --- recording --------------------------------------------------------------------------------------------------------


def wishes(context: AppContext) -> list[Wish]:
    """The model that is loaded and those of the last loads that made trouble, the latest first. Reads the disk."""
    found: dict[Path, Wish] = {}
    for entry in context.pool.decisions():
        facts = _of_entry(entry)
        if facts is not None:
            loader = str(entry.get("asked_loader") or "auto")
            found.setdefault(facts.path, Wish(facts, loader, dict(entry.get("parameters") or {})))
    status = context.pool.status
    if status.facts is not None:
        asked = status.asked
        mine = Wish(status.facts) if asked is None else Wish(status.facts, asked.loader, dict(asked.parameters))
        found.setdefault(status.facts.path, mine)
    return list(found.values())[:MOST_MODELS]


def recorded(context: AppContext, wanted: Sequence[Wish]) -> Plain:
    """The content of replay.json."""
    table = _Table()
    return {
        "format": 1,
        "app_version": webui.__version__,
        "models": [_model(context, wish, table) for wish in wanted],
        "loads": [_load(entry, table) for entry in context.pool.decisions()],
        "facts": table.facts,
    }


def _model(context: AppContext, wish: Wish, table: _Table) -> Plain:
    parameters = wish.parameters or {}
    ranking = context.pool.ranking_question(wish.facts, wish.loader, parameters)
    candidates = ranking.answer(context.loaders)
    plans = []
    for candidate in candidates:
        if not candidate.opens:
            continue
        spec = context.loaders[candidate.loader]
        try:
            question = context.plans.question(wish.facts, spec, context.full_parameters(spec.name, parameters))
        except AppError as error:  # such as a parameter that this loader refuses
            plans.append({"loader": spec.name, "error": error.to_dict()})
            continue
        plans.append({"question": table.shared(question.to_dict()), "plan": question.answer().to_dict()})
    return {
        "model": model_id(wish.facts),
        "loader": wish.loader,
        "ranking": table.shared(ranking.to_dict()),
        "candidates": [candidate_to_dict(candidate) for candidate in candidates],
        "plans": plans,
    }


def _load(entry: Plain, table: _Table) -> Plain:
    """A load without the lines of evidence, which stand with the failures and decide nothing."""
    climbs = [table.shared(json.loads(json.dumps(climb))) for climb in entry["climbs"]]
    for climb in climbs:
        for error in _errors(climb):
            error["evidence"] = []
    return {**entry, "climbs": climbs}


def _errors(climb: Plain) -> Iterable[Plain]:
    yield from (one["error"] for one in climb["tried"] if one["error"])
    for decision in climb["decisions"]:
        yield from (error for error in (decision["death"], decision["chosen"].get("give_up")) if error)


def _of_entry(entry: Plain) -> ModelFacts | None:
    """The facts of a load as the file is now, or as it was then where it is gone or has broken meanwhile."""
    try:
        then = facts_from_dict(entry["climbs"][0]["facts"])
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    try:
        return inspect_model(then.path)
    except AppError:
        return then


class _Table:
    """Facts that were shared so far."""

    def __init__(self) -> None:
        self.facts: list[Plain] = []

    def shared(self, question: Plain) -> Plain:
        """`question` with the number of its facts in their place."""
        facts = question["facts"]
        if os.name == "nt":  # so that a name is told from its folder wherever the bundle is read
            facts = {**facts, "path": _posix(facts["path"]), "files": [_posix(file) for file in facts["files"]]}
        if facts not in self.facts:
            self.facts.append(facts)
        return {**question, "facts": self.facts.index(facts)}


def _posix(path: str) -> str:
    return path.replace("\\", "/")


# --- deciding again ---------------------------------------------------------------------------------------------------


def decided_again(content: Mapping[str, Any], loaders: Loaders) -> list[Answer]:
    """Everything of a replay.json decided with `loaders`. Raises `KeyError`, `TypeError` or `ValueError` for what is
    none.
    """
    facts = list(content["facts"])
    answers: list[Answer] = []
    for model in content["models"]:
        answers += _plans_again(model, facts, loaders)
        answers.append(_ranking_again(model, facts, loaders))
    for load in content["loads"]:
        for climb in load["climbs"]:
            answers += _ladder_again(str(load["model"]), climb, facts, loaders)
    return answers


def _with_facts(question: Mapping[str, Any], facts: Sequence[Plain]) -> Plain:
    place = question["facts"]
    if not isinstance(place, int) or not 0 <= place < len(facts):
        raise ValueError("a question is about a model that is not there")
    return {**question, "facts": facts[place]}


def _plans_again(model: Mapping[str, Any], facts: Sequence[Plain], loaders: Loaders) -> Iterable[Answer]:
    name = str(model["model"])
    for one in model["plans"]:
        if "question" not in one:
            continue
        question, loader = one["question"], str(one["question"]["loader"])

        def answer(question: Plain = question) -> Plain:
            plan: MemoryPlan = PlanQuestion.from_dict(_with_facts(question, facts), loaders).answer()
            return _json(plan.to_dict())

        yield _answer("plan", name, loader, one["plan"], answer, [loader], loaders)


def _ranking_again(model: Mapping[str, Any], facts: Sequence[Plain], loaders: Loaders) -> Answer:
    recorded_ones = list(model["candidates"])
    names = [str(one["loader"]) for one in recorded_ones]
    here = {name: loaders[name] for name in names if name in loaders}

    def answer() -> list[Plain]:
        question = RankingQuestion.from_dict(_with_facts(model["ranking"], facts))
        # In the order of the map where it was recorded: loaders that are not in the order of priority follow in it.
        known = {name: here[name] for name in question.availability if name in here}
        candidates: tuple[Candidate, ...] = question.answer(known)
        return [_json(candidate_to_dict(one)) for one in candidates]

    return _answer("ranking", str(model["model"]), "", recorded_ones, answer, names, loaders)


def _ladder_again(model: str, climb: Mapping[str, Any], facts: Sequence[Plain], loaders: Loaders) -> Iterable[Answer]:
    chosen = [one["chosen"] for one in climb["decisions"]]
    names = [str(name) for name in climb["asked"]]
    missing = _missing(names, loaders)
    decisions = [] if missing else decisions_from_dict(_with_facts(climb, facts), loaders)
    for number, before in enumerate(chosen):

        def answer(number: int = number) -> Plain:
            return _told(chosen_to_dict(decisions[number].question.answer()))

        yield _answer("ladder", model, f"step {number + 1}", _told(before), answer, names, loaders)


def _answer(
    kind: str, model: str, about: str, before: Any, decide: Callable[[], Any], names: Sequence[str], loaders: Loaders
) -> Answer:
    if missing := _missing(names, loaders):
        return Answer(kind, model, about, before, None, f"{', '.join(missing)} is not known here.")
    return Answer(kind, model, about, before, decide())


def _missing(names: Iterable[str], loaders: Loaders) -> list[str]:
    return [name for name in names if name not in loaders]


def _told(chosen: Mapping[str, Any]) -> Plain:
    """A step without what is only shown beside it."""
    if "give_up" not in chosen:
        return dict(chosen)
    error = chosen["give_up"]
    return {"give_up": {name: error[name] for name in ("code", "message", "cause", "hint")}}


def _json(content: Plain) -> Plain:
    found: Plain = json.loads(json.dumps(content, default=str))
    return found
