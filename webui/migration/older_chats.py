"""Conversations of the older app and its kind, in whichever way they were kept: messages with roles, pairs of question
and answer, one conversation a file, or many. What has no text and no side is said to stay behind.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from webui.chat.carried import CarriedChat
from webui.migration.plan import Entry, Finding, Key, Wish

ROLES = {
    "user": "user",
    "human": "user",
    "you": "user",
    "me": "user",
    "prompter": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "llm": "assistant",
    "system": "system",
}
ROLE_KEYS = ("role", "sender", "author", "from", "speaker", "type")
TEXT_KEYS = ("content", "text", "message", "value", "body")
MESSAGES = ("messages", "chat_history", "turns", "dialogue", "history", "conversation")
LISTS = ("conversations", "chats", "sessions", "chat_history", "history", "items")
QUESTIONS = ("user", "prompt", "question", "input", "human", "user_message")
ANSWERS = ("assistant", "response", "answer", "output", "bot", "ai", "bot_response", "reply")
TIMES = ("created_at", "created", "timestamp", "time", "date", "started_at", "createdAt")
TITLES = ("title", "name", "topic", "subject")
SPACE = uuid.UUID("2d9a0f6b-5f0c-5f7e-9a1e-0c8f6f1f2b77")
"""Where the ids of carried conversations come from."""
LATEST = 4_102_444_800
LONGEST_TITLE = 200

Turn = tuple[str, str, float]


def chats_in(content: Any, file: Path, now: float) -> list[Entry] | None:
    """One entry for each conversation in a file, and for what stands beside them; None where there are none.

    `now` is the time of conversations that do not tell theirs.
    """
    single = _chat(content, file.stem, now)
    if single is not None:
        return [_entry(file, (), content, single)]
    found: list[Entry] = []
    found += _many(content, (), file, now)
    return found if any(entry.finding.wishes for entry in found) else None


def _many(content: Any, key: Key, file: Path, now: float) -> Iterator[Entry]:
    """A list of conversations, an object of them by name, or an object with such a list."""
    if isinstance(content, list) and content:
        for place, item in enumerate(content):
            yield _judged(file, (*key, place), item, f"{file.stem} {place + 1}", now)
    elif isinstance(content, dict) and content:
        lists = [name for name in content if name.lower() in LISTS and isinstance(content[name], dict | list)]
        for name, item in content.items():
            if name in lists and not key:
                inner = list(_many(item, (name,), file, now))
                yield from inner or [Entry(file, (name,), item, Finding(reason="there is no conversation in it"))]
            elif lists and not key:
                yield Entry(file, (name,), item, Finding(reason="it tells of the file and not of a conversation"))
            else:
                yield _judged(file, (*key, name), item, name, now)


def _judged(file: Path, key: Key, item: Any, title: str, now: float) -> Entry:
    found = _chat(item, title, now)
    if found is None:
        return Entry(file, key, item, Finding(reason="there is no conversation in it"))
    return _entry(file, key, item, found)


def _entry(file: Path, key: Key, value: Any, found: tuple[CarriedChat, str]) -> Entry:
    chat, reason = found
    return Entry(file, key, value, Finding((Wish("chats", chat, item=chat.id),), reason))


def _chat(content: Any, title: str, now: float) -> tuple[CarriedChat, str] | None:
    """A conversation and what of it stays behind."""
    facts: dict[str, Any] = content if isinstance(content, dict) else {}
    holder = next((name for name in MESSAGES if isinstance(facts.get(name), list)), None)
    turns = content if isinstance(content, list) else facts.get(holder) if holder else None
    if not isinstance(turns, list) or not turns:
        return None
    begun = next((at for name in TIMES if (at := time_of(facts.get(name))) is not None), None)
    messages, left = _turns(turns, begun or now)
    prompts = [text for role, text, _ in messages if role == "system"]
    spoken = tuple(turn for turn in messages if turn[0] != "system")
    if not spoken or left > len(spoken):
        return None
    prompt = facts.get("system_prompt") if isinstance(facts.get("system_prompt"), str) else None
    named = next((facts[name] for name in TITLES if isinstance(facts.get(name), str) and facts[name].strip()), title)
    chat = CarriedChat(
        id=_identity(named, spoken),
        title=" ".join(named.split())[:LONGEST_TITLE],
        created_at=spoken[0][2] if begun is None else begun,
        messages=spoken,
        system_prompt=prompt if prompt is not None else "\n".join(prompts),
    )
    known = {holder, "system_prompt", "id", "updated_at", "last_modified", "version", *TITLES, *TIMES}
    beside = sorted(name for name in facts if name not in known)
    notes = [f"{left} of its messages {'has' if left == 1 else 'have'} no text or no side"] if left else []
    notes += [f"without its {', '.join(beside)}"] if beside else []
    return chat, "; ".join(notes)


def _turns(turns: list[Any], begun: float) -> tuple[list[Turn], int]:
    """Messages in order, and how many could not be read. Times are those told, else a second apart."""
    found: list[Turn] = []
    left = 0
    for item in turns:
        at = max(begun, found[-1][2]) if found else begun
        if isinstance(item, dict):
            at = next((time for name in TIMES if (time := time_of(item.get(name))) is not None), at)
        messages = _messages(item)
        left += not messages
        found += [(role, text, at) for role, text in messages]
    return found, left


def _messages(item: Any) -> list[tuple[str, str]]:
    """A message, or a question with its answer."""
    if isinstance(item, list) and len(item) == 2 and all(isinstance(part, str | None) for part in item):
        return [(role, text) for role, text in zip(("user", "assistant"), item, strict=True) if text]
    if not isinstance(item, dict):
        return []
    said = next((item[key] for key in ROLE_KEYS if isinstance(item.get(key), str)), None)
    role = ROLES.get(said.strip().lower()) if said is not None else None
    if role is not None:
        text = next((text for key in TEXT_KEYS if (text := _text(item.get(key)))), "")
        return [(role, text)] if text else []
    if isinstance(item.get("is_user"), bool):
        text = next((text for key in TEXT_KEYS if (text := _text(item.get(key)))), "")
        return [("user" if item["is_user"] else "assistant", text)] if text else []
    question = next((text for key in QUESTIONS if (text := _text(item.get(key)))), "")
    answer = next((text for key in ANSWERS if (text := _text(item.get(key)))), "")
    return [(role, text) for role, text in (("user", question), ("assistant", answer)) if text]


def _text(value: Any) -> str:
    """Text as it stands, or the text in a list of blocks."""
    if isinstance(value, str):
        return value if value.strip() else ""
    if isinstance(value, list):
        blocks = [block.get("text") if isinstance(block, dict) else block for block in value]
        return "\n".join(block for block in blocks if isinstance(block, str) and block.strip())
    return ""


def time_of(value: Any) -> float | None:
    """Seconds since 1970, from seconds, milliseconds or a date as programs write it."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
        try:
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (OverflowError, OSError, ValueError):
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    seconds = value / 1000 if value > LATEST else float(value)
    return float(seconds) if 0 < seconds < LATEST else None


def _identity(title: str, turns: tuple[Turn, ...]) -> str:
    said = json.dumps([title, [turn[:2] for turn in turns]]).encode()
    return uuid.uuid5(SPACE, hashlib.sha256(said).hexdigest()).hex
