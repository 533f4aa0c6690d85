"""What the Model tab says in each state of the pool, and which buttons it offers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.loaders import toy
from tests.tabs.stories import FACTS, KNOWN, attempt, degraded_status, failed_status, ladder
from webui.errors import Cancelled, CorruptFile, DeviceOutOfMemory, EngineCrashed
from webui.loaders.contract import LoadedModel
from webui.models.facts import ModelFacts, ModelFormat
from webui.planning.memory import MIB
from webui.planning.recovery import StepKind
from webui.planning.selection import Candidate
from webui.pool import LoadRequest, PoolState, PoolStatus, Rung
from webui.pool.status import RunningJobs
from webui.tabs.model_panel import Buttons, buttons, candidates_html, chosen_html, status_html

EVIL = "<img src=x onerror=alert(1)>"
OLD = ModelFacts(Path("/m/old.gguf"), ModelFormat.GGUF, (Path("/m/old.gguf"),), 1, "Old")
NEW = ModelFacts(Path("/m/new.gguf"), ModelFormat.GGUF, (Path("/m/new.gguf"),), 1, EVIL)
LOADED = LoadedModel(4096, "CPU", "cpu", "toy", "1", notes=(f"a note {EVIL}",))
READY = PoolStatus(PoolState.READY, facts=OLD, loader="toy", model=LOADED, load_seconds=1.5, memory_bytes=1 << 20)


@pytest.mark.parametrize(
    ("status", "chosen", "expected"),
    [
        (PoolStatus(PoolState.EMPTY), None, Buttons("Load", False, False, False)),
        (PoolStatus(PoolState.EMPTY), NEW, Buttons("Load", True, False, False)),
        (PoolStatus(PoolState.LOADING, incoming=NEW), NEW, Buttons("Load", False, True, False)),
        (READY, NEW, Buttons("Swap", True, False, True)),
        (READY, OLD, Buttons("Load again", True, False, True)),
        (READY, None, Buttons("Swap", False, False, True)),
        (replace(READY, running=1), NEW, Buttons("Swap", True, False, True, ask_running=True)),
        (PoolStatus(PoolState.FAILED, failure=EngineCrashed("x")), NEW, Buttons("Load", True, False, False)),
    ],
)
def test_buttons(status: PoolStatus, chosen: ModelFacts | None, expected: Buttons) -> None:
    assert buttons(status, chosen) == expected


def test_a_load_shows_its_step_and_share() -> None:
    html = status_html(PoolStatus(PoolState.LOADING, incoming=NEW, step="reading tensors", share=0.42), 10.0, {})
    assert "reading tensors" in html
    assert "42 %" in html


def test_a_load_shows_its_ladder_with_the_progress_in_the_step_that_runs() -> None:
    running = Rung(attempt(StepKind.SAFER_FLAGS), "running", 90.0)
    status = PoolStatus(PoolState.LOADING, incoming=NEW, step="reading", share=0.5, ladder=(*ladder()[:2], running))
    html = status_html(status, 100.0, KNOWN)
    assert html.index("As asked") < html.index("Fewer GPU layers") < html.index("Safer engine flags")
    assert html.index("Safer engine flags") < html.index("reading")
    assert 'data-running="10.0"' in html
    assert "<img" not in html


@pytest.mark.parametrize(
    ("running", "becomes", "said"),
    [
        (0, "finish", "old answers until the new model does"),
        (1, "finish", "old is finishing 1 reply."),
        (3, "finish", "old is finishing 3 replies."),
        (2, "hand over", "2 replies, which the new model will go on with"),
    ],
)
def test_a_swap_says_what_becomes_of_the_replies(running: int, becomes: RunningJobs, said: str) -> None:
    asked = LoadRequest(NEW, running=becomes)
    swap = replace(READY, state=PoolState.LOADING, incoming=NEW, running=running, asked=asked)
    assert said in status_html(swap, 10.0, {})


def test_replies_that_finish_after_a_swap_are_counted() -> None:
    assert "2 replies of the model before it" in status_html(replace(READY, finishing=2), 10.0, {})


def test_a_restart_is_called_one() -> None:
    rung = Rung(attempt(StepKind.RESTART), "running", 9.0)
    html = status_html(replace(READY, state=PoolState.LOADING, ladder=(rung,)), 10.0, {})
    assert "Restarting old" in html and "answers until" not in html
    choosing = replace(READY, state=PoolState.LOADING, asked=LoadRequest(FACTS), step="choosing a loader")
    assert "Loading big" in status_html(choosing, 10.0, {})


def test_afterwards_come_the_banner_the_model_and_its_ladder_folded() -> None:
    html = status_html(degraded_status(), 10.0, KNOWN)
    assert html.index("at 28 layers") < html.index("big is loaded") < html.index("after 3 steps")


def test_a_failed_load_says_what_can_be_done_with_buttons() -> None:
    html = status_html(failed_status(DeviceOutOfMemory("No room.", cause="too big")), 10.0, KNOWN)
    for part in ("Loading big failed", "No room.", "Why: too big", "model-smaller-context", "See earlier loads"):
        assert part in html
    assert html.index("model-smaller-context") < html.index("failed after 2 steps")
    lost = failed_status(EngineCrashed("It died."), facts=FACTS)
    assert "big was lost" in status_html(lost, 10.0, KNOWN)


def test_a_note_is_said_once() -> None:
    assert status_html(replace(READY, notes=LOADED.notes), 10.0, {}).count("a note") == 1


def test_a_loaded_model_shows_the_device_in_use_and_the_notes() -> None:
    html = status_html(READY, 10.0, {})
    for part in ("old is loaded", "CPU", "4,096 tokens", "1.5 s", "1.00 MiB"):
        assert part in html


def test_a_loaded_model_shows_its_plan_beside_what_was_measured() -> None:
    html = status_html(READY, 10.0, {}, (412 * MIB, 405 * MIB))
    assert "planned 412 MiB, measured 405 MiB (−1.7 %)" in html
    assert "1.00 MiB" not in html


def test_a_failed_swap_says_that_the_old_model_stays() -> None:
    failure = EngineCrashed("The engine died", cause="signal 11", evidence=["last words"])
    html = status_html(PoolStatus(PoolState.READY, facts=OLD, loader="toy", model=LOADED, failure=failure), 10.0, {})
    for part in ("old stays loaded", "The engine died", "signal 11", "last words", "old is loaded"):
        assert part in html


def test_a_cancelled_load_is_no_failure() -> None:
    html = status_html(PoolStatus(PoolState.EMPTY, failure=Cancelled("Loading was cancelled.")), 10.0, {})
    assert "Loading was cancelled." in html
    assert "failure" not in html


def test_every_loader_has_its_reason_and_the_first_suitable_one_is_autos() -> None:
    candidates = (
        Candidate("toy", True, "opens anything.", "the first in the order"),
        Candidate("other", False, EVIL),
    )
    html = candidates_html(candidates, {"toy": toy.SPEC})
    assert "opens anything; the first in the order" in html
    assert html.count("badge") == 1
    assert html.index('data-loader="toy"') < html.index("badge") < html.index('data-loader="other"')
    assert "<img" not in html


def test_where_no_loader_is_suitable_that_is_said_first() -> None:
    assert "No loader can run this file here" in candidates_html((Candidate("toy", False, "no"),), {})


def test_names_and_errors_of_files_are_text() -> None:
    assert "<img" not in chosen_html(NEW, None)
    assert "<img" not in chosen_html(None, CorruptFile(EVIL, cause=EVIL))
    assert "<img" not in status_html(READY, 10.0, {})
