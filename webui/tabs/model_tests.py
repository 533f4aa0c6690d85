"""Models and backends on the Diagnostics tab: which backend opens which model, and trying them all for real.

A run is the app's (`context.model_tests`): every page sees the same one, and it goes on when the page is closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from webui.context import AppContext
from webui.diagnostics.load_result import LoadResult
from webui.diagnostics.model_tests import ALL, ModelTestRun, each
from webui.errors import AppError, ModelNotFound
from webui.loaders.contract import LoaderSpec
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.planning.selection import Candidate
from webui.tabs.present import (
    duration,
    empty_html,
    escape,
    failure_html,
    one_sentence,
    progress_html,
    size,
    verdict_html,
)
from webui.tabs.visible import SILENT, mark_of, seen_mark, when_opened

QUIET: dict[str, Any] = {"queue": False, **SILENT}
SLOW: dict[str, Any] = {"concurrency_limit": None, "show_progress": "minimal", "api_visibility": "private"}
MOST_MODELS = 100
Judged = tuple[str, Sequence[Candidate]]


def build(context: AppContext, timer: gr.Timer) -> None:
    """Draw the part where the caller stands; `timer` ticks while its tab is looked at."""
    ModelTestSection(context).build(timer)


class ModelTestSection:
    """The components of one page's section. Holds no state of a session."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self.tests = context.model_tests

    def build(self, timer: gr.Timer) -> None:
        gr.HTML("<h2 class='part'>Models and backends</h2>")
        with gr.Row(elem_classes="model-actions"):
            self.look = gr.Button("Which opens which", size="sm", scale=0, min_width=160, elem_id="compat-look")
            self.start = gr.Button("Test all models", size="sm", scale=0, min_width=160, elem_id="model-tests-start")
            self.stop = gr.Button(
                "Stop", size="sm", variant="stop", visible=False, scale=0, min_width=100, elem_id="model-tests-stop"
            )
            self.every = gr.Checkbox(
                label="With every backend that can", container=False, min_width=220, elem_id="model-tests-every"
            )
        self.matrix = gr.HTML(elem_id="compat-matrix", elem_classes="may-be-empty")
        self.message = gr.HTML(elem_id="model-tests-message", elem_classes="may-be-empty")
        self.results = gr.HTML(elem_id="model-tests-results", elem_classes="may-be-empty")
        self.seen = seen_mark("model-tests")
        outputs = [self.results, self.start, self.stop, self.seen]
        self.look.click(self._judged, None, self.matrix, **SLOW)
        self.start.click(self._start, self.every, [self.message, *outputs], **SLOW)
        self.stop.click(self._stop, None, outputs, **SLOW)
        timer.tick(self._shown, self.seen, outputs, **QUIET)
        when_opened(self._shown, outputs, [self.seen])

    async def _judged(self) -> str:
        def judged() -> list[Judged]:
            return [(model_id(facts), self.context.pool.rank(facts)) for facts in self._models()]

        return matrix_html(await asyncio.to_thread(judged), self.context.loaders)

    async def _start(self, every: bool) -> list[Any]:
        try:
            models = await asyncio.to_thread(self._models)
            if not models:
                raise ModelNotFound("There is no model to test.", hint="Put a GGUF file into the models folder.")
            self.tests.start(await asyncio.to_thread(each, self.context, models, [ALL] if every else []))
        except AppError as error:
            return [failure_html(error), *self._shown("")]
        return ["", *self._shown("")]

    async def _stop(self) -> list[Any]:
        await self.tests.stop()
        return self._shown("")

    def _models(self) -> list[ModelFacts]:
        return [entry for entry in self.context.catalogue.entries() if isinstance(entry, ModelFacts)][:MOST_MODELS]

    def _shown(self, seen: str) -> list[Any]:
        run = self.tests.latest
        running = run is not None and run.running
        now = mark_of(run.state, len(run.results), run.now) if run is not None else mark_of("none")
        if now == seen:
            return [gr.skip()] * 4
        shown = run_html(run, time.time(), self.context.loaders) if run is not None else ""
        return [shown, gr.update(interactive=not running), gr.update(visible=running), now]


def matrix_html(judged: Sequence[Judged], loaders: Mapping[str, LoaderSpec]) -> str:
    """A row for each model, a column for each backend; why and why not stands beneath the mark."""
    if not judged:
        return empty_html("There is no model in the models folder.")
    head = "".join(f"<th>{escape(spec.title)}</th>" for spec in loaders.values())
    rows = "".join(_matrix_row(name, candidates, loaders) for name, candidates in judged)
    return (
        f'<div class="scroll"><table class="workers compat"><thead><tr><th>Model</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _matrix_row(name: str, candidates: Sequence[Candidate], loaders: Mapping[str, LoaderSpec]) -> str:
    known = {one.loader: one for one in candidates}
    first = next((one.loader for one in candidates if one.suitable), None)
    cells = "".join(_cell(known[loader], chosen=loader == first) for loader in loaders if loader in known)
    return f'<tr data-model="{escape(name)}"><td>{escape(name)}</td>{cells}</tr>'


def _cell(one: Candidate, *, chosen: bool) -> str:
    if one.suitable:
        word = verdict_html("ok", "chosen" if chosen else "opens it")
        why = one.chosen_because if chosen else one.reason
    elif one.opens:
        word, why = verdict_html("warning", "not here"), one.reason
    else:
        word, why = verdict_html("plain", "no"), one.reason
    reason = escape(why)
    return f'<td data-loader="{escape(one.loader)}" title="{reason}">{word}<span class="why-not">{reason}</span></td>'


def run_html(run: ModelTestRun, now: float, loaders: Mapping[str, LoaderSpec]) -> str:
    """How far it is, and each result so far."""
    done = len(run.results)
    progress = ""
    if run.running and run.now is not None:
        step = f"Testing {model_id(run.now.facts)}, {done + 1} of {len(run.wanted)}"
        progress = progress_html(step, done / max(1, len(run.wanted)), now - run.started_at)
    elif run.error is not None:
        progress = failure_html(run.error, title="The test ended")
    elif run.state == "stopped":
        progress = f"<p class='aside'>Stopped after {done} of {len(run.wanted)}.</p>"
    return progress + (results_html(run.results, loaders) if run.results else "")


def results_html(results: Sequence[LoadResult], loaders: Mapping[str, LoaderSpec]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("Model", "Backend", "Works", "Load", "Memory", "Device"))
    rows = "".join(_result_row(one, loaders) for one in results)
    table = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll"><table class="workers tests">{table}</table></div>'


def _result_row(one: LoadResult, loaders: Mapping[str, LoaderSpec]) -> str:
    title = loaders[one.backend].title if one.backend in loaders else one.backend
    if one.error is not None:
        verdict = verdict_html("problem", one_sentence(one.error))
    else:
        verdict = verdict_html("warning", one.degraded) if one.degraded else verdict_html("ok", "works")
    return (
        f'<tr data-model="{escape(one.model)}"><td>{escape(one.model)}</td><td>{escape(title)}</td>'
        f'<td class="wraps">{verdict}</td><td>{duration(one.load_time)}</td><td>{size(one.memory_usage)}</td>'
        f"<td>{escape(one.device)}</td></tr>"
    )
