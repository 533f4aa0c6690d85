"""The profile of a reply: from what a job knows of itself to spans on one line."""

from __future__ import annotations

import pytest

from webui.diagnostics.reply_profile import profile_of
from webui.errors import EngineCrashed
from webui.loaders.contract import Chunk, Finished, GenerationRequest
from webui.pool.jobs import Job
from webui.tabs.waterfall import waterfall_html


class Timed(Job):
    """A job whose clock is set by hand."""

    now = 0.0

    def _elapsed(self) -> float:
        return self.now


def played(*, prompt: float = 0.9, gaps: tuple[float, ...] = (0.1, 0.1, 0.1), shown: float | None = 2.0) -> Timed:
    job = Timed(GenerationRequest("x"), "test")
    job.prepared_seconds, job.loader = 0.05, "toy"
    job.now = 0.2
    job.start(lambda: None)
    job.now = 1.2
    job.take(Chunk("a"))
    for gap in gaps:
        job.now += gap
        job.take(Chunk("b"))
    job.finish(Finished("stop", 100, 1 + len(gaps), prompt, sum(gaps), cached_tokens=40))
    if shown is not None:
        with job.showing():
            job.now = shown
    return job


def spans(job: Job) -> dict[str, tuple[float, float]]:
    return {span.name: (round(span.start, 3), round(span.end, 3)) for span in profile_of(job).spans}


def test_each_span_has_its_place_on_the_line() -> None:
    job = played()
    assert spans(job) == {
        "template": (0.0, 0.05),
        "queue": (0.05, 0.25),
        "prompt": (0.25, 1.15),
        "first token": (1.15, 1.25),
        "tokens": (1.25, 1.55),
        "rendering": (1.25, 2.05),
    }
    found = profile_of(job)
    assert found.first_token_seconds == pytest.approx(1.25)
    assert found.total_seconds == pytest.approx(2.05)
    assert (found.prompt_tokens, found.cached_tokens, found.completion_tokens) == (100, 40, 4)
    assert found.remark == ""
    assert found.to_dict()["spans"][0]["name"] == "template"


def test_an_engine_that_measures_more_than_there_was_stays_within_it() -> None:
    assert spans(played(prompt=5.0))["prompt"] == (0.25, 1.25)
    assert spans(played(prompt=5.0))["first token"] == (1.25, 1.25)


def test_what_held_it_up_is_said() -> None:
    assert "One token took 1.0 s" in profile_of(played(gaps=(0.1, 0.1, 1.0, 0.1))).remark
    waited = Timed(GenerationRequest("x"), "test")
    waited.now = 5.0
    waited.start(lambda: None)
    waited.now = 5.5
    waited.take(Chunk("a"))
    waited.finish(Finished("stop", 1, 1, 0.1, 0.1))
    assert "waited for its turn" in profile_of(waited).remark


def test_a_reply_that_broke_off_is_told_as_far_as_it_came() -> None:
    queued = Timed(GenerationRequest("x"), "test")
    queued.now = 3.0
    queued.fail(EngineCrashed("gone"))
    assert spans(queued) == {"queue": (0.0, 3.0)}
    reading = Timed(GenerationRequest("x"), "test")
    reading.now = 1.0
    reading.start(lambda: None)
    reading.now = 4.0
    reading.fail(EngineCrashed("gone"))
    assert spans(reading) == {"queue": (0.0, 1.0), "prompt": (1.0, 4.0)}
    assert profile_of(reading).state == "failed"


def test_the_picture_is_to_scale_and_harmless() -> None:
    job = played()
    job.loader = "<b>toy</b>"
    html = waterfall_html(profile_of(job))
    assert "<b>" not in html
    assert 'class="queue" style="left:2.44%;width:9.76%"' in html
    assert html.count("data-span=") == 6
