"""The Hardware tab's benchmark: choose a model, loaders and depths; run, watch, look at earlier runs and compare.

The run is the app's (`context.benchmarks`): every page sees the same one, and it goes on when the page is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.blocks import Block

from webui.context import AppContext
from webui.diagnostics.benchmark_request import (
    DEFAULT_REPLY_TOKENS,
    DEFAULT_RUNS,
    BenchmarkRequest,
    default_depths,
    depths_or_default,
    read_depths,
    words_of,
)
from webui.diagnostics.benchmark_store import Saved
from webui.errors import AppError, InvalidRequest, ModelNotFound, NotFound
from webui.models.catalogue import BrokenModel
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.tabs.benchmark_panel import ROWS_SCRIPT, list_of_runs_html, progress_of, result_html, title_of
from webui.tabs.model_catalogue import entry_at
from webui.tabs.present import escape, failure_html
from webui.tabs.visible import SILENT, mark_of, seen_mark, ticking, when_opened

SECONDS_BETWEEN_TICKS = 1.0
NOTHING = ""
"""The choice of a comparison that stands for none."""
NARROW: dict[str, Any] = {"scale": 0, "min_width": 180}
QUIET: dict[str, Any] = {"queue": False, **SILENT}
SLOW: dict[str, Any] = {"concurrency_limit": None, **SILENT}


def build(context: AppContext) -> None:
    """Draw the section where the caller stands."""
    BenchmarkSection(context).build()


class BenchmarkSection:
    """The components of one page's section. Holds no state of a session."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self.benchmarks = context.benchmarks

    # --- drawing ------------------------------------------------------------------------------------------------

    def build(self) -> None:
        gr.HTML("<h2 class='part'>Benchmark</h2>")
        gr.HTML(
            "<p class='aside'>Measures each loader in turn with prompts of several lengths. The model that is loaded "
            "now comes back afterwards. Replies written meanwhile make the figures too low.</p>"
        )
        self._draw_choice()
        with gr.Row(elem_classes="model-actions"):
            self.run = gr.Button(
                "Run the benchmark", variant="primary", scale=0, min_width=200, elem_id="benchmark-run"
            )
            self.stop = gr.Button(
                "Stop", variant="stop", visible=False, scale=0, min_width=120, elem_id="benchmark-stop"
            )
        self.message = gr.HTML(elem_id="benchmark-message", elem_classes="may-be-empty")
        self.progress = gr.HTML(elem_id="benchmark-progress", elem_classes="may-be-empty")
        self.result = gr.HTML(result_html(None), elem_id="benchmark-result")
        with gr.Row(visible=False) as self.keeping:
            self.compared = gr.Dropdown(
                [("nothing", NOTHING)],
                value=NOTHING,
                label="Compare with",
                interactive=True,
                elem_id="benchmark-compare",
                min_width=200,
            )
            self.name = gr.Textbox(
                label="Name of a baseline", placeholder="before the update", elem_id="benchmark-name", min_width=160
            )
            self.keep = gr.Button("Keep as baseline", size="sm", elem_id="benchmark-keep", **NARROW)
        self.rows = gr.HTML(list_of_runs_html([], ""), js_on_load=ROWS_SCRIPT, elem_id="benchmark-runs")
        self.shown = gr.Textbox(visible=False, elem_id="benchmark-shown")
        self.seen = seen_mark("benchmark")
        self._join()

    def _draw_choice(self) -> None:
        with gr.Row():
            self.model = gr.Dropdown([], label="Model", interactive=True, elem_id="benchmark-model", min_width=220)
            self.depths = gr.Textbox(
                words_of((0, 1024, 4096)),
                label="Depths",
                info="Tokens in the context when replies begin; 0 is a short prompt.",
                elem_id="benchmark-depths",
                min_width=180,
            )
            self.runs = gr.Slider(
                1, 20, DEFAULT_RUNS, step=1, label="Runs", info="For each depth.", elem_id="benchmark-runs-number"
            )
            self.tokens = gr.Slider(
                8, 512, DEFAULT_REPLY_TOKENS, step=8, label="Tokens of each reply", elem_id="benchmark-tokens"
            )
        self.loaders = gr.CheckboxGroup(
            [(spec.title, name) for name, spec in self.context.loaders.items()],
            label="Loaders",
            info="Those that are ready for the model are chosen.",
            interactive=True,
            elem_id="benchmark-loaders",
        )

    def _join(self) -> None:
        looking = [self.seen, self.shown, self.compared]
        outputs = self._outputs()
        choice: set[Block] = {self.model, self.loaders, self.depths, self.runs, self.tokens, *looking}
        self.run.click(self._run, choice, [self.message, *outputs], **SLOW)
        self.stop.click(self._stop, looking, [self.message, *outputs], **SLOW)
        self.model.input(self._model_chosen, self.model, [self.loaders, self.depths], **QUIET)
        self.compared.input(self._look, looking, outputs, **QUIET)
        self.keep.click(self._keep, [self.name, *looking], [self.message, self.name, *outputs], **SLOW)
        self.rows.select(self._row, looking, [self.message, *outputs], **QUIET)
        ticking(SECONDS_BETWEEN_TICKS, "Hardware").tick(self._look, looking, outputs, **QUIET)
        opened = [self.model, self.loaders, self.depths, *outputs]
        when_opened(self._opened, opened, [self.model, self.shown, self.compared])

    def _outputs(self) -> list[Any]:
        parts = [self.progress, self.run, self.stop, self.result, self.keeping, self.compared, self.rows]
        return [*parts, self.shown, self.seen]

    # --- choosing -----------------------------------------------------------------------------------------------

    async def _opened(self, model: str | None, shown: str, compared: str) -> dict[Any, Any]:
        """The models there are; where none is chosen yet, the one that is loaded."""
        known = await self._models()
        outputs = await self._look("", shown, compared)
        if model in known:
            return {**outputs, self.model: gr.update(choices=_choices(known))}
        loaded = self.context.pool.status.facts
        first = str(loaded.path) if loaded is not None else next(iter(known), None)
        chosen = await self._chosen(known[first]) if first is not None else {}
        return {**outputs, **chosen, self.model: gr.update(choices=_choices(known), value=first)}

    async def _models(self) -> dict[str, ModelFacts]:
        """By path: what the catalogue lists, and what is loaded from elsewhere."""
        entries = await asyncio.to_thread(self.context.catalogue.entries)
        loaded = self.context.pool.status.facts
        known = {str(entry.path): entry for entry in entries if isinstance(entry, ModelFacts)}
        return known if loaded is None else {**known, str(loaded.path): loaded}

    async def _model_chosen(self, model: str) -> dict[Any, Any]:
        known = await self._models()
        return await self._chosen(known[model]) if model in known else {self.loaders: gr.skip()}

    async def _chosen(self, facts: ModelFacts) -> dict[Any, Any]:
        candidates = await asyncio.to_thread(self.context.pool.rank, facts)
        ready = [candidate.loader for candidate in candidates if candidate.suitable]
        return {self.loaders: gr.update(value=ready), self.depths: words_of(default_depths(facts))}

    async def _request(self, held: Mapping[Any, Any]) -> BenchmarkRequest:
        """What the page asks for; the browser's word is checked. Raises `AppError`."""
        path = str(held[self.model] or "")
        facts = (await self._models()).get(path)
        if facts is None:
            entry = entry_at(await asyncio.to_thread(self.context.catalogue.entries), path)
            if isinstance(entry, BrokenModel):
                raise entry.error
            raise ModelNotFound("No model is chosen.", hint="Choose one of the list.")
        tokens = int(held[self.tokens])
        depths = depths_or_default(read_depths(str(held[self.depths] or "")), facts, tokens)
        # In the order in which they are tried, not in that of the clicks.
        chosen = tuple(name for name in self.context.loaders if name in (held[self.loaders] or ()))
        return BenchmarkRequest(facts, chosen, depths, int(held[self.runs]), tokens)

    # --- running ------------------------------------------------------------------------------------------------

    async def _run(self, held: Mapping[Any, Any]) -> dict[Any, Any]:
        try:
            self.benchmarks.start(await self._request(held))
        except AppError as error:
            return {self.message: failure_html(error, title="Not begun")}
        return {self.message: "", **await self._look("", "", str(held[self.compared] or ""))}

    async def _stop(self, seen: str, shown: str, compared: str) -> dict[Any, Any]:
        await self.benchmarks.stop()
        return {self.message: "", **await self._look("", shown, compared)}

    # --- looking ------------------------------------------------------------------------------------------------

    async def _look(self, seen: str, shown: str, compared: str) -> dict[Any, Any]:
        """What is new since the page saw `seen`: how far it is, and, where that has changed, what was found."""
        active = self.benchmarks.latest
        told = progress_of(active)
        running = self.benchmarks.running
        # The seconds count by themselves on the page.
        steps = mark_of(active and (active.step, f"{active.share:.2f}", active.stopping, active.notes), running)
        content = mark_of(self.benchmarks.changes, shown, compared)
        seen_steps, _, seen_content = (seen or "").partition("/")
        outputs: dict[Any, Any] = {}
        if steps != seen_steps:
            outputs |= {
                self.progress: told,
                self.run: gr.update(interactive=not running),
                self.stop: gr.update(visible=running),
            }
        if content != seen_content:
            outputs |= await asyncio.to_thread(self._found, shown, compared)
        return {**outputs, self.seen: f"{steps}/{content}"} if outputs else {self.seen: gr.skip()}

    def _found(self, shown: str, compared: str) -> dict[Any, Any]:
        """The benchmark that is shown, what it is compared with, and the list; reads files."""
        saved = self.benchmarks.store.all()
        one = self._shown(saved, shown)
        others = [other for other in saved if one is None or other.baseline or other.run.id != one.run.id]
        before = next((other for other in others if other.key == compared), None)
        return {
            self.result: result_html(one.run if one is not None else None, before),
            self.keeping: gr.update(visible=one is not None),
            self.compared: gr.update(
                choices=[("nothing", NOTHING), *((title_of(other), other.key) for other in others)],
                value=before.key if before is not None else NOTHING,
            ),
            self.rows: list_of_runs_html(saved, one.key if one is not None else ""),
            self.shown: shown if one is not None and one.key == shown else "",
        }

    def _shown(self, saved: Sequence[Saved], key: str) -> Saved | None:
        """The benchmark of that key; where there is none, the one that is on or was the last."""
        found = next((one for one in saved if one.key == key), None)
        if found is not None:
            return found
        active = self.benchmarks.latest
        if active is not None and active.run is not None:
            return Saved(active.run)
        return next((one for one in saved if not one.baseline), None)

    # --- keeping ------------------------------------------------------------------------------------------------

    async def _row(self, seen: str, shown: str, compared: str, event: gr.EventData) -> dict[Any, Any]:
        """A row's button: show that benchmark, or delete it."""
        what, key = str(getattr(event, "do", "")), str(getattr(event, "run", ""))
        try:
            if what == "open":
                shown = key
            elif what == "delete":
                await asyncio.to_thread(self.benchmarks.store.delete, key)
            else:
                raise InvalidRequest("The page asked for something unknown.", hint="Open the page again.")
        except AppError as error:
            return {self.message: failure_html(error), **await self._look("", shown, compared)}
        return {self.message: "", **await self._look("", shown, compared)}

    async def _keep(self, name: str, seen: str, shown: str, compared: str) -> dict[Any, Any]:
        """Keep the benchmark that is shown as a baseline."""
        store, wanted = self.benchmarks.store, (name or "").strip()
        try:
            saved = await asyncio.to_thread(store.all)
            one = self._shown(saved, shown)
            if one is None:
                raise NotFound("There is no benchmark to keep.", hint="Run one first.")
            if one.run.state == "running":
                raise InvalidRequest("The benchmark is still running.", hint="Keep it when it has ended.")
            await asyncio.to_thread(store.save_baseline, wanted, one.run)
        except AppError as error:
            return {self.message: failure_html(error, title="Not kept")}
        said = f'<p class="done" role="status">Kept as baseline {escape(wanted)}.</p>'
        return {self.message: said, self.name: "", **await self._look("", shown, compared)}


def _choices(known: Mapping[str, ModelFacts]) -> list[tuple[str, str]]:
    return sorted((model_id(facts), path) for path, facts in known.items())
