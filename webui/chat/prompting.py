"""From messages to a generation request that fits the loaded model: template, stop strings, context, extensions.

Used by the Chat tab's service and by the API, so that the same messages make the same prompt. Tokens are counted only
where a bound on their number does not settle whether the prompt fits. When it does not, the oldest turns are left out,
somewhat more than needed: a prompt whose beginning stays the same for the next turns is found in the engine's cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from webui.chat import templates
from webui.errors import ContextTooLong, NotLoaded
from webui.loaders.contract import GenerationRequest
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import ModelFacts
from webui.pool import Pool

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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request ready to submit.

    `opening` is the part of the reply that the prompt has already written (a template that opens `<think>` itself).
    `notes` are sentences on what was left out, `first_kept` the index of the first message that was kept.
    """

    request: GenerationRequest
    facts: ModelFacts
    opening: str = ""
    notes: tuple[str, ...] = ()
    first_kept: int = 0


@dataclass(slots=True)
class Prompter:
    """Makes requests for the model that is loaded, or is being loaded as the first one."""

    pool: Pool
    hooks: Hooks
    _counted: dict[str, tuple[str, int]] = field(default_factory=dict)

    def facts(self) -> ModelFacts:
        """The model that will answer; raises `NotLoaded`."""
        status = self.pool.status
        facts = status.facts
        if facts is None:
            cause = status.failure.message if status.failure else ""
            raise NotLoaded("No model is loaded.", cause=cause)
        return facts

    async def prepare(
        self,
        messages: Sequence[templates.Message],
        sampling: SamplingParameters,
        *,
        cache_key: str = "",
        continue_final: bool = False,
        trim: bool = False,
        keep_from: int = 0,
        tools: Sequence[dict[str, Any]] | None = None,
    ) -> Prepared:
        """The request for `messages`.

        With `trim`, the oldest turns are left out as needed, and those before message `keep_from` in any case; a system
        message at the front always stays. Raises `NotLoaded`, `TemplateFailed` and, when even the last turn is too
        long, `ContextTooLong`.
        """
        facts = self.facts()
        sampling = self.hooks.change_sampling(sampling)

        async def render(turns: Turns) -> str:
            # In a thread: a template is a program out of a file and may take its full time.
            prompt = await asyncio.to_thread(templates.render, turns, facts, continue_final=continue_final, tools=tools)
            return self.hooks.change_prompt(prompt)

        turns = [dict(message) for message in messages]
        first = 0
        notes: tuple[str, ...] = ()
        if trim:
            prompt, first = await self._fit(turns, sampling, render, keep_from, cache_key)
            notes = _trim_notes(turns, first)
        else:
            prompt = await render(turns)
        stop = tuple(dict.fromkeys((*templates.stop_strings(facts), *sampling.stop_strings())))
        opening = "" if continue_final else templates.reasoning_opening(prompt)
        return Prepared(GenerationRequest(prompt, sampling, stop, cache_key), facts, opening, notes, first)

    def remember(self, request: GenerationRequest, reply: str, tokens: int) -> None:
        """Keep the engine's count of a prompt and its reply: the next turn begins with both and is not counted anew."""
        self._counted.pop(request.cache_key, None)
        self._counted[request.cache_key] = (request.prompt + reply, tokens)
        while len(self._counted) > KNOWN_COUNTS:
            del self._counted[next(iter(self._counted))]

    async def _fit(
        self, turns: Turns, sampling: SamplingParameters, render: Render, keep_from: int, key: str
    ) -> tuple[str, int]:
        """The prompt that fits, and the index of the first message in it (not counting a system message in front)."""
        system, starts = _turn_starts(turns)
        model = self.pool.status.model
        position = max((at for at, start in enumerate(starts) if start <= keep_from), default=0)
        prompt = await render([*turns[:system], *turns[starts[position] :]])
        if model is None:
            return prompt, starts[position]
        wanted = sampling.max_tokens if sampling.max_tokens > 0 else model.context_size
        allowed = model.context_size - min(wanted, int(model.context_size * REPLY_SHARE))
        if await self._tokens_within(prompt, allowed, key) <= allowed:
            return prompt, starts[position]
        # Too long: leave out oldest turns until what is kept is small enough by its share of the text, then count.
        tokens = len(await self.pool.tokenize(prompt))
        while tokens > allowed and position < len(starts) - 1:
            target = len(prompt) * allowed * TRIM_TO / tokens
            while position < len(starts) - 1 and len(prompt) > target:
                position += 1
                prompt = await render([*turns[:system], *turns[starts[position] :]])
            tokens = len(await self.pool.tokenize(prompt))
        if tokens >= model.context_size:
            raise ContextTooLong(
                f"The message is too long: with the system prompt it takes {tokens} tokens, and the context holds "
                f"{model.context_size}.",
                prompt_tokens=tokens,
                context_size=model.context_size,
            )
        return prompt, starts[position]

    async def _tokens_within(self, prompt: str, allowed: int, key: str) -> int:
        """A number of tokens that is not below the true one; exact only where the bound exceeds `allowed`.

        No token is shorter than a byte, so the length in bytes bounds the number of tokens.
        """
        text, tokens = self._counted.get(key, ("", 0))
        rest = prompt[len(text) :] if prompt.startswith(text) else None
        bound = len(prompt.encode()) if rest is None else tokens + len(rest.encode())
        if bound + SLACK <= allowed:
            return bound + SLACK
        return len(await self.pool.tokenize(prompt))


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
