"""What the Model tab says in each state of the pool, and which buttons it offers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.loaders import toy
from webui.errors import Cancelled, CorruptFile, EngineCrashed
from webui.loaders.contract import LoadedModel
from webui.models.facts import ModelFacts, ModelFormat
from webui.planning.selection import Candidate
from webui.pool import PoolState, PoolStatus
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
        (PoolStatus(PoolState.FAILED, failure=EngineCrashed("x")), NEW, Buttons("Load", True, False, False)),
    ],
)
def test_buttons(status: PoolStatus, chosen: ModelFacts | None, expected: Buttons) -> None:
    assert buttons(status, chosen) == expected


def test_a_load_shows_its_step_and_share() -> None:
    html = status_html(PoolStatus(PoolState.LOADING, incoming=NEW, step="reading tensors", share=0.42), now=10.0)
    assert "reading tensors" in html
    assert "42 %" in html


def test_a_loaded_model_shows_the_device_in_use_and_the_notes() -> None:
    html = status_html(READY, now=10.0)
    for part in ("old is loaded", "CPU", "4,096 tokens", "1.5 s", "1.00 MiB"):
        assert part in html


def test_a_failed_swap_says_that_the_old_model_stays() -> None:
    failure = EngineCrashed("The engine died", cause="signal 11", evidence=["last words"])
    html = status_html(PoolStatus(PoolState.READY, facts=OLD, loader="toy", model=LOADED, failure=failure), now=10.0)
    for part in ("old stays loaded", "The engine died", "signal 11", "last words", "old is loaded"):
        assert part in html


def test_a_cancelled_load_is_no_failure() -> None:
    html = status_html(PoolStatus(PoolState.EMPTY, failure=Cancelled("Loading was cancelled.")), now=10.0)
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
    assert "<img" not in status_html(READY, now=10.0)
