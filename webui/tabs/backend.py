"""The Backend tab: a card for each backend in the order it is tried, its installation, and the choice of backend.

Everything shown is read anew when the tab is opened. What a backend needs and how it is installed is
`webui.setup.backends`; order and switches are saved in the user's settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import gradio as gr

from webui.context import AppContext
from webui.errors import AppError
from webui.hardware.facts import HardwareFacts
from webui.setup import backends
from webui.tabs.backend_card import card_html, installation_html, moved
from webui.tabs.backend_install import Installations
from webui.tabs.controls import build_control
from webui.tabs.present import escape, failure_html
from webui.tabs.visible import ticking, when_opened

SECONDS_BETWEEN_TICKS = 1.0
SETTINGS = ("backends.preferred_backend", "backends.gpu_enabled", "backends.fallback_enabled")


def build(context: AppContext) -> None:
    """Draw the tab where the caller stands."""
    installations = Installations(partial(backends.install, loaders=context.loaders))
    revision = gr.State(0)  # counts up whenever the cards have to be drawn anew
    gr.HTML("<h2 class='part'>Backends, in the order they are tried</h2>")
    message = gr.HTML(elem_id="backend-message", elem_classes="may-be-empty")
    _cards(context, installations, revision, message)
    _follow(installations, revision)
    _settings(context, message)


def _cards(context: AppContext, installations: Installations, revision: gr.State, message: gr.HTML) -> None:
    machine = gr.State(None)

    async def opened(drawn: int) -> tuple[HardwareFacts, int]:
        return await context.hardware(), drawn + 1

    def draw(_: int, hardware: HardwareFacts | None) -> None:
        order = [name for name in context.settings.backends.order if name in context.loaders]
        for place, name in enumerate(order, start=1):
            _card(context, installations, revision, message, name, place, len(order), hardware)

    when_opened(opened, [machine, revision], [revision])
    gr.render(inputs=[revision, machine], triggers=[revision.change], show_progress="hidden", queue=False)(draw)


def _card(
    context: AppContext,
    installations: Installations,
    revision: gr.State,
    message: gr.HTML,
    name: str,
    place: int,
    places: int,
    hardware: HardwareFacts | None,
) -> None:
    state = backends.check(name, context.loaders, hardware=hardware)
    enabled = context.settings.backends.enabled(name)
    with gr.Group(elem_id=f"backend-card-{name}", elem_classes="backend-card"):
        gr.HTML(card_html(place, context.loaders[name], state, enabled=enabled))
        with gr.Row(elem_classes="card-actions"):
            switch = gr.Checkbox(enabled, label="Enabled", elem_id=f"backend-enabled-{name}", interactive=True)
            up = gr.Button("↑ Earlier", size="sm", elem_id=f"backend-up-{name}", interactive=place > 1)
            down = gr.Button("↓ Later", size="sm", elem_id=f"backend-down-{name}", interactive=place < places)
            word = "Repair" if state.installed else "Install"
            install = gr.Button(
                word, size="sm", elem_id=f"backend-install-{name}", interactive=bool(state.requirements)
            )
    outputs = [message, revision]
    up.click(partial(_move, context, name, -1), revision, outputs, api_visibility="private")
    down.click(partial(_move, context, name, 1), revision, outputs, api_visibility="private")
    switch.input(partial(_switch, context, name), [switch, revision], outputs, api_visibility="private")
    install.click(partial(_install, installations, name), None, message, api_visibility="private")


def _move(context: AppContext, name: str, places: int, revision: int) -> tuple[str, int]:
    order = moved(context.settings.backends.order, name, places)
    return _save(context, {"backends.fallback_order": order}), revision + 1


def _switch(context: AppContext, name: str, enabled: bool, revision: int) -> tuple[str, int]:
    others = [
        other
        for other in context.settings.backends.order
        if other != name and not context.settings.backends.enabled(other)
    ]
    return _save(context, {"backends.disabled": others if enabled else [*others, name]}), revision + 1


def _save(context: AppContext, changes: Mapping[str, Any]) -> str:
    """Write the changes; returns what to say, which is nothing where all went well."""
    try:
        context.save_settings(changes)
    except AppError as error:
        return failure_html(error, title="Not saved")
    return ""


async def _install(installations: Installations, name: str) -> str:
    try:
        installations.start(name)
    except AppError as error:
        return failure_html(error)
    return ""


def _follow(installations: Installations, revision: gr.State) -> None:
    """Show the log while it grows, to every page that looks, and draw the cards anew at the end."""
    log = gr.HTML(elem_id="backend-log", elem_classes="may-be-empty", autoscroll=True)
    cancel = gr.Button("Cancel the installation", size="sm", visible=False, elem_id="backend-cancel")
    cancel.click(installations.cancel, None, None, concurrency_limit=None, api_visibility="private")
    seen = gr.State((0, False))
    timer = ticking(SECONDS_BETWEEN_TICKS, "Backend")

    def tick(before: tuple[int, bool], drawn: int) -> dict[Any, Any]:
        latest = installations.latest
        now = (latest.written, latest.running) if latest is not None else before
        if now == before and not now[1]:
            return {seen: gr.skip()}
        ended = before[1] and not now[1]
        return {
            log: installation_html(latest),
            cancel: gr.update(visible=now[1]),
            seen: now,
            **({revision: drawn + 1} if ended else {}),
        }

    outputs = [log, cancel, revision, seen]
    timer.tick(tick, [seen, revision], outputs, queue=False, show_progress="hidden", api_visibility="private")


def _settings(context: AppContext, message: gr.HTML) -> None:
    """Which backend is taken and whether the GPU is used, each with the source of its value."""
    gr.HTML("<h2 class='part'>Choice</h2>")
    drawn: list[tuple[str, Any]] = []
    with gr.Row():
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
    for key, control in drawn:

        def change(new: Any, key: str = key) -> tuple[str, str]:
            return _save(context, {key: new}), _sources_html(context)

        control.input(change, control, [message, sources], show_progress="hidden", api_visibility="private")


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
