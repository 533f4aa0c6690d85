"""The memory plan on the Model tab: bars that follow the controls.

The page's script (`plan.js`) reads the values of the loader that is shown and asks for their plan in a request of its
own, so that an edit sends less than two kilobytes and redraws nothing but the bars. How a plan looks is in
`webui.tabs.memory_bars`.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency

from webui.context import AppContext
from webui.errors import AppError
from webui.loaders.parameters import refuse_local
from webui.models.facts import ModelFacts
from webui.planning.memory import context_of
from webui.planning.selection import verdict_of
from webui.security import local_only
from webui.tabs.memory_bars import SET, as_noticed, plan_html, refused_html
from webui.tabs.model_choice import Choice
from webui.tabs.model_controls import LoaderControls
from webui.tabs.present import escape
from webui.tabs.visible import SILENT, mark_of

KEPT = 200
LOOK = "() => window.ggufPlan?.look()"

QUIET: dict[str, Any] = {"queue": False, **SILENT}


@dataclass(frozen=True, slots=True)
class Question:
    """What a page asks: a chosen model, a loader, what its controls hold, whether the engine itself is to answer."""

    facts: ModelFacts
    loader: str
    held: Mapping[Any, Any]
    exact: bool

    def key(self, parameters: Mapping[str, Any]) -> str:
        return mark_of(self.facts.path, self.loader, json.dumps(parameters, sort_keys=True))


class PlanPanel:
    """The plan of the chosen model with the values of the controls.

    Of all pages it holds the models that were chosen last, so that a page can name its own without naming a file.
    """

    def __init__(self, context: AppContext, controls: LoaderControls) -> None:
        self.context, self.controls = context, controls
        self._chosen: OrderedDict[str, ModelFacts] = OrderedDict()
        self._declined: OrderedDict[str, AppError] = OrderedDict()
        """Why an engine gave no figures, by load."""
        self._engine = asyncio.Lock()
        context.page_answers["plan"] = self.answer

    def build(self) -> None:
        """Draw it where the caller stands."""
        frame = f'<div data-plan="{escape(self.context.page_key)}"></div>'
        self.shown = gr.HTML(frame, js_on_load=SET, elem_id="model-plan")
        self.model = gr.Textbox(visible=False, elem_id="model-plan-model")
        """The chosen model, by the name that `name` gives it."""
        self.read = gr.Button("Plan", visible="hidden", elem_id="model-plan-read")

    def join(self, loader: gr.Dropdown, best: gr.Textbox) -> None:
        """Follow the choice of a loader, and let alternatives set the controls. Edits are the script's own affair."""
        script = self.controls.reading_script(
            "(model, asked) => window.ggufPlan.ask(JSON.stringify({model, ...asked}))"
        )
        self.read.click(None, [self.model, loader, best, *self.controls.components], None, js=script, **QUIET)
        gr.on([loader.change, best.change], None, None, None, js=LOOK, **QUIET)
        self.follow(self.shown.select(self._set, None, self.controls.components, **QUIET))

    def follow(self, event: Dependency | None) -> None:
        """Look again after an event that sets controls."""
        if event is not None:
            event.then(None, None, None, js=LOOK, **QUIET)

    def name(self, choice: Choice) -> str:
        """What the page calls the chosen model; empty where none is, or none that can be read."""
        if choice.facts is None:
            return ""
        mark = mark_of(choice.facts.path)
        keep(self._chosen, mark, choice.facts)
        return mark

    async def answer(self, text: str) -> dict[str, str]:
        """The plan that the page's script asks for, and a mark of what in it is worth drawing.

        Where the engine is to be asked, nothing: its figures come with the next plan of the same load.
        """
        question = self._question(read_text(text))
        if question is None:
            return {"mark": "", "html": ""}
        if question.exact:
            await self._ask_engine(question)
            return {}
        return await asyncio.to_thread(self._drawn, question)

    def _question(self, told: Mapping[str, Any]) -> Question | None:
        facts = self._chosen.get(str(told.get("model")))
        loader, values = loader_and_values(told)
        if facts is None or loader not in self.context.loaders:
            return None
        return Question(facts, loader, self.controls.held(loader, values), bool(told.get("exact")))

    def _parameters(self, question: Question) -> dict[str, Any]:
        """What a load would be asked for; raises as that would."""
        parameters = self.controls.changed(question.loader, question.held)
        if not local_only(self.context.started_with):
            refuse_local(self.context.loaders[question.loader].parameters, parameters)
        return parameters

    async def _ask_engine(self, question: Question) -> None:
        key = ""
        try:
            parameters = self._parameters(question)
            key = question.key(parameters)
            async with self._engine:
                await self.context.exact_plan(question.facts, question.loader, parameters)
            self._declined.pop(key, None)
        except AppError as error:
            keep(self._declined, key, error)

    def _drawn(self, question: Question) -> dict[str, str]:
        facts, spec = question.facts, self.context.loaders[question.loader]
        try:
            verdict = verdict_of(spec, facts)
            if not verdict.ok:
                raise verdict.error(verdict.reason)
            parameters = self._parameters(question)
            plan = self.context.plan(facts, question.loader, parameters)
        except AppError as error:
            html = refused_html(error)
            return {"mark": mark_of(html), "html": html}
        tokens = context_of(facts, self.controls.values(question.loader, question.held))
        declined = self._declined.get(question.key(parameters))
        noticed, html = (plan_html(one, tokens, spec.has_dry_run, declined) for one in (as_noticed(plan), plan))
        return {"mark": mark_of(noticed), "html": html}

    def _set(self, event: gr.EventData) -> dict[Any, Any]:
        """Put the parameters of an alternative into the controls."""
        loader, values = loader_and_values(read_text(str(getattr(event, "asked", ""))))
        return dict(self.controls.put(loader, values)) if loader in self.context.loaders else {}


def keep(known: OrderedDict[str, Any], key: str, value: Any) -> None:
    """Remember `value` as the newest, and forget the oldest of too many."""
    known[key] = value
    known.move_to_end(key)
    while len(known) > KEPT:
        known.popitem(last=False)


def read_text(text: str) -> dict[str, Any]:
    """What the page's script has written; nothing where somebody else has."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def loader_and_values(told: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    values = told.get("values")
    return str(told.get("loader")), values if isinstance(values, dict) else {}
