"""The Chat tab's side panel: preset, system prompt, samplers.

What it holds is kept on the server in the page's `Seat`, and in the conversation once there is one, by the controls'
own events; so a message is sent with three inputs and not with thirty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from webui.chat.conversations import Conversation
from webui.context import AppContext
from webui.errors import AppError
from webui.loaders.parameters import controls
from webui.loaders.sampling import SamplingParameters
from webui.pool import Job
from webui.tabs import extension_panels
from webui.tabs.controls import build_group, read_values, show_values
from webui.tabs.present import one_sentence
from webui.tabs.status import Item
from webui.tabs.visible import SILENT

QUIET: dict[str, Any] = {**SILENT}
"""For events that change something small: no spinner over their outputs, and no entry in the page's API."""


@dataclass(frozen=True)
class Asked:
    """A question: its text, the conversation as it was before (None for a new one), and the id of the one it is in."""

    text: str
    before: Conversation | None
    target: str


@dataclass
class Seat:
    """One open page: which reply it watches, how far back it shows, and what its panel says.

    `key` is what the page asks ahead of its events with, and `asked` a question that came so and whose event has not
    come yet. `starting` is there from a question until its job is, so that a second Enter does not ask twice and Stop
    has something to stop. `view` counts up whenever the page turns to something else; a stream that finds another
    number than its own ends. `following` is the view of the stream that is on, or 0, and `question` what it answers.
    `idle` is what the column was last told while nothing was going on, `noted` the last message it shows with the notes
    beneath it, `answering` who its last line says will answer. `chat_id` is the conversation shown, "" a new one; it is
    None until the page has said which one it shows, which it does again when the server was started anew under it.
    """

    key: str = ""
    asked: Asked | None = None
    starting: asyncio.Task[Job] | None = None
    idle: str = ""
    noted: tuple[str, ...] = ()
    answering: list[Item] = field(default_factory=list)
    view: int = 0
    following: int = 0
    question: str = ""
    chat_id: str | None = None
    shown: int = 0
    search: str = ""
    preset: str = ""
    system_prompt: str = ""
    sampling: SamplingParameters = field(default_factory=SamplingParameters)

    def where(self, said: str) -> str:
        """The conversation shown. The page's own word, `said`, counts only if the server does not know."""
        return said if self.chat_id is None else self.chat_id

    def turn(self) -> int:
        """Turn to something else; returns the new view's number."""
        self.view += 1
        return self.view


class Panel:
    """The components of the panel and what happens when they change."""

    def __init__(self, context: AppContext, seat: gr.State, chat_id: Component) -> None:
        self._context = context
        start = fresh_seat(context)
        with gr.Column(elem_id="chat-panel", min_width=0):
            self.preset = gr.Dropdown(
                choices=list(context.presets.names()),
                value=start.preset,
                label="Preset",
                info=_describe(context, start.preset),
                elem_id="chat-preset",
            )
            with gr.Accordion("Save or delete presets", open=False, elem_id="chat-preset-edit"):
                self.name = gr.Textbox(label="Name", max_lines=1, elem_id="chat-preset-name")
                with gr.Row(elem_id="chat-preset-buttons"):
                    save = gr.Button("Save preset", size="sm", elem_id="chat-preset-save")
                    delete = gr.Button("Delete preset", size="sm", elem_id="chat-preset-delete")
            self.system_prompt = gr.Textbox(
                value=start.system_prompt,
                label="System prompt",
                info="Said to the model before every conversation turn.",
                lines=3,
                max_lines=12,
                elem_id="chat-system-prompt",
            )
            self.samplers = build_group(SamplingParameters, "sampling", show_values(start.sampling))
            extension_panels.build(context, "chat")
        self._wire(seat, chat_id, save, delete)

    @property
    def components(self) -> list[Component]:
        """All that `show` fills."""
        return [self.preset, self.system_prompt, *self.samplers.values()]

    def show(self, seat: Seat) -> dict[Block, Any]:
        """Updates that make the panel say what `seat` holds."""
        shown: dict[Block, Any] = {
            self.preset: gr.Dropdown(
                choices=list(self._context.presets.names()),
                value=seat.preset or None,
                info=_describe(self._context, seat.preset),
            ),
            self.system_prompt: seat.system_prompt,
        }
        values = show_values(seat.sampling)
        return shown | {component: values[name] for name, component in self.samplers.items()}

    def _wire(self, seat: gr.State, chat_id: Component, save: gr.Button, delete: gr.Button) -> None:
        changed = [component.input for component in (self.system_prompt, *self.samplers.values())]  # type: ignore[attr-defined]
        gr.on(
            changed,
            self._keep,
            [seat, chat_id, self.system_prompt, *self.samplers.values()],
            None,
            trigger_mode="always_last",
            **QUIET,
        )
        self.preset.input(self._choose, [seat, chat_id, self.preset], self.components, **QUIET)
        outputs = [*self.components, self.name]
        shown = [seat, chat_id, self.name, *self.samplers.values()]
        gr.on([save.click, self.name.submit], self._save, shown, outputs, **QUIET)
        delete.click(self._delete, [seat, self.name, self.preset], outputs, **QUIET)

    async def _keep(self, seat: Seat, chat_id: str, system_prompt: str, *samplers: Any) -> None:
        try:
            seat.sampling = _sampling(samplers)
            seat.system_prompt = system_prompt
            self._keep_in_chat(seat, chat_id)
        except AppError as error:
            gr.Warning(one_sentence(error), title="Not changed")

    async def _choose(self, seat: Seat, chat_id: str, name: str | None) -> dict[Block, Any]:
        try:
            seat.sampling = self._context.presets.get(name or "")
            seat.preset = name or ""
            self._keep_in_chat(seat, chat_id)
        except AppError as error:
            gr.Warning(one_sentence(error))
        return self.show(seat)

    async def _save(self, seat: Seat, chat_id: str, name: str, *samplers: Any) -> dict[Block, Any]:
        """What the page shows is saved; word of the last change may still be on its way."""
        try:
            seat.sampling = _sampling(samplers)
            self._context.presets.save(name.strip(), seat.sampling)
            seat.preset = name.strip()
            self._keep_in_chat(seat, chat_id)
        except AppError as error:
            gr.Warning(one_sentence(error), title="Not saved")
            return {self.name: gr.skip()}
        gr.Info(f"Preset “{seat.preset}” saved.")
        return {**self.show(seat), self.name: ""}

    async def _delete(self, seat: Seat, name: str, chosen: str | None) -> dict[Block, Any]:
        doomed = name.strip() or chosen or ""
        try:
            self._context.presets.delete(doomed)
        except AppError as error:
            gr.Warning(one_sentence(error), title="Not deleted")
            return {self.name: gr.skip()}
        if seat.preset not in self._context.presets.names():
            seat.preset = ""
        gr.Info(f"Preset “{doomed}” deleted.")
        return {**self.show(seat), self.name: ""}

    def _keep_in_chat(self, seat: Seat, chat_id: str) -> None:
        if seat.where(chat_id):
            self._context.store.configure(
                seat.where(chat_id),
                system_prompt=seat.system_prompt,
                preset=seat.preset,
                sampling=seat.sampling.changed(),
            )


def fresh_seat(context: AppContext) -> Seat:
    """What a page holds before there is a conversation: the default preset and system prompt."""
    seat = Seat(shown=context.settings.chat.shown_messages, system_prompt=context.settings.chat.system_prompt)
    name = context.settings.chat.default_preset
    if name in context.presets.names():
        seat.preset, seat.sampling = name, context.presets.get(name)
    return seat


def take_from(seat: Seat, conversation: Conversation) -> None:
    """Fill the panel's part of `seat` with what `conversation` was last used with."""
    seat.preset = conversation.preset
    seat.system_prompt = conversation.system_prompt
    known: Mapping[str, Any] = conversation.sampling
    seat.sampling = SamplingParameters.parse(known, where="this conversation's saved sampling")


def _sampling(values: Sequence[Any]) -> SamplingParameters:
    """What the controls say, in their order."""
    named = dict(zip((spec.name for spec in controls(SamplingParameters)), values, strict=True))
    return SamplingParameters.parse(read_values(SamplingParameters, named))


def _describe(context: AppContext, name: str) -> str:
    return context.presets.description(name) if name in context.presets.names() else ""
