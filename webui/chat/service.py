"""Conversations that are answered: what the Chat tab does, without the tab.

A reply is a job of the pool. The service follows it to its end and writes it to the store whether or not a page is
open; a reply that was stopped or broke off is kept as far as it came, with the cause and, once that is known, with what
became of the engine. An earlier message that is edited cuts what came after it; there are no branches. One reply at a
time is written per conversation.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from webui.chat.conversations import Conversation, ConversationStore, Message
from webui.chat.exchange import THEN, Exchange
from webui.chat.presets import PresetStore
from webui.chat.prompting import Hooks, Prompter, Question
from webui.chat.recovery import died, recovery_of
from webui.errors import AppError, Busy, InvalidRequest
from webui.loaders.sampling import SamplingParameters
from webui.pool import Job, JobState, Pool
from webui.settings import Settings

log = logging.getLogger(__name__)

FIRST_SAVE_SECONDS = 0.25
SAVE_SECONDS = 2.0
"""How often a growing reply is written down: what a crash of the app itself can cost. Often at first, since the loss of
two seconds is the loss of all of a reply that has just begun; each pause is twice the one before, up to the second."""


@dataclass(slots=True)
class _Reply:
    """A reply under way. `message` is its row as it was when it began: empty, or the reply that is continued."""

    message: Message
    exchange: Exchange
    task: asyncio.Task[None] | None = None

    @property
    def job(self) -> Job:
        return self.exchange.job

    @property
    def start(self) -> str:
        """The text before the job's: a reply that is continued, or an opened reasoning."""
        return self.message.content or self.exchange.opening

    def models(self) -> list[str]:
        """Who wrote it, in order, as far as anything was written."""
        before = self.message.model.split(THEN) if self.message.content and self.message.model else []
        return [*before, *(name for name in self.exchange.models if [name] != before[-1:])]

    def row(self, **changes: Any) -> Message:
        """The message as it stands."""
        models, job = self.models(), self.job
        text = self.start + job.text if job.text or self.message.content else ""
        shared: tuple[str, ...] = ()
        if len(models) == 2:
            shared = (f"The rest was written by {models[1]}.",)
        elif len(models) > 2:
            shared = (f"Written by {THEN.join(models)}.",)
        notes = (*self.exchange.prepared.notes, *shared)
        row = replace(self.message, content=text, partial=True, loader=job.loader, model=THEN.join(models), notes=notes)
        return replace(row, **changes)


class ChatService:
    """See the module. All methods belong to the pool's event loop."""

    def __init__(
        self,
        pool: Pool,
        store: ConversationStore,
        presets: PresetStore,
        settings: Callable[[], Settings],
        hooks: Hooks,
    ) -> None:
        self._pool = pool
        self._store = store
        self._presets = presets
        self._settings = settings
        self._hooks = hooks
        self.prompter = Prompter(pool, hooks)
        self._replies: dict[str, _Reply] = {}
        self._preparing: set[str] = set()
        self._recoveries: set[asyncio.Task[None]] = set()
        self._first_kept: dict[str, tuple[Path, int, str]] = {}

    # --- asking -------------------------------------------------------------------------------------------------

    async def send(
        self, chat_id: str, text: str, *, sampling: SamplingParameters | None = None, system_prompt: str | None = None
    ) -> Job:
        """Add the user's message and begin the reply.

        Without `sampling` and `system_prompt` the conversation's own hold; those given are kept with it. Raises `Busy`
        while a reply is written or the queue is full, `NotLoaded`, `TemplateFailed`, `ContextTooLong`, `NotFound`;
        the message is not added then.
        """
        if not text.strip():
            raise InvalidRequest("The message is empty.", hint="Write something first.")
        asked = {"role": "user", "content": text}

        def begin() -> Message:
            self._store.append(chat_id, "user", text)
            return self._store.begin_reply(chat_id)

        return await self._answer(chat_id, begin, added=[asked], sampling=sampling, system_prompt=system_prompt)

    async def regenerate(
        self, chat_id: str, *, sampling: SamplingParameters | None = None, system_prompt: str | None = None
    ) -> Job:
        """Answer the last of the user's messages anew; the reply it had goes once the new one has begun."""
        messages = self._store.get(chat_id).messages
        last = max((at for at, message in enumerate(messages) if message.role == "user"), default=None)
        if last is None:
            raise InvalidRequest("There is no message to answer.", hint="Write a message first.")

        def begin() -> Message:
            self._store.truncate(chat_id, messages[last].id, keep=True)
            return self._store.begin_reply(chat_id)

        return await self._answer(chat_id, begin, upto=last + 1, sampling=sampling, system_prompt=system_prompt)

    async def continue_reply(
        self, chat_id: str, *, sampling: SamplingParameters | None = None, system_prompt: str | None = None
    ) -> Job:
        """Let the model write on where its last reply ended. Until it ends, the reply is not among the messages."""
        messages = self._store.get(chat_id).messages
        if not messages or messages[-1].role != "assistant" or not messages[-1].content:
            raise InvalidRequest("There is no reply to continue.", hint="Send a message first.")

        def begin() -> Message:
            return self._store.resume_reply(chat_id, messages[-1].id)

        return await self._answer(chat_id, begin, goes_on=True, sampling=sampling, system_prompt=system_prompt)

    # --- changing -----------------------------------------------------------------------------------------------

    async def edit(self, chat_id: str, message_id: str, text: str) -> None:
        """Change a message. After one of the user's, everything later is removed, and `regenerate` answers it; a reply
        is changed in place. Raises `Busy` while a reply is written.
        """
        self._refuse_while_answering(chat_id)
        if not text.strip():
            raise InvalidRequest("The message is empty.", hint="Undo removes a message.")
        message = self._store.get(chat_id).message(message_id)
        self._store.replace(chat_id, message_id, text)
        if message.role == "user":
            self._store.truncate(chat_id, message_id, keep=True)

    async def undo(self, chat_id: str) -> str:
        """Remove the last turn, stopping its reply if it is being written; returns the user's text (or "")."""
        await self._end_reply(chat_id)
        messages = self._store.get(chat_id).messages
        asked = next((message for message in reversed(messages) if message.role == "user"), None)
        if asked is not None:
            self._store.truncate(chat_id, asked.id)
        elif messages:
            self._store.truncate(chat_id, messages[0].id)
        return asked.content if asked else ""

    async def delete(self, chat_id: str) -> None:
        """Remove the conversation; its reply is stopped."""
        await self._end_reply(chat_id)
        self._first_kept.pop(chat_id, None)
        self._store.delete(chat_id)

    # --- replies under way --------------------------------------------------------------------------------------

    def active_job(self, chat_id: str) -> Job | None:
        """The job that writes in this conversation, until its reply is stored."""
        reply = self._replies.get(chat_id)
        return reply.job if reply else None

    def reply_start(self, chat_id: str) -> str:
        """The text that stands before `active_job(chat_id).text` in the reply; usually empty."""
        reply = self._replies.get(chat_id)
        return reply.start if reply else ""

    def stop(self, chat_id: str) -> None:
        """End this conversation's reply, and no other's; nothing happens if there is none."""
        if (reply := self._replies.get(chat_id)) is not None:
            reply.job.cancel()

    async def settled(self, chat_id: str) -> None:
        """Return when this conversation's reply, if there is one under way, is in the store."""
        reply = self._replies.get(chat_id)
        if reply is not None and reply.task is not None:
            await asyncio.wait([reply.task])

    async def close(self) -> None:
        """Stop every reply and write what there is of it. Call it while the pool still lives."""
        tasks = [reply.task for reply in self._replies.values() if reply.task is not None]
        for reply in self._replies.values():
            reply.job.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        for recovery in self._recoveries:
            recovery.cancel()
        if self._recoveries:
            await asyncio.wait(self._recoveries)

    # --- how it goes --------------------------------------------------------------------------------------------

    async def _answer(
        self,
        chat_id: str,
        begin: Callable[[], Message],
        *,
        sampling: SamplingParameters | None,
        system_prompt: str | None,
        added: list[dict[str, Any]] | None = None,
        upto: int | None = None,
        goes_on: bool = False,
    ) -> Job:
        """Prepare, submit, and only then change the store through `begin`, which returns the reply's row."""
        self._refuse_while_answering(chat_id)
        conversation = self._store.get(chat_id)
        chosen = sampling if sampling is not None else self._sampling(conversation)
        prompt = conversation.system_prompt if system_prompt is None else system_prompt
        self._preparing.add(chat_id)
        try:
            kept = [message for message in conversation.messages[:upto] if message.content]
            system = [{"role": "system", "content": prompt}] if prompt.strip() else []
            history = [{"role": message.role, "content": message.content} for message in kept]
            question = Question(
                messages=[*system, *history, *(added or ())],
                sampling=chosen,
                cache_key=chat_id,
                continue_final=goes_on,
                trim=True,
                keep_from=len(system) + self._kept_from(chat_id, kept),
            )
            exchange = await Exchange.begin(self.prompter, question)
            job = exchange.submit(chat_id)
        finally:
            self._preparing.discard(chat_id)
        try:
            message = begin()
            self._store.configure(
                chat_id, system_prompt=prompt, sampling=None if sampling is None else sampling.changed()
            )
        except BaseException:
            job.cancel()
            raise
        self._keep_beginning(chat_id, exchange, kept, len(system))
        reply = _Reply(message, exchange)
        self._replies[chat_id] = reply
        reply.task = asyncio.create_task(self._follow(chat_id, reply))
        return job

    async def _follow(self, chat_id: str, reply: _Reply) -> None:
        """Write the reply down while it grows and when it has ended."""
        job, waiter = reply.job, asyncio.create_task(reply.job.wait())
        saved, pause = "", FIRST_SAVE_SECONDS
        try:
            while not (await asyncio.wait([waiter], timeout=pause))[0]:
                pause = min(2 * pause, SAVE_SECONDS)
                if job.text != saved:
                    saved = job.text
                    self._store.save_progress(reply.row())
            self._write(reply)
        except sqlite3.Error:
            log.exception("A reply could not be written to %s", self._store.path)
        finally:
            waiter.cancel()
            del self._replies[chat_id]

    def _write(self, reply: _Reply) -> None:
        job, row = reply.job, reply.row(timings=timings(reply.job))
        if not row.content and job.state is JobState.CANCELLED:
            self._store.drop_reply(reply.message.id)
            return
        reply.exchange.remember()
        if job.state is JobState.DONE:
            row = replace(row, content=self._hooks.change_reply(row.content), partial=False, error=None)
        elif job.state is JobState.FAILED and job.error is not None:
            row = replace(row, error=job.error.to_dict())
        else:
            row = replace(row, error=None)
        self._store.finish_reply(row)
        if job.error is not None and died(job.error):
            task = asyncio.create_task(self._note_recovery(row.id, self._pool.status.pid))
            self._recoveries.add(task)
            task.add_done_callback(self._recoveries.discard)

    async def _note_recovery(self, message_id: str, dead: int | None) -> None:
        """Wait for what becomes of an engine that died in a reply, and write it beneath the reply."""
        sentence = await recovery_of(self._pool, dead)
        if sentence:
            self._store.add_note(message_id, sentence)

    async def _end_reply(self, chat_id: str) -> None:
        self.stop(chat_id)
        await self.settled(chat_id)
        self._refuse_while_answering(chat_id)

    def _refuse_while_answering(self, chat_id: str) -> None:
        if chat_id in self._replies or chat_id in self._preparing:
            raise Busy("The reply is still being written.", hint="Wait for it, or stop it first.")

    def _sampling(self, conversation: Conversation) -> SamplingParameters:
        """The conversation's own values over those of its preset, or of the default one."""
        preset = conversation.preset or self._settings().chat.default_preset
        try:
            base = self._presets.get(preset).changed()
        except AppError as error:
            log.warning("Preset %s is not used: %s", preset, error.message)
            base = {}
        return SamplingParameters.parse({**base, **conversation.sampling}, where="the conversation's sampling")

    def _keep_beginning(self, chat_id: str, exchange: Exchange, kept: list[Message], system: int) -> None:
        prepared = exchange.prepared
        first = prepared.first_kept - system
        if prepared.model is not None and prepared.notes and first < len(kept):
            self._first_kept[chat_id] = (prepared.facts.path, prepared.model.context_size, kept[first].id)

    def _kept_from(self, chat_id: str, kept: list[Message]) -> int:
        """Where the prompt began last time, so that it begins there again and the engine's cache holds.

        A model with another context starts anew: it may hold more.
        """
        status, known = self._pool.status, self._first_kept.get(chat_id)
        if known is None or status.model is None or status.facts is None:
            return 0
        path, context_size, first = known
        if (path, context_size) != (status.facts.path, status.model.context_size):
            return 0
        return next((at for at, message in enumerate(kept) if message.id == first), 0)


def timings(job: Job) -> dict[str, Any]:
    """Counts and times of an ended job as JSON types; seconds, tokens, tokens per second."""
    values: dict[str, Any] = {
        "first_token_seconds": job.first_token_seconds,
        "total_seconds": job.total_seconds,
        "tokens_per_second": job.tokens_per_second,
        "completion_tokens": job.tokens,
    }
    if job.finished is not None:
        values.update(job.finished.to_dict())
        values["finish_reason"] = values.pop("reason")
        values["ignored_sampling"] = list(values["ignored_sampling"])
    return values
