"""Questions that were written down and read back are answered as they were, also after everything private went out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planning.situations import GIB, LLAMA_8B, situation
from tests.planning.test_recovery_properties import FAILURES, situations
from webui.diagnostics.redaction import Private, Redactor
from webui.errors import EngineCrashed, EngineRefused
from webui.loaders import LOADERS
from webui.loaders.contract import Availability
from webui.planning.decisions import (
    Decision,
    LadderQuestion,
    PlanQuestion,
    RankingQuestion,
    candidate_to_dict,
    chosen_to_dict,
    decide,
    decisions_from_dict,
    decisions_to_dict,
)
from webui.planning.evidence import Engines, Evidence
from webui.planning.plan import GpuRoom, Machine, Measured
from webui.planning.planner import Extras, Question
from webui.planning.recovery import GiveUp, Situation, Tried
from webui.planning.speed import Speed

HOME = "/home/marguerite"
REDACTOR = Redactor(Private(folders=((HOME, "~"),), users=("marguerite",)))
MINE = replace(LLAMA_8B, path=Path(HOME) / "big.gguf", files=(Path(HOME) / "big.gguf",))
PRIVATE = EngineRefused(f"It refuses {HOME}/big.gguf.", cause=f"{HOME}/big.gguf of marguerite", facts={"at": HOME})


def climbed(start: Situation, data: st.DataObject) -> list[Decision]:
    """A climb in which whatever is tried fails, with memory that comes and goes, and a restart at its end."""
    decisions: list[Decision] = []
    now = start
    for _ in range(data.draw(st.integers(1, 6))):
        room = data.draw(st.one_of(st.none(), st.integers(0, 64 * GIB)))
        now = replace(now, host_available=room, elapsed_seconds=now.elapsed_seconds + 1.5)
        decisions.append(decide(LadderQuestion(now)))
        chosen = decisions[-1].chosen
        if isinstance(chosen, GiveUp):
            return decisions
        now = replace(now, tried=(*now.tried, Tried(chosen, data.draw(st.sampled_from([*FAILURES, PRIVATE])), 0.5)))
    stood = replace(now, tried=(*now.tried[:-1], replace(now.tried[-1], error=None)))
    death = EngineCrashed("It crashed (SIGSEGV).", signal="SIGSEGV")
    return [*decisions, decide(LadderQuestion(stood, death, data.draw(st.integers(1, 5))))]


def through(content: Any) -> Any:
    """As it comes out of a bundle."""
    text = json.dumps(REDACTOR.value(content))
    assert "marguerite" not in text
    return json.loads(text)


def without_evidence(chosen: dict[str, Any]) -> dict[str, Any]:
    error = chosen.get("give_up")
    return chosen if error is None else {name: error[name] for name in ("code", "message", "cause", "hint")}


@given(situations(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_ladder_is_climbed_again(start: Situation, data: st.DataObject) -> None:
    decisions = climbed(replace(start, facts=replace(start.facts, path=MINE.path, files=MINE.files)), data)
    again = decisions_from_dict(through(decisions_to_dict(decisions)), LOADERS)
    assert len(again) == len(decisions)
    for one, other in zip(decisions, again, strict=True):
        recorded = without_evidence(through(chosen_to_dict(one.chosen)))
        assert without_evidence(chosen_to_dict(other.chosen)) == recorded
        assert without_evidence(chosen_to_dict(other.question.answer())) == recorded


@pytest.mark.parametrize("loader", ["xllamacpp", "llama-cpp-python", "transformers"])
@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_a_plan_is_made_again(loader: str, gpus: int) -> None:
    rooms = tuple(GpuRoom(place, f"Card {place}", 6 * GIB, 8 * GIB) for place in range(gpus))
    parameters = situation(loader, asked={"context_size": 16_384}).asked[loader]
    question = Question(
        MINE, LOADERS[loader], parameters, Machine(20 * GIB, 32 * GIB, rooms), Extras(1000, MINE), 12345
    )
    asked = PlanQuestion(question, None, Measured({"cpu": 5 * GIB}, 1.5))
    again = PlanQuestion.from_dict(through(asked.to_dict()), LOADERS)
    assert again.answer().to_dict() == asked.answer().to_dict()
    other = replace(again, question=replace(again.question, machine=Machine(1 * GIB, 2 * GIB)))
    assert other.answer().to_dict() != asked.answer().to_dict()


@pytest.mark.parametrize("forced", [None, "llama-cpp-python"])
def test_a_ranking_is_made_again(forced: str | None) -> None:
    asked = situation(*LOADERS).asked
    speeds = [Speed(name, asked[name], rate) for name, rate in (("xllamacpp", 10.0), ("llama-cpp-python", 17.0))]
    plans = {
        name: PlanQuestion(Question(MINE, LOADERS[name], asked[name], Machine(8 * GIB, 16 * GIB))).answer()
        for name in LOADERS
    }
    here = {name: Availability(name != "llamafile", f"in {HOME}/bin", "1.0") for name in LOADERS}
    evidence = Evidence(asked, plans, speeds, Engines({"xllamacpp": True}, True, {"ctransformers": "It ends at once."}))
    question = RankingQuestion(MINE, tuple(LOADERS), frozenset(LOADERS), forced, here, evidence)
    recorded = [through(candidate_to_dict(one)) for one in question.answer(LOADERS)]
    again = RankingQuestion.from_dict(through(question.to_dict()))
    assert [candidate_to_dict(one) for one in again.answer(LOADERS)] == recorded
    unmeasured = replace(again, evidence=replace(again.evidence, speeds=()))
    same = [candidate_to_dict(one) for one in unmeasured.answer(LOADERS)] == recorded
    assert same == (forced is not None)
