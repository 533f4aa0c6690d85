"""The top line and the chat's status line, for each state of the pool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from webui.errors import EngineCrashed
from webui.loaders.contract import GenerationRequest, LoadedModel
from webui.models.facts import ModelFacts, ModelFormat
from webui.pool import Job, PoolState, PoolStatus
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
