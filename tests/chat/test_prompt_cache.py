"""With a real engine: a second turn does not pay for the first one again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chat.conftest import RecordingHooks
from webui.chat.conversations import ConversationStore
from webui.chat.presets import PresetStore
from webui.chat.service import ChatService
from webui.loaders import LOADERS
from webui.loaders.sampling import SamplingParameters
from webui.models.inspect import inspect_model
from webui.paths import Paths
from webui.pool import JobState, LoadRequest, open_pool
from webui.settings import Settings


@pytest.mark.engine
async def test_the_second_turn_comes_out_of_the_prompt_cache(tmp_path: Path, starter_model: Path) -> None:
    settings = Settings.load(Paths(tmp_path), environment={}, loaders=LOADERS)
    async with open_pool(lambda: settings, LOADERS) as pool:
        parameters = {"context_size": 2048, "threads": 1}
        await pool.load(LoadRequest(inspect_model(starter_model), "xllamacpp", parameters))
        store = ConversationStore(tmp_path / "chats.sqlite3")
        service = ChatService(pool, store, PresetStore(Paths(tmp_path)), lambda: settings, RecordingHooks())
        chat = store.create(system_prompt="You are a patient teacher who answers in short sentences.")
        sampling = SamplingParameters(temperature=0, max_tokens=12)
        used = []
        for question in ("What is a river?", "And a lake?"):
            job = await service.send(chat.id, question, sampling=sampling)
            await service.settled(chat.id)
            assert job.state is JobState.DONE
            timings = store.get(chat.id).messages[-1].timings
            assert timings is not None
            used.append(timings)
        first_whole = used[0]["prompt_tokens"] + used[0]["completion_tokens"]
        assert used[1]["cached_tokens"] >= first_whole - 2
        assert used[1]["prompt_tokens"] > first_whole
        await service.close()
        store.close()
