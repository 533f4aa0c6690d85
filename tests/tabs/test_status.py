"""The top line and the chat's status line, for each state of the pool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tabs.stories import DEGRADED, degraded_status, failed_status
from webui.errors import Cancelled, DeviceOutOfMemory, EngineCrashed
from webui.loaders.contract import GenerationRequest, LoadedModel
from webui.models.facts import ModelFacts, ModelFormat
from webui.pool import Job, PoolState, PoolStatus
from webui.tabs.offers import better_offers
from webui.tabs.status import light_of, reply_html, top_line_html

FACTS = ModelFacts(Path("/m/tiny<b>.gguf"), ModelFormat.GGUF, (Path("/m/tiny<b>.gguf"),), 100, "Tiny")
LOADED = LoadedModel(4096, "CPU", "cpu", "engine", "1")
READY = PoolStatus(PoolState.READY, facts=FACTS, loader="toy", model=LOADED, memory_bytes=240 * 2**20, used_tokens=1024)


@pytest.mark.parametrize(
    ("status", "light"),
    [
        (PoolStatus(PoolState.EMPTY), "none"),
        (PoolStatus(PoolState.LOADING, step="Reading"), "loading"),
        (READY, "ready"),
        (replace(READY, notes=("Fewer layers on the GPU.",)), "degraded"),
        (replace(READY, model=replace(LOADED, notes=("No flash attention.",))), "degraded"),
        (replace(READY, failure=EngineCrashed("It died.")), "degraded"),
        (replace(READY, degraded=DEGRADED), "degraded"),
        (replace(READY, failure=Cancelled("Stopped.")), "ready"),
        (PoolStatus(PoolState.FAILED, failure=EngineCrashed("It died.")), "failed"),
    ],
)
def test_the_light_tells_the_state(status: PoolStatus, light: str) -> None:
    assert light_of(status) == light
    assert f'data-light="{light}"' in top_line_html(status, None)


def test_the_line_names_model_backend_device_context_and_memory() -> None:
    line = top_line_html(READY, 8 * 2**30)
    for words in ("tiny&lt;b&gt;", "toy", "CPU", "1,024 of 4,096 tokens (25 %)", "240 MiB used", "8.00 GiB free"):
        assert words in line
    assert "<b>" not in line


def test_what_is_wrong_is_behind_the_light() -> None:
    failed = PoolStatus(PoolState.FAILED, failure=EngineCrashed("It died.", cause="signal 11"))
    line = top_line_html(failed, None)
    assert "<details" in line and "signal 11" in line and "What to do" in line
    assert "<details" not in top_line_html(READY, None)


def test_behind_the_light_is_what_would_be_better_with_its_buttons() -> None:
    line = top_line_html(degraded_status(), None)
    assert "Ready, with less than asked" in line and "at 28 layers" in line
    for offer in better_offers(degraded_status()):
        assert f'data-offer="{offer.mark}"' in line
    assert 'data-tab="Model"' in line
    failed = top_line_html(failed_status(DeviceOutOfMemory("No room.")), None)
    assert 'id="status-smaller-context"' in failed and "Loading failed" in failed


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (replace(READY, notes=("Fewer layers.",)), "Ready, with remarks"),
        (replace(READY, failure=EngineCrashed("It died.")), "Ready; the last load failed"),
        (replace(READY, state=PoolState.FAILED, failure=EngineCrashed("It died.")), "Model lost"),
    ],
)
def test_the_words_beside_the_light_say_which_it_is(status: PoolStatus, words: str) -> None:
    assert words in top_line_html(status, None)


def test_every_line_can_say_that_it_is_only_what_was_known_last() -> None:
    for status in (PoolStatus(PoolState.EMPTY), READY, degraded_status()):
        assert "Not connected; last known: " in top_line_html(status, None)


def test_a_load_counts_its_seconds_in_the_browser() -> None:
    loading = PoolStatus(PoolState.LOADING, step="Reading", started_at=100.0)
    assert 'data-running="5.0"' in top_line_html(loading, None, 105.0)
    assert "data-running" not in top_line_html(loading, None)


def test_replies_of_the_model_before_are_counted_until_they_end() -> None:
    line = top_line_html(replace(READY, running=2, finishing=1), None)
    assert "2 running, 1 finishing" in line


def test_a_small_change_of_free_memory_does_not_change_the_line() -> None:
    assert top_line_html(READY, 8 * 2**30) == top_line_html(READY, 8 * 2**30 + 4096)


async def test_the_reply_line_is_busy_while_a_reply_is_written() -> None:
    job = Job(GenerationRequest("x"), "chat")
    assert "data-busy" in reply_html(READY, job)
    job.fail(EngineCrashed("It died."))
    line = reply_html(READY, job)
    assert "data-busy" not in line
    assert "failed" in line
    assert "data-busy" not in reply_html(READY)
    assert "data-busy" in reply_html(READY, busy=True)


async def test_a_reply_that_waits_says_its_place() -> None:
    job = Job(GenerationRequest("x"), "chat")
    job.move(3)
    assert "waiting, place 3" in reply_html(READY, job)
