"""Finding the best settings, on the Model tab: begin, watch, stop, and what becomes of the answer.

The search is the app's and goes on when the page is closed (`webui.diagnostics.tuning`); how it looks is in
`webui.tabs.tuning_plot`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from webui.context import AppContext
from webui.diagnostics.tuning import MINUTES, TuningRun, Wanted
from webui.errors import AppError, InvalidRequest
from webui.models.facts import ModelFacts
from webui.planning.tunables import FREE
from webui.pool import LoadRequest
from webui.pool.tuned import TunedSetting
from webui.tabs.model_choice import AUTO, Choice
from webui.tabs.present import failure_html
from webui.tabs.tuning_plot import note_html, run_html
from webui.tabs.visible import SILENT, mark_of, seen_mark

TIMES = ((1.0, "1 minute"), (2.0, "2 minutes"), (5.0, "5 minutes"), (15.0, "15 minutes"), (60.0, "1 hour"))

SLOW: dict[str, Any] = {"concurrency_limit": None, **SILENT}

AskedFor = Callable[[Mapping[Any, Any]], LoadRequest]
"""What the page would load with these values of its components; raises `AppError` where that is nothing."""


class TuningPanel:
    """The components of one page and what happens between them. Holds no state of a session."""

    def __init__(self, context: AppContext) -> None:
        self.context = context

    def build_note(self) -> None:
        """Draw the place above the controls that says where their values come from."""
        self.note = gr.HTML(elem_id="model-tuned", elem_classes="may-be-empty")

    def build(self) -> None:
        """Draw the panel where the caller stands."""
        with gr.Accordion("Find the best settings", open=False, elem_id="model-tuning"):
            self.minutes = gr.Dropdown(
                [(words, minutes) for minutes, words in TIMES],
                value=MINUTES,
                label="Time",
                info="Settings are measured by short replies meanwhile; the loaded model is put aside and comes back.",
                elem_id="model-tuning-minutes",
            )
            self.compare = gr.Checkbox(
                label="Compare all suitable loaders",
                info="With the loader at auto. Otherwise only the one that is chosen is tuned.",
                elem_id="model-tuning-compare",
            )
            self.small = gr.Checkbox(
                label="An 8-bit cache may be tried",
                info="It takes half the memory and changes replies a little.",
                elem_id="model-tuning-cache",
            )
            self.start = gr.Button("Find the best settings", size="sm", elem_id="model-tuning-start")
        self.message = gr.HTML(elem_id="model-tuning-message", elem_classes="may-be-empty")
        self.status = gr.HTML(elem_id="model-tuning-status", elem_classes="may-be-empty")
        with gr.Row(elem_classes="model-saving"):
            self.stop = gr.Button("Stop", size="sm", variant="stop", visible=False, elem_id="model-tuning-stop")
            self.use = gr.Button("Use these settings", size="sm", visible=False, elem_id="model-tuning-use")
            self.keep = gr.Button("Keep the defaults", size="sm", visible=False, elem_id="model-tuning-keep")
            self.forget = gr.Button("Forget", size="sm", visible=False, elem_id="model-tuning-forget")
        self.seen = seen_mark("model-tuning")

    @property
    def outputs(self) -> list[Component]:
        """What `shown` gives."""
        return [self.status, self.start, self.stop, self.use, self.keep, self.forget, self.note, self.seen]

    def join(
        self,
        choice: gr.State,
        held: set[Any],
        asked_for: AskedFor,
        refreshed: Callable[[ModelFacts], Awaitable[dict[Any, Any]]],
        changed: list[Any],
    ) -> list[Dependency]:
        """Join the events; returns those that set controls.

        `held` are the components that `asked_for` reads. `refreshed` gives the values of `changed`, `choice` among
        them, for a model whose tuned settings are others now.
        """
        self._choice, self._asked_for, self._refreshed = choice, asked_for, refreshed
        outputs = [self.message, *self.outputs]
        held = {choice, self.minutes, self.compare, self.small, *held}
        self.start.click(self._start, held, outputs, **SLOW)
        self.stop.click(self._stop, choice, outputs, **SLOW)
        return [
            button.click(what, choice, [*outputs, *changed], **SLOW)
            for button, what in ((self.use, self._use), (self.keep, self._keep), (self.forget, self._keep))
        ]

    def shown(self, chosen: Choice, seen: str = "") -> dict[Any, Any]:
        """The state of the search as the page shows it; nothing where that is what it shows."""
        run = self._run_of(chosen)
        found = chosen.tuned.get(chosen.best) or next(iter(chosen.tuned.values()), None)
        now = mark_of(chosen.path, found, *_marks(run), self._running)
        if now == seen:
            return {self.seen: gr.skip()}
        ended = run is not None and not run.running and _offers(run)
        return {
            self.status: run_html(run, time.time()) if run is not None else "",
            self.start: gr.update(interactive=chosen.facts is not None and not self._running),
            self.stop: gr.update(visible=run is not None and run.running),
            self.use: gr.update(visible=ended),
            self.keep: gr.update(visible=ended),
            self.forget: gr.update(visible=bool(found is not None and found.parameters) and not ended),
            self.note: note_html(found),
            self.seen: now,
        }

    @property
    def model(self) -> ModelFacts | None:
        """The model whose settings are being looked for."""
        latest = self.context.tunings.latest
        return latest.wanted.facts if latest is not None and latest.running else None

    @property
    def _running(self) -> bool:
        return self.model is not None

    def _run_of(self, chosen: Choice) -> TuningRun | None:
        """The run to show: the one that is on, whatever its model; one that has ended beside its own model only."""
        latest = self.context.tunings.latest
        if latest is None or (not latest.running and str(latest.wanted.facts.path) != chosen.path):
            return None
        return latest

    async def _start(self, held: Mapping[Any, Any]) -> dict[Any, Any]:
        chosen: Choice = held[self._choice]
        try:
            request = self._asked_for(held)
            loaders: tuple[str, ...] = () if request.loader == AUTO else (request.loader,)
            if not loaders and held[self.compare]:
                loaders = tuple(one.loader for one in chosen.candidates if one.suitable)
            # What a search is free to set is left to it, unless it was saved for this model.
            free = FREE - chosen.saved.get("parameters", {}).keys()
            own = {name: value for name, value in request.parameters.items() if name not in free}
            minutes = float(held[self.minutes] or MINUTES)
            self.context.tunings.start(Wanted(request.facts, loaders, minutes, own, bool(held[self.small])))
        except AppError as error:
            return {self.message: failure_html(error, title="Not begun"), **self.shown(chosen)}
        return {self.message: "", **self.shown(chosen)}

    async def _stop(self, chosen: Choice) -> dict[Any, Any]:
        await self.context.tunings.stop()
        return {self.message: "", **self.shown(chosen)}

    async def _use(self, chosen: Choice) -> dict[Any, Any]:
        """Load the model with what was found, and show it in the controls."""
        run = self._run_of(chosen)
        found = run.found if run is not None else None
        if chosen.facts is None or run is None or found is None:
            error = InvalidRequest("That is no longer offered.", hint="Look at what the page says now.")
            return {self.message: failure_html(error), **self.shown(chosen)}
        refreshed = await self._refreshed(chosen.facts)
        again: Choice = refreshed[self._choice]
        run.taken = True
        message = ""
        try:
            await self.context.pool.load(LoadRequest(chosen.facts, _loader_to_ask(again, found)))
        except AppError as error:
            message = "" if self.context.pool.status.failure is error else failure_html(error, title="Not loaded")
        return {**refreshed, self.message: message, **self.shown(again)}

    async def _keep(self, chosen: Choice) -> dict[Any, Any]:
        """Go back to the usual settings: what was found is forgotten."""
        if chosen.facts is None:
            return {self.message: "", **self.shown(chosen)}
        await self.context.tunings.forget(chosen.facts)
        refreshed = await self._refreshed(chosen.facts)
        return {**refreshed, self.message: "", **self.shown(refreshed[self._choice])}


def _offers(run: TuningRun) -> bool:
    """Whether the answer of a run that has ended waits for a word of somebody's."""
    return run.verdict is not None and run.verdict.improved and not (run.taken or run.dismissed)


def _loader_to_ask(chosen: Choice, found: TunedSetting) -> str:
    return AUTO if chosen.best == found.loader else found.loader


def _marks(run: TuningRun | None) -> tuple[object, ...]:
    if run is None:
        return ()
    return (run.state, run.step, len(run.trials), round(run.share, 2), run.started_at, run.taken, run.dismissed)
