"""A chat service over a pool of real worker processes with the toy loader."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.loaders import toy
from webui.chat.conversations import ConversationStore
from webui.chat.presets import PresetStore
from webui.chat.service import ChatService
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import ModelFacts, ModelFormat
from webui.paths import Paths
from webui.planning.memory import estimate
from webui.pool import LoadRequest, Pool
from webui.settings import Settings

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}"


def toy_facts(template: str = TEMPLATE, name: str = "toy") -> ModelFacts:
    path = Path(f"{name}.gguf")
    return ModelFacts(path, ModelFormat.GGUF, (path,), 1000, name, chat_template=template)


ROOM_FOR_ONE = int(estimate(toy_facts(), toy.SPEC, {}).total * 0.95)
"""Free memory in which one model is worth trying, and no second one beside it."""


@dataclass
class RecordingHooks:
    """Hooks that change nothing unless told to."""

    prompt: Callable[[str], str] = field(default=lambda text: text)
    reply: Callable[[str], str] = field(default=lambda text: text)

    def change_prompt(self, prompt: str) -> str:
        return self.prompt(prompt)

    def change_reply(self, text: str) -> str:
        return self.reply(text)

    def change_sampling(self, sampling: SamplingParameters) -> SamplingParameters:
        return sampling


@dataclass
class Room:
    service: ChatService
    store: ConversationStore
    pool: Pool
    hooks: RecordingHooks

    def texts(self, chat_id: str) -> list[tuple[str, str]]:
        return [(message.role, message.content) for message in self.store.get(chat_id).messages]


@pytest.fixture
async def make_room(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Room]]]:
    rooms: list[Room] = []

    async def make(template: str = TEMPLATE, *, load: bool = True, available: int = 1 << 40, **parameters: Any) -> Room:
        loaders = {toy.SPEC.name: toy.SPEC}
        paths = Paths.from_environment({"GGUF_HOME": str(tmp_path)})
        settings = Settings.load(paths, environment={}, loaders=loaders)
        pool = Pool(lambda: settings, loaders, available_memory=lambda: available)
        store = ConversationStore(tmp_path / "chats.sqlite3")
        hooks = RecordingHooks()
        room = Room(ChatService(pool, store, PresetStore(paths), lambda: settings, hooks), store, pool, hooks)
        rooms.append(room)
        if load:
            await pool.load(LoadRequest(toy_facts(template), parameters=parameters))
        return room

    yield make
    for room in rooms:
        await room.service.close()
        await room.pool.close()
        room.store.close()
