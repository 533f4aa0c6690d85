"""What the chat says while somebody waits, and how it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.errors import Busy, EngineCrashed, NotLoaded
from webui.loaders.contract import GenerationRequest, LoadedModel
from webui.models.facts import ModelFacts, ModelFormat
from webui.planning.recovery import Attempt, StepKind
from webui.pool import Job, JobState, LoadRequest, PoolState, PoolStatus, Rung
from webui.tabs.chat_words import refusal_html, waiting_html


def facts(name: str) -> ModelFacts:
    return ModelFacts(Path(f"{name}.gguf"), ModelFormat.GGUF, (), 1000, name)


LOADED = LoadedModel(64, "CPU", "cpu", "toy", "1")
LEAVING = (Rung(Attempt(StepKind.PREVIOUS_MODEL, "toy", {}), "running", 0.0),)


def queued(place: int) -> Job:
    job = Job(GenerationRequest("x"), "test")
    job.place = place
    return job


@pytest.mark.parametrize(
    ("status", "place", "said"),
    [
        (PoolStatus(PoolState.READY, facts("a"), model=LOADED), 2, "Waiting, place 2 …"),
        (PoolStatus(PoolState.LOADING, facts("a"), facts("b"), model=LOADED), 1, "Waiting, place 1 …"),
        (
            PoolStatus(PoolState.LOADING, facts("a"), facts("b"), model=LOADED, ladder=LEAVING),
            1,
            "The model is being swapped; your message is answered by the new one, b …",
        ),
        (PoolStatus(PoolState.LOADING, facts("b"), facts("b")), 1, "b is loading; your message is answered as soon as"),
        (PoolStatus(PoolState.LOADING, facts("a")), 1, "The model is starting again; your message is answered as soon"),
        (PoolStatus(PoolState.LOADING), None, "Waiting for the model to load …"),
        (PoolStatus(PoolState.READY, facts("a"), model=LOADED), None, "Preparing the prompt …"),
    ],
)
def test_who_waits_is_told_what_for(status: PoolStatus, place: int | None, said: str) -> None:
    assert said in waiting_html(status, None if place is None else queued(place))


def test_a_started_job_reads_its_prompt() -> None:
    job = queued(0)
    job.start(lambda: None)
    assert job.state is JobState.PROMPT
    assert "Reading the prompt …" in waiting_html(PoolStatus(PoolState.READY), job)


def test_a_refusal_names_the_model_s_own_failure_and_the_ways_out() -> None:
    lost = PoolStatus(PoolState.FAILED, failure=EngineCrashed("It died."), asked=LoadRequest(facts("a")))
    shown = refusal_html(lost, NotLoaded("No model is loaded."))
    assert "It died." in shown and 'data-do="load"' in shown and 'data-act="go-model"' in shown
    never = refusal_html(PoolStatus(PoolState.EMPTY), NotLoaded("No model is loaded."))
    assert "No model is loaded." in never and "data-do" not in never and 'data-act="go-model"' in never
    assert "<button" not in refusal_html(PoolStatus(PoolState.READY), Busy("The queue is full."))
