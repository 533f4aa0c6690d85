"""Puts today's date, the weekday and the time where a prompt says [[date]], [[weekday]] or [[time]].

A model does not know what day it is. Written into a system prompt, "Today is [[weekday]], [[date]]." tells it, in every
new conversation and through the API. A prompt without a placeholder is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from webui.hooks import hook

PLACEHOLDERS: dict[str, Callable[[datetime], str]] = {
    "date": lambda now: now.strftime("%Y-%m-%d"),
    "weekday": lambda now: now.strftime("%A"),
    "time": lambda now: now.strftime("%H:%M"),
}
PATTERN = re.compile(r"\[\[(" + "|".join(PLACEHOLDERS) + r")\]\]")


def fill(text: str, now: datetime) -> str:
    """`text` with every placeholder replaced by what it stands for at `now`."""
    return PATTERN.sub(lambda match: PLACEHOLDERS[match[1]](now), text)


@hook
def change_prompt(prompt: str) -> str | None:
    # The engine's prompt cache is kept as long as the filled-in text stays the same: a day for the date, a minute for
    # the time.
    return fill(prompt, datetime.now()) if "[[" in prompt else None
