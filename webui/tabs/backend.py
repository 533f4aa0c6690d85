"""The Backend tab: a card for each backend in the order it is tried, its installation, and the choice of backend.

Everything shown is read anew when the tab is opened. What a backend needs and how it is installed is
`webui.setup`; an installation is shown as a plan first, and done when the plan is agreed to. Order
and switches are saved in the user's settings.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import gradio as gr

from webui.context import AppContext
from webui.errors import AppError, InvalidRequest
from webui.setup.installing import Work
from webui.tabs import backend_settings, migration
from webui.tabs.backend_card import SEND_ACTION, cards_html, moved
from webui.tabs.backend_install import installation_html, plan_html
from webui.tabs.controls import build_control
from webui.tabs.present import empty_html, escape, failure_html
from webui.tabs.visible import SILENT, mark_of, seen_mark, ticking, when_opened

SECONDS_BETWEEN_TICKS = 1.0
SETTINGS = ("backends.preferred_backend", "backends.gpu_enabled", "backends.fallback_enabled")
QUIET: dict[str, Any] = {"queue": False, **SILENT}


def build(context: AppContext) -> None:
    """Draw the tab where the caller stands."""
    BackendTab(context).build()


class BackendTab:
    """The components of one page's Backend tab. The installations are the app's: every page shows the same."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self.installations = context.installations

    def build(self) -> None:
        gr.HTML("<h2 class='part'>Backends, in the order they are tried</h2>")
        self.message = gr.HTML(elem_id="backend-message", elem_classes="may-be-empty")
        self.plan = gr.HTML(elem_id="backend-plan", elem_classes="may-be-empty", js_on_load=SEND_ACTION)
        self.log = gr.HTML(elem_id="backend-log", elem_classes="may-be-empty", autoscroll=True)
        self.cancel = gr.Button("Cancel the installation", size="sm", visible=False, elem_id="backend-cancel")
        self.cards = gr.HTML(empty_html("Looking at the backends …"), elem_id="backend-cards", js_on_load=SEND_ACTION)
        self.seen = seen_mark("backend")
        when_opened(self._cards, self.cards)
        for part in (self.cards, self.plan):
            part.select(self._act, None, [self.message, self.plan, self.cards], **QUIET)
        self.cancel.click(self.installations.cancel, None, None, concurrency_limit=None, api_visibility="private")
        outputs = [self.log, self.cancel, self.cards, self.seen]
        ticking(SECONDS_BETWEEN_TICKS, "Backend").tick(self._tick, self.seen, outputs, **QUIET)
        shown = _settings(self.context, self.message)
        again = gr.Button("Show again", visible="hidden", elem_id="backend-again")
        again.click(self._cards, None, self.cards, **QUIET)
        again.click(partial(_shown_now, self.context), None, shown, **QUIET)
        backend_settings.build(self.context)
        migration.build_section(self.context)

    async def _cards(self) -> str:
        hardware = await self.context.hardware()
        return await asyncio.to_thread(cards_html, self.context.settings.backends, self.context.loaders, hardware)

    async def _act(self, event: gr.EventData) -> tuple[str, str, str]:
        """Carry out what a button or switch of a card asks for; the browser's word is checked before."""
        action, name = str(getattr(event, "action", "")), str(getattr(event, "name", ""))
        plan = ""
        try:
            if name not in self.context.loaders:
                raise InvalidRequest("There is no such backend.", hint="Open the page again.")
            if action in ("up", "down"):
                await asyncio.to_thread(self._move, name, -1 if action == "up" else 1)
            elif action == "enabled":
                await asyncio.to_thread(self._switch, name, bool(getattr(event, "on", False)))
            elif action == "plan":
                plan = plan_html(await asyncio.to_thread(self.context.installer.plan, name))
            elif action in list(Work):
                self.installations.start(name, Work(action))
            elif action != "leave":
                raise InvalidRequest("The page asked for something unknown.", hint="Open the page again.")
        except AppError as error:
            return failure_html(error), "", await self._cards()
        return "", plan, await self._cards()

    def _move(self, name: str, places: int) -> None:
        order = moved(self.context.settings.backends.order, name, places)
        self.context.save_settings({"backends.fallback_order": order})

    def _switch(self, name: str, enabled: bool) -> None:
        current = self.context.settings.backends
        others = [other for other in current.order if other != name and not current.enabled(other)]
        self.context.save_settings({"backends.disabled": others if enabled else [*others, name]})

    async def _tick(self, seen: str) -> dict[Any, Any]:
        """Show the log while it grows, to every page that looks, and the cards anew at its end."""
        latest = self.installations.latest
        if latest is None:
            return {self.seen: gr.skip()}
        # Seconds count while it runs, so that the page does not stand still when pip is silent.
        now = mark_of(latest.name, latest.started_at, latest.written, int(time.time()) if latest.running else "ended")
        if now == seen:
            return {self.seen: gr.skip()}
        outputs = {self.log: installation_html(latest), self.cancel: gr.update(visible=latest.running), self.seen: now}
        if not latest.running:
            outputs[self.cards] = await self._cards()
        return outputs


def _save(context: AppContext, changes: Mapping[str, Any]) -> str:
    """Write the changes; returns what to say, which is nothing where all went well."""
    try:
        context.save_settings(changes)
    except AppError as error:
        return failure_html(error, title="Not saved")
    return ""


def _settings(context: AppContext, message: gr.HTML) -> list[Any]:
    """Which backend is taken and whether the GPU is used, each with the source of its value.

    Returns the components that `_shown_now` fills.
    """
    gr.HTML("<h2 class='part'>Choice</h2>")
    drawn: list[tuple[str, Any]] = []
    with gr.Row(elem_id="backend-choice"):
        for key in SETTINGS:
            declared = context.settings.declaration(key)
            value = context.settings.value(key)
            if key == "backends.preferred_backend":
                control: Any = gr.Dropdown(
                    ["auto", *context.settings.backends.order],
                    value=value,
                    label=declared.spec.control.label,
                    info=declared.spec.control.help,
                    interactive=True,
                    elem_id="backend-setting-preferred-backend",
                )
            else:
                control = build_control(declared.spec, prefix="backend-setting", value=value)

            drawn.append((key, control))
    sources = gr.HTML(_sources_html(context), elem_id="backend-sources")
    # The page is drawn once for everybody; what has been saved since is filled in when the tab is opened.
    shown = [*(control for _, control in drawn), sources]
    when_opened(partial(_shown_now, context), shown)
    for key, control in drawn:

        def change(new: Any, key: str = key) -> tuple[str, str]:
            return _save(context, {key: new}), _sources_html(context)

        control.input(change, control, [message, sources], **QUIET)
    return shown


def _shown_now(context: AppContext) -> list[Any]:
    return [*(context.settings.value(key) for key in SETTINGS), _sources_html(context)]


def _sources_html(context: AppContext) -> str:
    """Where each value comes from: what is saved here gives way to the environment and the command line."""
    settings = context.settings
    items = "".join(
        f"<li>{escape(settings.declaration(key).spec.control.label)}: {escape(_shown(settings.value(key)))} "
        f'<span class="source">({escape(settings.source(key))})</span></li>'
        for key in SETTINGS
    )
    return f'<ul class="sources">{items}</ul>'


def _shown(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
