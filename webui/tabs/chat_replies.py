"""What the Chat tab does: send, stop, regenerate, continue, edit, undo, and following a reply as it is written.

A reply is a job of the server. The handlers here start one or find the one that runs, and follow it into the page's
live element until it ends or the page turns to something else; ending a handler never ends a job. While a reply grows,
only the live element and the status line are sent; the Chatbot with its history is brought up to date once, at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import Block

from webui.chat.conversations import Conversation
from webui.context import AppContext
from webui.errors import AppError, Busy, NotFound
from webui.pool import Job
from webui.tabs.chat_list import list_html
from webui.tabs.chat_moments import first_text, moments
from webui.tabs.chat_panel import Asked, Panel, Seat, fresh_seat, take_from
from webui.tabs.chat_transcript import CONTINUE, live_markdown, question_html, read_literally, rows_of
from webui.tabs.chat_words import refusal_html, waiting_html
from webui.tabs.present import one_sentence, plural
from webui.tabs.status import model_items, reply_html

GRACE_SECONDS = 0.05
"""How long the page is not told of something that may be over before it could have drawn it."""

Updates = dict[Block, Any]


@dataclass(frozen=True)
class Parts:
    """The components that the handlers fill."""

    chat_id: gr.Textbox
    key: gr.Textbox
    listing: gr.HTML
    empty: gr.HTML
    earlier: gr.Button
    log: gr.Chatbot
    question: gr.HTML
    live: gr.Markdown
    message: gr.Textbox
    status: gr.HTML

    def outputs(self) -> list[Any]:
        """All of them, in a fixed order."""
        return [getattr(self, name) for name in self.__dataclass_fields__]


class Replies:
    """The handlers. Each gets the page's seat and its conversation's id, which is empty before the first message."""

    def __init__(self, context: AppContext, parts: Parts, panel: Panel, empty_html: Callable[[], str]) -> None:
        self._context = context
        self._parts = parts
        self._panel = panel
        self._empty_html = empty_html

    # --- turning to a conversation -------------------------------------------------------------------------------

    async def open(self, seat: Seat, chat_id: str) -> AsyncIterator[Updates]:
        """Show the conversation, or a new one if there is none of that id, and follow the reply under way."""
        view = seat.turn()
        seat.key = seat.key or self._context.first_words.open(lambda text: self.ask_ahead(seat, text))
        seat.shown = self._context.settings.chat.shown_messages
        conversation = self._find(chat_id)
        seat.chat_id, seat.question = conversation.id if conversation else "", ""
        if conversation is None:
            self._reset(seat)
            yield {**self._transcript(seat, None), **self._panel.show(seat)}
            return
        try:
            take_from(seat, conversation)
        except AppError as error:
            gr.Warning(one_sentence(error))
        yield {**self._transcript(seat, conversation), **self._panel.show(seat)}
        job = self._context.chats.active_job(conversation.id)
        if job is not None:
            async for updates in self._follow(seat, view, conversation.id, job):
                yield updates

    async def list_click(self, seat: Seat, chat_id: str, event: gr.EventData) -> AsyncIterator[Updates]:
        """A click in the list of conversations: open, rename or delete."""
        chat_id = seat.where(chat_id)
        target, action = str(event.id), str(event.do)
        try:
            if action == "rename":
                self._context.store.rename(target, str(event.title))
            elif action == "delete":
                await self._context.chats.delete(target)
        except AppError as error:
            gr.Warning(one_sentence(error))
        if action == "open" or (action == "delete" and target == chat_id):
            async for updates in self.open(seat, target if action == "open" else ""):
                yield updates
        else:
            yield {self._parts.listing: self._listing(seat, chat_id)}

    async def search(self, seat: Seat, chat_id: str, search: str) -> str:
        """The list of the conversations that have the words of `search`."""
        chat_id = seat.where(chat_id)
        seat.search = search
        return self._listing(seat, chat_id)

    async def show_earlier(self, seat: Seat, chat_id: str) -> Updates:
        """Show as many messages again before those that are shown."""
        chat_id = seat.where(chat_id)
        seat.shown += self._context.settings.chat.shown_messages
        conversation = self._find(chat_id)
        rows, hidden = rows_of(conversation.messages if conversation else (), seat.shown)
        return {self._parts.log: [row.shown for row in rows], self._parts.earlier: _earlier(hidden)}

    # --- asking --------------------------------------------------------------------------------------------------

    async def send(self, seat: Seat, chat_id: str, text: str) -> AsyncIterator[Updates]:
        """Ask, or join what `ask_ahead` has asked, and follow the answer. What could not be asked stays in the field.

        The engine is set to work before the page hears anything: what the page draws first then costs no time.
        """
        chat_id = seat.where(chat_id)
        asked = self._ahead(seat, text)
        if asked is None:
            if not text.strip() or seat.starting or self._is_answering(chat_id):
                return
            asked = self._ask(seat, chat_id, text)
        parts, conversation = self._parts, asked.before
        shown: Updates = {parts.message: "", parts.question: question_html(text)}
        # Only what changes: each element that is sent is drawn before the first words are.
        if conversation is None or not conversation.messages:
            shown |= {parts.empty: "", parts.chat_id: asked.target, parts.listing: self._listing(seat, asked.target)}
        problem = ""
        try:
            if not await self._soon(seat):
                yield {**shown, **self._waiting()}
            job = await self._started(seat)
        except AppError as error:
            job, problem = None, refusal_html(self._context.pool.status, error)
        if job is None:
            if conversation is None:
                self._context.store.delete(asked.target)
            yield {**self._transcript(seat, self._find(chat_id)), parts.question: problem, parts.message: text}
            return
        seat.chat_id, seat.question = asked.target, shown[parts.question]
        async for updates in self._follow(seat, seat.turn(), asked.target, job, first=shown):
            yield updates

    async def ask_ahead(self, seat: Seat, text: str) -> Job | None:
        """Ask before Gradio's event for it has come; `send` joins it. None if nothing may be asked, or it failed."""
        if seat.asked is not None and seat.starting is not None and seat.starting.done():
            seat.asked = seat.starting = None  # an event that never came
        chat_id = seat.chat_id or ""
        if seat.chat_id is None or not text.strip() or seat.starting or self._context.chats.active_job(chat_id):
            return None
        seat.asked = self._ask(seat, chat_id, text)
        task = seat.starting
        assert task is not None
        await asyncio.wait({task})
        return None if task.cancelled() or task.exception() else task.result()

    async def regenerate(self, seat: Seat, chat_id: str) -> AsyncIterator[Updates]:
        """Answer the last question anew."""
        chat_id = seat.where(chat_id)
        chats = self._context.chats
        async for updates in self._again(
            seat, chat_id, lambda: chats.regenerate(chat_id, sampling=seat.sampling, system_prompt=seat.system_prompt)
        ):
            yield updates

    async def continue_reply(self, seat: Seat, chat_id: str) -> AsyncIterator[Updates]:
        """Go on from where the last reply ended."""
        chat_id = seat.where(chat_id)
        chats = self._context.chats
        async for updates in self._again(
            seat,
            chat_id,
            lambda: chats.continue_reply(chat_id, sampling=seat.sampling, system_prompt=seat.system_prompt),
        ):
            yield updates

    async def choose(self, seat: Seat, chat_id: str, event: gr.SelectData) -> AsyncIterator[Updates]:
        """A button of a reply that failed: go on, or ask again."""
        act = self.continue_reply if event.value == CONTINUE else self.regenerate
        async for updates in act(seat, chat_id):
            yield updates

    async def edit(self, seat: Seat, chat_id: str, event: gr.EditData) -> AsyncIterator[Updates]:
        """Change a message in place. A changed question is answered anew, and what came after it goes."""
        chat_id = seat.where(chat_id)
        conversation = self._find(chat_id)
        rows, _ = rows_of(conversation.messages if conversation else (), seat.shown)
        index = event.index if isinstance(event.index, int) else event.index[0]
        if conversation is None or index >= len(rows) or rows[index].part == "note":
            yield self._transcript(seat, conversation)
            return
        row, text = rows[index], read_literally(str(event.value))
        try:
            await self._context.chats.edit(chat_id, row.message_id, text)
        except AppError as error:
            gr.Warning(one_sentence(error), title="Not changed")
        else:
            if conversation.message(row.message_id).role == "user":
                async for updates in self.regenerate(seat, chat_id):
                    yield updates
                return
        yield self._transcript(seat, self._find(chat_id))

    async def undo(self, seat: Seat, chat_id: str) -> Updates:
        """Take the last question and its answer back; the question returns to the field."""
        chat_id = seat.where(chat_id)
        seat.turn()
        try:
            text = await self._context.chats.undo(chat_id)
        except AppError as error:
            gr.Warning(one_sentence(error))
            return self._transcript(seat, self._find(chat_id))
        return {**self._transcript(seat, self._find(chat_id)), self._parts.message: text}

    async def stop(self, seat: Seat, chat_id: str) -> None:
        """End this conversation's reply, and no other."""
        chat_id = seat.where(chat_id)
        if seat.starting is not None:
            seat.starting.cancel()
        self._context.chats.stop(chat_id)

    async def idle(self, seat: Seat, chat_id: str) -> Updates:
        """While nothing goes on: what can be asked of whom, who answers, as models come and go, and what became of an
        engine that died in the last reply. Sent only when it has changed.
        """
        chat_id = seat.where(chat_id)
        parts = self._parts
        updates: Updates = {parts.empty: gr.skip(), parts.log: gr.skip(), parts.status: gr.skip()}
        conversation = self._find(chat_id)
        if seat.starting or (conversation and self._context.chats.active_job(chat_id)):
            return updates
        status = self._context.pool.status
        if model_items(status) != seat.answering:
            seat.answering, updates[parts.status] = model_items(status), reply_html(status)
        empty = "" if conversation and conversation.messages else self._empty_html()
        if empty != seat.idle:
            seat.idle = updates[parts.empty] = empty
        if conversation and seat.noted and _noted(conversation) != seat.noted:
            rows, _ = rows_of(conversation.messages, seat.shown)
            seat.noted, updates[parts.log] = _noted(conversation), [row.shown for row in rows]
        return updates

    # --- pieces --------------------------------------------------------------------------------------------------

    async def _again(
        self, seat: Seat, chat_id: str, start: Callable[[], Coroutine[Any, Any, Job]]
    ) -> AsyncIterator[Updates]:
        if self._find(chat_id) is None or seat.starting or self._is_answering(chat_id):
            return
        try:
            self._begin(seat, start())
            if not await self._soon(seat):
                yield self._waiting()
            job = await self._started(seat)
        except AppError as error:
            problem = refusal_html(self._context.pool.status, error)
            yield {**self._transcript(seat, self._find(chat_id)), self._parts.question: problem}
            return
        seat.chat_id, seat.question = chat_id, ""
        first = self._transcript(seat, self._find(chat_id))
        if job is None:
            yield first
            return
        async for updates in self._follow(seat, seat.turn(), chat_id, job, first=first):
            yield updates

    def _ahead(self, seat: Seat, text: str) -> Asked | None:
        """What was asked ahead, if it is this text; an older question whose event never came is forgotten."""
        asked, seat.asked = seat.asked, None
        if asked is not None and asked.text != text:
            seat.starting = None
            return None
        return asked

    def _ask(self, seat: Seat, chat_id: str, text: str) -> Asked:
        conversation = self._find(chat_id)
        target = conversation.id if conversation else self._create(seat)
        self._begin(
            seat,
            self._context.chats.send(target, text, sampling=seat.sampling, system_prompt=seat.system_prompt),
        )
        return Asked(text, conversation, target)

    def _begin(self, seat: Seat, start: Coroutine[Any, Any, Job]) -> None:
        """Set the engine to work."""
        seat.starting = asyncio.create_task(start)
        # A page that is closed meanwhile asks for the outcome no more; the reply is made all the same.
        seat.starting.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _soon(self, seat: Seat) -> bool:
        """Whether the job is there almost at once; else the page should say so (a model that still loads)."""
        assert seat.starting is not None
        done, _ = await asyncio.wait({seat.starting}, timeout=GRACE_SECONDS)
        return bool(done)

    async def _started(self, seat: Seat) -> Job | None:
        """The job that `_begin` set to work, or None if it was stopped before it was there. Raises what went wrong."""
        task = seat.starting
        assert task is not None
        try:
            # Not awaited itself: that would end it together with the page.
            await asyncio.wait({task})
        finally:
            seat.starting = None
        return None if task.cancelled() else task.result()

    async def _follow(
        self, seat: Seat, view: int, chat_id: str, job: Job, *, first: Updates | None = None
    ) -> AsyncIterator[Updates]:
        """The reply as it grows, and at its end the conversation at rest. `first` goes out with the first update."""
        parts, chats, pool = self._parts, self._context.chats, self._context.pool
        seat.following = view
        await first_text(job, GRACE_SECONDS)
        updates: Updates = dict(first or {})
        sent: Updates = {}
        async for now in moments(job, self._context.settings.chat.updates_per_second):
            if seat.view != view:
                yield self._repair(seat)
                return
            text = chats.reply_start(chat_id) + now.text
            shown: Updates = {
                parts.live: live_markdown(text) if text else waiting_html(pool.status, now),
                parts.status: reply_html(pool.status, now),
            }
            updates |= {part: value for part, value in shown.items() if sent.get(part) != value}
            if updates:
                with job.showing():
                    yield updates
            sent, updates = shown, {}
        await self._context.chats.settled(chat_id)
        if seat.view != view:
            yield self._repair(seat)
            return
        seat.following = 0
        rest = self._transcript(seat, self._find(chat_id))
        yield {**rest, parts.status: reply_html(self._context.pool.status, job)}

    def _repair(self, seat: Seat) -> Updates:
        """For a stream that was left: its last update may have reached the page behind the turn to something else."""
        if seat.following == seat.view:
            return {self._parts.chat_id: seat.chat_id or "", self._parts.question: seat.question}
        return self._transcript(seat, self._find(seat.chat_id or ""))

    def _transcript(self, seat: Seat, conversation: Conversation | None) -> Updates:
        """The conversation at rest."""
        parts = self._parts
        messages = conversation.messages if conversation else ()
        chat_id = conversation.id if conversation else ""
        rows, hidden = rows_of(messages, seat.shown)
        status = self._context.pool.status
        seat.noted, seat.answering = _noted(conversation), model_items(status)
        return {
            parts.chat_id: chat_id,
            parts.key: seat.key,
            parts.listing: self._listing(seat, chat_id),
            parts.empty: "" if messages else self._empty_html(),
            parts.earlier: _earlier(hidden),
            parts.log: [row.shown for row in rows],
            parts.question: "",
            parts.live: "",
            parts.status: reply_html(status),
        }

    def _waiting(self) -> Updates:
        """Something was asked, and the engine cannot begin yet."""
        status = self._context.pool.status
        return {self._parts.live: waiting_html(status), self._parts.status: reply_html(status, busy=True)}

    def _listing(self, seat: Seat, chat_id: str) -> str:
        return list_html(self._context.store.list(seat.search), chat_id, searched=seat.search.strip())

    def _find(self, chat_id: str) -> Conversation | None:
        if not chat_id:
            return None
        try:
            return self._context.store.get(chat_id)
        except NotFound:
            return None

    def _create(self, seat: Seat) -> str:
        made = self._context.store.create(
            system_prompt=seat.system_prompt, preset=seat.preset, sampling=seat.sampling.changed()
        )
        return made.id

    def _is_answering(self, chat_id: str) -> bool:
        busy = bool(chat_id) and self._context.chats.active_job(chat_id) is not None
        if busy:
            gr.Info(one_sentence(Busy("The reply is still being written", hint="Esc stops it.")))
        return busy

    def _reset(self, seat: Seat) -> None:
        fresh = fresh_seat(self._context)
        seat.preset, seat.system_prompt, seat.sampling = fresh.preset, fresh.system_prompt, fresh.sampling


def _noted(conversation: Conversation | None) -> tuple[str, ...]:
    """The last message and what stands beneath it; empty without one."""
    if conversation is None or not conversation.messages:
        return ()
    last = conversation.messages[-1]
    return (last.id, *last.notes)


def _earlier(hidden: int) -> gr.Button:
    return gr.Button(f"Show {plural(hidden, 'earlier message')}", visible=hidden > 0)
