"""From messages to a generation request that fits the loaded model: template, stop strings, context, extensions.

Used by the Chat tab's service and by the API, so that the same messages make the same prompt. Tokens are counted only
where a bound on their number does not settle whether the prompt fits. When it does not, the oldest turns are left out,
somewhat more than needed: a prompt whose beginning stays the same for the next turns is found in the engine's cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from webui.chat import templates
from webui.errors import ContextTooLong, HardwareError, NotLoaded
from webui.loaders.contract import GenerationRequest, LoadedModel
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import ModelFacts
from webui.pool import Pool
from webui.pool.status import absence

REPLY_SHARE = 0.25
"""Most of the context that is kept free for the reply when choosing what to leave out."""
TRIM_TO = 0.75
"""After leaving turns out, the prompt takes at most this share of what it may."""
KNOWN_COUNTS = 32
SLACK = 8
"""Tokens by which a count may be off where two texts meet."""

Turns = list[dict[str, Any]]
Render = Callable[[Turns], Awaitable[str]]


class Hooks(Protocol):
    """What extensions may change; `webui.extensions.ExtensionHost` keeps a failing one from doing harm."""

    def change_prompt(self, prompt: str) -> str: ...

    def change_sampling(self, sampling: SamplingParameters) -> SamplingParameters: ...

    def change_reply(self, text: str) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, whichever model answers.

    With `continue_final` the last message is the assistant's and is written on; `written` counts the tokens of it that
    this question's reply length already includes. `stop` are stop strings beyond the model's and the sampling's. With
    `trim`, the oldest turns are left out as needed, and those before message `keep_from` in any case; a system message
    at the front always stays.
    """

    messages: Sequence[templates.Message]
    sampling: SamplingParameters
    stop: tuple[str, ...] = ()
    cache_key: str = ""
    continue_final: bool = False
    written: int = 0
    trim: bool = False
    keep_from: int = 0
    tools: Sequence[dict[str, Any]] | None = None

    @classmethod
    def of(cls, prompt: str, sampling: SamplingParameters, system: str = "") -> Question:
        """One prompt with nothing before it but the system prompt."""
        turns = [{"role": "system", "content": system}] if system.strip() else []
        return cls(messages=[*turns, {"role": "user", "content": prompt}], sampling=sampling)

    def going_on(self, reply: str, tokens: int) -> Question:
        """The same question with `reply`, of that many tokens, written to it so far."""
        messages = list(self.messages)
        if self.continue_final:
            reply = templates.plain_text(messages.pop().get("content")) + reply
        messages.append({"role": "assistant", "content": reply})
        return replace(self, messages=messages, continue_final=True, written=tokens)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request ready to submit.

    It was made for the model of `facts`; `model` is what its engine said of it, or `None` where it was not loaded yet,
    so that nobody knows whether the prompt fits. `opening` is the part of the reply that the prompt has already written
    (a template that opens `<think>` itself). `notes` are sentences on what was left out, `first_kept` the index of the
    first message that was kept.
    """

    request: GenerationRequest
    facts: ModelFacts
    model: LoadedModel | None
    opening: str = ""
    notes: tuple[str, ...] = ()
    first_kept: int = 0


@dataclass(slots=True)
class Prompter:
    """Makes requests for the model that is loaded, or is being loaded as the first one, or for another that takes over.

    Tokens are counted by the model that the request is for.
    """

    pool: Pool
    hooks: Hooks
    _counted: dict[str, tuple[Path, str, int]] = field(default_factory=dict)

    def facts(self) -> ModelFacts:
        """The model that will answer; raises `NotLoaded`, or `Busy` where it is set aside for a while."""
        status = self.pool.status
        facts = status.facts
        if facts is None:
            raise absence(status)
        return facts

    async def prepare(self, question: Question) -> Prepared:
        """The request for the model that will answer.

        Raises `NotLoaded`, `TemplateFailed` and, when even the last turn is too long, `ContextTooLong`.
        """
        return await self.prepare_for(self.facts(), self.pool.status.model, question)

    async def prepare_for(self, facts: ModelFacts, model: LoadedModel | None, question: Question) -> Prepared:
        """The request for the model of `facts`; `model` is `None` where it is not loaded yet. Raises as `prepare`."""
        sampling = self.hooks.change_sampling(question.sampling)
        if sampling.max_tokens > 0 and question.written:
            sampling = sampling.model_copy(update={"max_tokens": max(1, sampling.max_tokens - question.written)})

        async def render(turns: Turns) -> str:
            # In a thread: a template is a program out of a file and may take its full time.
            prompt = await asyncio.to_thread(
                templates.render, turns, facts, continue_final=question.continue_final, tools=question.tools
            )
            return self.hooks.change_prompt(prompt)

        turns = [dict(message) for message in question.messages]
        first = 0
        notes: tuple[str, ...] = ()
        if question.trim:
            known = self._known_count(question.cache_key, facts)
            try:
                prompt, first = await self._fit(turns, sampling, render, question.keep_from, model, known)
            except (HardwareError, NotLoaded):
                # The engine died while it counted: whatever model comes next counts again.
                model = None
                prompt, first = await self._fit(turns, sampling, render, question.keep_from, None, known)
            notes = _trim_notes(turns, first)
        else:
            prompt = await render(turns)
        stop = tuple(dict.fromkeys((*templates.stop_strings(facts), *sampling.stop_strings(), *question.stop)))
        opening = "" if question.continue_final else templates.reasoning_opening(prompt)
        request = GenerationRequest(prompt, sampling, stop, question.cache_key)
        return Prepared(request, facts, model, opening, notes, first)

    def remember(self, prepared: Prepared, reply: str, tokens: int) -> None:
        """Keep the engine's count of a prompt and its reply: the next turn begins with both and is not counted anew."""
        key = prepared.request.cache_key
        self._counted.pop(key, None)
        self._counted[key] = (prepared.facts.path, prepared.request.prompt + reply, tokens)
        while len(self._counted) > KNOWN_COUNTS:
            del self._counted[next(iter(self._counted))]

    def _known_count(self, key: str, facts: ModelFacts) -> tuple[str, int]:
        path, text, tokens = self._counted.get(key, (facts.path, "", 0))
        # Another model cuts the same text into other tokens.
        return (text, tokens) if path == facts.path else ("", 0)

    async def _fit(
        self,
        turns: Turns,
        sampling: SamplingParameters,
        render: Render,
        keep_from: int,
        model: LoadedModel | None,
        known: tuple[str, int],
    ) -> tuple[str, int]:
        """The prompt that fits, and the index of the first message in it (not counting a system message in front)."""
        system, starts = _turn_starts(turns)
        position = max((at for at, start in enumerate(starts) if start <= keep_from), default=0)
        prompt = await render([*turns[:system], *turns[starts[position] :]])
        if model is None:
            return prompt, starts[position]
        wanted = sampling.max_tokens if sampling.max_tokens > 0 else model.context_size
        allowed = model.context_size - min(wanted, int(model.context_size * REPLY_SHARE))
        if await self._tokens_within(prompt, allowed, known, model) <= allowed:
            return prompt, starts[position]
        # Too long: leave out oldest turns until what is kept is small enough by its share of the text, then count.
        tokens = len(await self.pool.tokenize(prompt, by=model))
        while tokens > allowed and position < len(starts) - 1:
            target = len(prompt) * allowed * TRIM_TO / tokens
            while position < len(starts) - 1 and len(prompt) > target:
                position += 1
                prompt = await render([*turns[:system], *turns[starts[position] :]])
            tokens = len(await self.pool.tokenize(prompt, by=model))
        if tokens >= model.context_size:
            raise ContextTooLong(
                f"The message is too long: with the system prompt it takes {tokens} tokens, and the context holds "
                f"{model.context_size}.",
                prompt_tokens=tokens,
                context_size=model.context_size,
            )
        return prompt, starts[position]

    async def _tokens_within(self, prompt: str, allowed: int, known: tuple[str, int], model: LoadedModel) -> int:
        """A number of tokens that is not below the true one; exact only where the bound exceeds `allowed`.

        No token is shorter than a byte, so the length in bytes bounds the number of tokens. `known` is the count of a
        text that the prompt may begin with.
        """
        text, tokens = known
        rest = prompt[len(text) :] if prompt.startswith(text) else None
        bound = len(prompt.encode()) if rest is None else tokens + len(rest.encode())
        if bound + SLACK <= allowed:
            return bound + SLACK
        return len(await self.pool.tokenize(prompt, by=model))


def _turn_starts(turns: Turns) -> tuple[int, list[int]]:
    """How many system messages stand in front, and where each turn begins: at a user message, or right after those."""
    system = next((at for at, message in enumerate(turns) if message["role"] != "system"), len(turns))
    starts = [at for at in range(system, len(turns)) if at == system or turns[at]["role"] == "user"]
    return system, starts or [system]


def _trim_notes(turns: Turns, first: int) -> tuple[str, ...]:
    system, _ = _turn_starts(turns)
    left_out = first - system
    if left_out <= 0:
        return ()
    what = "The oldest message was" if left_out == 1 else f"The {left_out} oldest messages were"
    return (f"{what} left out of the prompt, because the conversation no longer fits the context.",)
