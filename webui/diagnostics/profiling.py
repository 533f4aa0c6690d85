"""One reply, written for the sake of its profile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from webui.chat.exchange import Exchange
from webui.chat.prompting import Question
from webui.diagnostics.reply_profile import ReplyProfile, profile_of
from webui.loaders.sampling import SamplingParameters

if TYPE_CHECKING:
    from webui.context import AppContext

OWNER = "profile"


async def profile_reply(
    context: AppContext,
    prompt: str,
    sampling: SamplingParameters,
    *,
    show: Callable[[str], None] = lambda piece: None,
) -> tuple[str, ReplyProfile]:
    """Ask the loaded model, hand each piece of its reply to `show`, and say where the time went. Raises what fails."""
    question = Question.of(prompt, sampling, context.settings.chat.system_prompt)
    exchange = await Exchange.begin(context.chats.prompter, question)
    job = exchange.submit(OWNER)
    try:
        show(exchange.opening)
        async for piece in job.pieces():
            with job.showing():
                show(piece)
    except BaseException:
        job.cancel()
        raise
    if job.error is not None:
        raise job.error
    return exchange.opening + job.text, profile_of(job)
