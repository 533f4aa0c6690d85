"""The memory plan on the Model tab: bars that follow the controls.

The page's script (`plan.js`) reads the values of the loader that is shown and asks for their plan in a request of its
own, so that an edit sends less than two kilobytes and redraws nothing but the bars. How a plan looks is in
`webui.tabs.memory_bars`.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import gradio as gr
from gradio.events import Dependency

from webui.context import AppContext
from webui.errors import AppError
from webui.loaders.parameters import refuse_local
from webui.models.facts import ModelFacts
from webui.planning.memory import context_of
from webui.tabs.memory_bars import SET, as_noticed, plan_html, refused_html
from webui.tabs.model_choice import Choice, local_only
from webui.tabs.model_controls import LoaderControls
from webui.tabs.present import escape
from webui.tabs.visible import mark_of

KEPT_MODELS = 200
LOOK = "() => window.ggufPlan?.look()"

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


class PlanPanel:
    """The plan of the chosen model with the values of the controls.

    Of all pages it holds the models that were chosen last, so that a page can name its own without naming a file.
    """

    def __init__(self, context: AppContext, controls: LoaderControls) -> None:
        self.context, self.controls = context, controls
        self._chosen: OrderedDict[str, ModelFacts] = OrderedDict()
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
        self._chosen[mark] = choice.facts
        self._chosen.move_to_end(mark)
        while len(self._chosen) > KEPT_MODELS:
            self._chosen.popitem(last=False)
        return mark

    def answer(self, question: str) -> dict[str, str]:
        """The plan that the page's script asks for, and a mark of what in it is worth drawing. For any thread."""
        asked = read_question(question)
        noticed, html = self._drawn(self._chosen.get(str(asked.get("model"))), *loader_and_values(asked))
        return {"mark": mark_of(noticed), "html": html}

    def _drawn(self, facts: ModelFacts | None, loader: str, values: dict[str, Any]) -> tuple[str, str]:
        if facts is None or loader not in self.context.loaders:
            return "", ""
        try:
            held = self.controls.held(loader, values)
            parameters = self.controls.changed(loader, held)
            if not local_only(self.context.settings):
                refuse_local(self.context.loaders[loader].parameters, parameters)
            plan = self.context.plan(facts, loader, parameters)
        except AppError as error:
            html = refused_html(error)
            return html, html
        tokens = context_of(facts, self.controls.values(loader, held))
        return plan_html(as_noticed(plan), tokens), plan_html(plan, tokens)

    def _set(self, event: gr.EventData) -> dict[Any, Any]:
        """Put the parameters of an alternative into the controls."""
        loader, values = loader_and_values(read_question(str(getattr(event, "asked", ""))))
        return dict(self.controls.put(loader, values)) if loader in self.context.loaders else {}


def read_question(text: str) -> dict[str, Any]:
    """What the page's script has written; nothing where somebody else has."""
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return asked if isinstance(asked, dict) else {}


def loader_and_values(asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    values = asked.get("values")
    return str(asked.get("loader")), values if isinstance(values, dict) else {}
