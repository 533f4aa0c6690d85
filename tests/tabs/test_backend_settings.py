"""The section of settings without a browser: what it answers, whom it lets change what, and its way back."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from webui.context import AppContext
from webui.paths import Paths
from webui.settings import Effect, Settings, SettingsStore
from webui.settings.declared import declare
from webui.settings.groups import GROUPS, GeneralSettings
from webui.settings.words import waiting
from webui.tabs.backend_settings import SettingsSection
from webui.tabs.present import escape

EXPOSED = {"server.host": "0.0.0.0", "server.auth": "me:secret-word", "server.api_key": "secret-key"}


async def make(command_line: dict[str, Any] | None = None) -> AppContext:
    paths = Paths.from_environment().ensure()
    given = {"extensions.enabled": False, **(command_line or {})}
    return AppContext.create(paths, Settings.load(paths, environment={}, command_line=given))


@pytest.fixture
async def context() -> AsyncIterator[AppContext]:
    made = await make()
    yield made
    await made.close()


async def ask(section: SettingsSection, **question: Any) -> dict[str, Any]:
    return dict(await section.answer(json.dumps(question)))


async def test_every_declared_setting_has_a_row(context: AppContext) -> None:
    answer = await ask(SettingsSection(context), do="list")
    for key, declared in declare(context.loaders).items():
        assert answer["html"].count(f'data-key="{key}"') == 1
        assert escape(declared.spec.control.label) in answer["html"]
    assert "html" not in await ask(SettingsSection(context), do="list", mark=answer["mark"])


async def test_a_change_is_saved_with_its_source_and_when_it_holds(context: AppContext) -> None:
    section = SettingsSection(context)
    answer = await ask(section, do="set", key="limits.queue_length", value="7")
    assert context.settings.limits.queue_length == 7
    assert "is saved; it holds from the next load of a model" in answer["said"]
    assert str(context.paths.settings_file) in answer["rows"]["limits.queue_length"]
    answer = await ask(section, do="reset", key="limits.queue_length")
    assert context.settings.limits.queue_length == 32
    assert "built-in" in answer["rows"]["limits.queue_length"]


@pytest.mark.parametrize(
    ("key", "value", "held"),
    [
        ("backends.gpu_enabled", False, False),
        ("backends.disabled", "ctransformers, llamafile", ("ctransformers", "llamafile")),
        ("chat.system_prompt", "Be brief.\nAlways.", "Be brief.\nAlways."),
        ("models.default_model", "  ", None),
        ("loaders.xllamacpp.threads", " 3 ", 3),
        ("loaders.transformers.dtype", "float16", "float16"),
    ],
)
async def test_each_kind_of_field_is_read(context: AppContext, key: str, value: Any, held: Any) -> None:
    answer = await ask(SettingsSection(context), do="set", key=key, value=value)
    assert "failed" not in answer
    assert context.settings.value(key) == held


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"do": "set", "key": "limits.queue_length", "value": "0"}, "must be a whole number from 1 to 10 000"),
        ({"do": "set", "key": "loaders.transformers.dtype", "value": "flot16"}, "did you mean float16?"),
        ({"do": "set", "key": "nobodys.key", "value": "1"}, "is not a setting"),
        ({"do": "set", "key": "debug", "value": [1]}, "sent no value"),
        ({"do": "undo"}, "nothing to undo"),
        ({"do": "format the disk"}, "something unknown"),
        ([], "something unknown"),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_is_saved(context: AppContext, question: Any, said: str) -> None:
    answer = await SettingsSection(context).answer(json.dumps(question))
    assert said in answer["failed"]
    assert not context.paths.settings_file.exists()


async def test_everything_is_reset_and_comes_back_byte_for_byte(context: AppContext) -> None:
    section = SettingsSection(context)
    context.paths.settings_file.write_text("# mine\nserver:\n  port: 7001  # low\n")
    await ask(section, do="set", key="backends.gpu_enabled", value=False)
    files = [context.paths.settings_file, context.paths.backend_config]
    before = [file.read_bytes() for file in files]
    answer = await ask(section, do="reset all")
    assert answer["undo"] and "2 settings reset" in answer["said"]
    assert (context.settings.server.port, context.settings.backends.gpu_enabled) == (7860, True)
    answer = await ask(section, do="undo")
    assert not answer["undo"]
    assert [file.read_bytes() for file in files] == before
    assert (context.settings.server.port, context.settings.backends.gpu_enabled) == (7001, False)


async def test_undo_does_not_throw_away_what_was_saved_since(context: AppContext) -> None:
    section = SettingsSection(context)
    await ask(section, do="set", key="server.port", value="7001")
    await ask(section, do="reset all")
    context.settings_store.save({"debug": True})
    assert "changed since" in (await ask(section, do="undo"))["failed"]
    assert context.settings_store.load().debug


async def test_visitors_from_elsewhere_change_nothing_that_protects_or_runs_here() -> None:
    context = await make(EXPOSED)
    try:
        section = SettingsSection(context)
        html = (await ask(section, do="list"))["html"]
        assert "secret-word" not in html and "secret-key" not in html
        for key in ("server.auth", "server.host", "loaders.llamafile.executable", "models.directory", "setup.indexes"):
            assert "at the machine itself only" in (await ask(section, do="set", key=key, value="x:y"))["failed"]
            assert "at the machine itself only" in (await ask(section, do="reset", key=key))["failed"]
        await ask(section, do="set", key="chat.shown_messages", value="9")
        context.settings_store.save({"server.allowed_hosts": ["a.example"]})
        await ask(section, do="reset all")
        settings = context.settings_store.load()
        assert (settings.server.allowed_hosts, settings.chat.shown_messages) == (("a.example",), 40)
    finally:
        await context.close()


async def test_what_is_saved_for_the_next_start_opens_nothing_before_it() -> None:
    """The server listens where it listens, whatever the files say now."""
    context = await make()
    try:
        context.started_with = Settings.load(context.paths, environment={}, command_line=EXPOSED)
        section = SettingsSection(context)
        assert "at the machine itself only" in (await ask(section, do="set", key="server.auth", value="x:y"))["failed"]
    finally:
        await context.close()


async def test_a_secret_is_nowhere_on_the_page(context: AppContext) -> None:
    section = SettingsSection(context)
    answer = await ask(section, do="set", key="server.api_key", value="hunter2-and-more")
    assert context.settings.server.api_key == "hunter2-and-more"
    assert "hunter2" not in json.dumps(answer) + json.dumps(await ask(section, do="list"))


async def test_what_waits_for_a_restart_is_said_until_it_is_taken_back(context: AppContext) -> None:
    section = SettingsSection(context)
    answer = await ask(section, do="set", key="server.port", value="7001")
    assert "Start the app again for: Port." in answer["notes"]
    assert waiting(context.settings, context.started_with) == ["server.port"]
    answer = await ask(section, do="reset", key="server.port")
    assert "Start the app again" not in answer["notes"]


async def test_what_is_said_to_hold_now_does(context: AppContext, tmp_path: Path) -> None:
    context.save_settings({"debug": True, "models.directory": str(tmp_path)})
    assert logging.getLogger("webui").level == logging.DEBUG
    assert context.catalogue.directories == (tmp_path,)
    context.save_settings({"debug": False})
    assert logging.getLogger("webui").level == logging.INFO


def test_each_setting_says_itself_from_when_it_holds() -> None:
    for owner in (GeneralSettings, *GROUPS.values()):
        for name, info in owner.model_fields.items():
            assert sum(isinstance(mark, Effect) for mark in info.metadata) == 1, name
    assert {one.effect for key, one in declare({}).items() if key.startswith("server.")} == {Effect.RESTART}


async def test_a_running_app_notices_what_somebody_else_saved(context: AppContext) -> None:
    await context.start()
    other = SettingsStore(context.paths, Settings.load(context.paths, environment={}))
    other.save({"chat.shown_messages": 9, "backends.gpu_enabled": False})
    async with asyncio.timeout(20):
        while context.settings.chat.shown_messages != 9 or context.settings.backends.gpu_enabled:
            await asyncio.sleep(0.05)
    good = context.settings
    context.paths.settings_file.write_text("chat: [")
    async with asyncio.timeout(20):
        while not any("stay as they were" in line.text for line in context.log.lines()):
            await asyncio.sleep(0.05)
    assert context.settings is good
