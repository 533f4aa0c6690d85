"""The Model tab: choose a file, see what it is and which loader runs it, set its parameters, load and unload it.

This file draws the tab and joins its events. What it says is in `model_panel`, the list in `model_catalogue`, the
choice of a model in `model_choice`, the loaders' controls in `model_controls`. Loading belongs to the pool and goes on
when the page is closed; the tab only shows how far it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.blocks import Block

from webui.context import AppContext
from webui.errors import AppError, InvalidRequest
from webui.loaders.parameters import refuse_local
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.pool import LoadRequest
from webui.pool.status import RunningJobs
from webui.security import local_only
from webui.tabs.model_catalogue import CHOOSE_ROW, catalogue_html
from webui.tabs.model_choice import AUTO, Choice, choose, choose_listed, choose_path
from webui.tabs.model_controls import LoaderControls
from webui.tabs.model_fit import Fits
from webui.tabs.model_panel import buttons, candidates_html, chosen_html, status_html
from webui.tabs.model_plan import PlanPanel
from webui.tabs.model_tuning import TuningPanel
from webui.tabs.offers import PRESS, act_on_press
from webui.tabs.present import escape, failure_html, list_html
from webui.tabs.visible import SILENT, mark_of, seen_mark, ticking, when_opened

SECONDS_BETWEEN_TICKS = 0.5
ANSWER_AFTER_SECONDS = 0.1
"""A load is shown as begun after this long, or as ended if it has ended by then."""

QUIET: dict[str, Any] = {"queue": False, **SILENT}
SLOW: dict[str, Any] = {"concurrency_limit": None, **SILENT}


def build(context: AppContext) -> None:
    """Draw the tab where the caller stands."""
    ModelTab(context).build()


class ModelTab:
    """The components of one page's Model tab and what happens between them. Holds no state of a session."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        configured = {name: context.settings.backends.parameters(name) for name in context.loaders}
        self.controls = LoaderControls(context.loaders, configured)
        self.plan = PlanPanel(context, self.controls)
        self.fits = Fits(context)
        self.tuning = TuningPanel(context)

    def build(self) -> None:
        self.choice = gr.State(Choice())
        self.seen = seen_mark("model")
        with gr.Row(elem_classes="model-columns"):
            with gr.Column(scale=2, min_width=280, elem_id="model-list"):
                self._draw_list()
            with gr.Column(scale=3, min_width=300, elem_id="model-detail"):
                self._draw_detail()
        self._join_choosing()
        self._join_loading()
        self._join_saving()
        self.plan.join(self.loader, self.best)

    # --- drawing --------------------------------------------------------------------------------------------------

    def _draw_list(self) -> None:
        self.search = gr.Textbox(
            label="Search", show_label=False, placeholder="Search the models", elem_id="model-search"
        )
        self.rows = gr.HTML(elem_id="model-catalogue", js_on_load=CHOOSE_ROW)
        self.look_again = gr.Button("Look again", size="sm", elem_id="model-refresh")
        with gr.Group(visible=local_only(self.context.started_with)):
            self.path = gr.Textbox(
                label="Open a file on this machine",
                placeholder="/path/to/model.gguf",
                elem_id="model-path",
            )
            self.open = gr.Button("Open", size="sm", elem_id="model-open")

    def _draw_detail(self) -> None:
        self.facts = gr.HTML(chosen_html(None, None), elem_id="model-facts")
        titles = [(spec.title, name) for name, spec in self.context.loaders.items()]
        self.loader = gr.Dropdown(
            [("auto", AUTO), *titles],
            value=AUTO,
            label="Loader",
            info="auto takes the first suitable one.",
            interactive=True,
            elem_id="model-loader",
        )
        self.plan.build()
        with gr.Row(elem_classes="model-actions"):
            self.load = gr.Button("Load", variant="primary", interactive=False, elem_id="model-load")
            self.cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id="model-cancel")
            self.unload = gr.Button("Unload", visible=False, elem_id="model-unload")
        self.running = gr.Radio(
            [("finish first", "finish"), ("hand over to the new model", "hand over")],
            value="finish",
            label="Replies being written",
            visible=False,
            interactive=True,
            elem_id="model-running",
        )
        self.message = gr.HTML(elem_id="model-message", elem_classes="may-be-empty")
        self.status = gr.HTML(js_on_load=PRESS, elem_id="model-status", elem_classes="may-be-empty")
        act_on_press(self.context, self.status)
        with gr.Accordion("Why this loader, and why not another", open=True, elem_id="model-reasons"):
            self.reasons = gr.HTML(elem_id="model-loaders")
        # Lives on the page so that showing the right controls needs no round trip; see LoaderControls.
        self.best = gr.Textbox(visible=False, elem_id="model-best-loader")
        self.tuning.build_note()
        with gr.Column(elem_id="model-controls"):
            self.controls.build(shown=None)
        with gr.Row(elem_classes="model-saving"):
            self.save = gr.Button("Save for this model", size="sm", interactive=False, elem_id="model-save")
            self.defaults = gr.Button("Defaults", size="sm", elem_id="model-defaults")
            self.forget = gr.Button("Forget saved", size="sm", visible=False, elem_id="model-forget")
        self.tuning.build()

    # --- choosing -------------------------------------------------------------------------------------------------

    def _join_choosing(self) -> None:
        shown = self._choice_outputs()
        self.controls.show_on_change(self.loader, self.best)
        given = [self.open.click, self.path.submit]
        for chosen in (
            self.rows.select(self._row_chosen, [self.search], shown, **QUIET),
            gr.on(given, self._path_given, [self.path, self.search], shown, trigger_mode="always_last", **SLOW),
            when_opened(self._opened, shown, [self.search, self.choice]),
        ):
            self.plan.follow(chosen)
        # Not `input`: Gradio's text fields fire that for key strokes only, neither for Backspace nor for pasting.
        self.search.change(self._search, [self.search, self.choice], self.rows, trigger_mode="always_last", **QUIET)
        self.look_again.click(self._look_again, [self.search, self.choice], self.rows, **SLOW)

    def _choice_outputs(self) -> list[Any]:
        fixed = [self.choice, self.rows, self.facts, self.loader, self.reasons, self.best]
        fixed += [self.plan.model, self.message]
        return [*fixed, *self._pool_outputs(), *self.tuning.outputs, self.save, self.forget, *self.controls.components]

    async def _row_chosen(self, search: str, event: gr.EventData) -> dict[Any, Any]:
        return await self._show(await choose_listed(self.context, str(getattr(event, "model", ""))), search)

    async def _path_given(self, path: str, search: str) -> dict[Any, Any]:
        return await self._show(await choose_path(self.context, path), search)

    async def _opened(self, search: str, chosen: Choice) -> dict[Any, Any]:
        """Fill the list; where nothing is chosen yet, show the model that is loaded, loading or being tuned.

        A choice made before is judged again, since backends may have been installed or switched off meanwhile.
        """
        status = self.context.pool.status
        facts = status.incoming or status.facts or self.tuning.model
        if not chosen.path and facts is not None:
            return await self._show(await choose(self.context, facts), search)
        outputs = {
            self.rows: await self._rows(search, chosen.path),
            **self._pool(chosen, ""),
            **self.tuning.shown(chosen),
        }
        if chosen.facts is not None:
            again = await choose(self.context, chosen.facts)
            outputs[self.choice], outputs[self.best] = again, again.best
            outputs[self.reasons] = candidates_html(again.candidates, self.context.loaders)
        return outputs

    async def _show(self, chosen: Choice, search: str) -> dict[Any, Any]:
        """Everything the tab says of a newly chosen model."""
        values, asked = self._remembered(chosen)
        sound = chosen.facts is not None
        outputs: dict[Any, Any] = {
            self.choice: chosen,
            self.rows: await self._rows(search, chosen.path),
            self.facts: chosen_html(chosen.facts, chosen.error),
            self.loader: gr.update(value=asked),
            self.reasons: candidates_html(chosen.candidates, self.context.loaders),
            self.best: chosen.best,
            self.plan.model: self.plan.name(chosen),
            self.message: self._saved_problems(chosen, asked),
            self.save: gr.update(interactive=sound),
            self.forget: gr.update(visible=bool(chosen.saved)),
        }
        outputs |= self._pool(chosen, "") | self.tuning.shown(chosen)
        return outputs | self.controls.updates(values, self._tuned(chosen))

    def _remembered(self, chosen: Choice) -> tuple[dict[str, Any], str]:
        """Parameters and loader to begin with: those saved for the model, else those it is loaded with."""
        if chosen.saved:
            asked = str(chosen.saved.get("loader", AUTO))
            return dict(chosen.saved.get("parameters", {})), asked if asked in self.context.loaders else AUTO
        status = self.context.pool.status
        if status.facts is not None and str(status.facts.path) == chosen.path and status.model is not None:
            return dict(status.parameters), AUTO
        preferred = self.context.settings.backends.preferred_backend
        return {}, preferred if preferred in self.context.loaders else AUTO

    def _tuned(self, chosen: Choice) -> dict[str, dict[str, Any]]:
        """By loader, the tuned values that a load would begin with: not where something else is configured."""
        backends = self.context.settings.backends
        return {
            loader: {name: value for name, value in found.parameters.items() if name not in backends.parameters(loader)}
            for loader, found in chosen.tuned.items()
        }

    async def _refreshed(self, facts: ModelFacts) -> dict[Any, Any]:
        """The choice and the controls, judged anew, since the settings found for the model are others now."""
        chosen = await choose(self.context, facts)
        return {
            self.choice: chosen,
            self.best: chosen.best,
            self.reasons: candidates_html(chosen.candidates, self.context.loaders),
            **self.controls.updates(dict(chosen.saved.get("parameters", {})), self._tuned(chosen)),
        }

    def _saved_problems(self, chosen: Choice, asked: str) -> str:
        loader = chosen.loader(asked)
        if not chosen.saved or not loader:
            return ""
        refused = self.controls.refused(loader, dict(chosen.saved.get("parameters", {})))
        return list_html([f"Saved, and left out: {sentence}" for sentence in refused], tone="warning")

    async def _search(self, search: str, chosen: Choice) -> str:
        return await self._rows(search, chosen.path)

    async def _look_again(self, search: str, chosen: Choice) -> str:
        await asyncio.to_thread(self.context.catalogue.refresh)
        return await self._rows(search, chosen.path)

    async def _rows(self, search: str, chosen: str) -> str:
        entries = await asyncio.to_thread(self.context.catalogue.entries)
        folder = self.context.settings.models.directory or self.context.paths.models
        fit = self.fits.for_a_list()
        return await asyncio.to_thread(catalogue_html, entries, search=search, chosen=chosen, folder=folder, fit=fit)

    # --- loading --------------------------------------------------------------------------------------------------

    def _join_loading(self) -> None:
        outputs = self._pool_outputs()
        held: set[Block] = {self.choice, self.loader, self.running, *self.controls.components}
        self.load.click(self._load, held, [self.message, *outputs], trigger_mode="multiple", **SLOW)
        self.cancel.click(self._cancel, self.choice, [self.message, *outputs], **SLOW)
        self.unload.click(self._unload, self.choice, [self.message, *outputs], **SLOW)
        ticks = ticking(SECONDS_BETWEEN_TICKS, "Model")
        ticks.tick(self._tick, [self.choice, self.seen, self.tuning.seen], [*outputs, *self.tuning.outputs], **QUIET)

    def _pool_outputs(self) -> list[Any]:
        return [self.status, self.load, self.cancel, self.unload, self.running, self.seen]

    async def _load(self, held: Mapping[Any, Any]) -> AsyncGenerator[dict[Any, Any], None]:
        """Ask the pool to load, say at once that it has begun, and say how it ended."""
        chosen: Choice = held[self.choice]
        try:
            request = replace(self._request(held), running=self._becomes_of_replies(held))
        except AppError as error:
            yield {self.message: failure_html(error, title="Not loaded")}
            return
        loading = asyncio.ensure_future(self.context.pool.load(request))
        await asyncio.wait({loading}, timeout=ANSWER_AFTER_SECONDS)
        yield {self.message: "", **self._pool(chosen, "")}
        try:
            await loading
        except AppError as error:
            # The pool shows why a load failed; only what it refused to begin is said here.
            known = self.context.pool.status.failure is error or error.code == "cancelled"
            yield {self.message: "" if known else failure_html(error), **self._pool(chosen, "")}
            return
        yield self._pool(chosen, "")

    def _request(self, held: Mapping[Any, Any]) -> LoadRequest:
        """What the page asks for; raises `InvalidSetting` naming each wrong control."""
        chosen: Choice = held[self.choice]
        if chosen.facts is None:
            raise chosen.error or InvalidRequest("No model is chosen.", hint="Choose one from the list.")
        asked = str(held[self.loader] or AUTO)
        loader = chosen.loader(asked)
        # What was found by tuning holds where nothing else is asked for, so its names are said whatever they hold.
        found = chosen.tuned[loader].parameters if loader in chosen.tuned else {}
        parameters = self.controls.changed(loader, held, also=found) if loader else {}
        if loader and not local_only(self.context.started_with):
            refuse_local(self.context.loaders[loader].parameters, parameters)
        return LoadRequest(chosen.facts, asked, parameters)

    def _becomes_of_replies(self, held: Mapping[Any, Any]) -> RunningJobs:
        """What was chosen for the replies that are being written. Where there are none, nobody was asked."""
        return "hand over" if held[self.running] == "hand over" and self.context.pool.status.running else "finish"

    async def _cancel(self, chosen: Choice) -> dict[Any, Any]:
        await self.context.pool.cancel_load()
        return {self.message: '<p class="empty">Loading was cancelled.</p>', **self._pool(chosen, "")}

    async def _unload(self, chosen: Choice) -> dict[Any, Any]:
        await self.context.pool.unload()
        return {self.message: "", **self._pool(chosen, "")}

    def _tick(self, chosen: Choice, seen: str, seen_of_tuning: str) -> dict[Any, Any]:
        return self._pool(chosen, seen) | self.tuning.shown(chosen, seen_of_tuning)

    def _pool(self, chosen: Choice, seen: str) -> dict[Any, Any]:
        """The pool's state and the buttons that make sense in it; nothing where that is what the page shows."""
        status = self.context.pool.status
        offered = buttons(status, chosen.facts)
        taken = self.context.plans.taken
        compared = taken.compared if taken is not None and taken.pid == status.pid else None
        now = mark_of(offered, status_html(status, None, self.context.loaders, compared))
        if now == seen:
            return {self.seen: gr.skip()}
        return {
            self.status: status_html(status, time.time(), self.context.loaders, compared),
            self.load: gr.update(value=offered.load, interactive=offered.can_load),
            self.cancel: gr.update(visible=offered.can_cancel),
            self.unload: gr.update(visible=offered.can_unload),
            self.running: gr.update(visible=offered.ask_running),
            self.seen: now,
        }

    # --- saving ---------------------------------------------------------------------------------------------------

    def _join_saving(self) -> None:
        held: set[Block] = {self.choice, self.loader, *self.controls.components}
        self.save.click(self._save, held, [self.message, self.choice, self.forget], **QUIET)
        self.forget.click(self._forget, self.choice, [self.message, self.choice, self.forget], **QUIET)
        defaults = self.defaults.click(lambda: self.controls.updates({}), None, self.controls.components, **QUIET)
        self.plan.follow(defaults)
        changed = [self.choice, self.best, self.reasons, *self.controls.components]
        asking: set[Any] = {self.loader, *self.controls.components}
        for event in self.tuning.join(self.choice, asking, self._request, self._refreshed, changed):
            self.plan.follow(event)

    async def _save(self, held: Mapping[Any, Any]) -> dict[Any, Any]:
        try:
            request = self._request(held)
            await asyncio.to_thread(
                self.context.model_settings.save, request.facts.path, request.loader, request.parameters
            )
            chosen = await choose(self.context, request.facts)
        except AppError as error:
            return {self.message: failure_html(error, title="Not saved")}
        said = f'<p class="done" role="status">Saved for {escape(model_id(request.facts))}.</p>'
        return {self.message: said, self.choice: chosen, self.forget: gr.update(visible=True)}

    async def _forget(self, chosen: Choice) -> dict[Any, Any]:
        if chosen.facts is None:
            return {self.message: ""}
        try:
            await asyncio.to_thread(self.context.model_settings.forget, chosen.facts.path)
            chosen = await choose(self.context, chosen.facts)
        except AppError as error:
            return {self.message: failure_html(error)}
        said = '<p class="done" role="status">What was saved is forgotten; the controls keep their values.</p>'
        return {self.message: said, self.choice: chosen, self.forget: gr.update(visible=False)}
