"""Everything in one file: nothing secret in it, the same in another home, and nothing a stranger made does harm."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from webui.chat.conversations import Conversation, ConversationStore, Message
from webui.chat.presets import PresetStore
from webui.errors import AppError, InvalidRequest
from webui.loaders import LOADERS
from webui.loaders.sampling import SamplingParameters
from webui.migration import archive
from webui.migration.importing import NOT_ASKED_FOR, Import, Places
from webui.paths import Paths
from webui.settings import ModelSettings, Settings, SettingsStore

SECRETS = ("hunter2-and-more", "me:hunter2-and-more", "sk-abcdefghijklmnopqrst", "their-own-token-value")
MODEL = Path("/models/some.gguf")


class House:
    """A home with something of everything in it."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(folder).ensure()
        self.chats = ConversationStore(self.paths.chats / "chats.sqlite3")
        self.presets = PresetStore(self.paths)
        self.models = ModelSettings(self.paths)
        self.store = SettingsStore(self.paths, Settings.load(self.paths, environment={}, loaders=LOADERS))
        self.places = Places(self.paths, LOADERS, self.store, self.chats)

    def furnish(self) -> None:
        self.paths.settings_file.write_text(f"# api_key: {SECRETS[0]}\nserver:\n  port: 7000\n")
        theirs = {
            "gpu_enabled": False,
            "theirs": {"api_token": SECRETS[3], "colour": "blue"},
            "backends": {"x": {"y": 1}},
        }
        self.paths.backend_config.write_text(json.dumps(theirs))
        self.store.save(
            {
                "server.api_key": SECRETS[0],
                "server.auth": SECRETS[1],
                "server.allowed_hosts": ["box.example"],
                "limits.queue_length": 7,
                "loaders.xllamacpp.context_size": 2048,
                "backends.fallback_order": ["llamafile"],
                "chat.system_prompt": f"use --api-key {SECRETS[2]}",
            }
        )
        self.models.save(MODEL, "xllamacpp", {"context_size": 512, "threads": 2})
        self.presets.save("mine", SamplingParameters(temperature=0.3), description="cool")
        chat = self.chats.create(title="A talk", system_prompt="Be brief.", sampling={"temperature": 0.5})
        self.chats.append(chat.id, "user", "Grüße <b>")
        self.chats.append(chat.id, "assistant", "Hello.")

    def export(self, **options: bool) -> bytes:
        return archive.export(self.paths, self.store.load(), **options)

    def plan(self, content: bytes, **options: bool) -> Import:
        return Import(archive.read(content), self.places, **options)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "one")
    made.furnish()
    yield made
    made.chats.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "other")
    yield made
    made.chats.close()


def texts(content: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return {name: opened.read(name).decode() for name in opened.namelist()}


def packed(**entries: str | bytes) -> bytes:
    """An archive with these entries; a manifest is added where there is none."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        manifest = json.dumps({"format": archive.FORMAT, "version": archive.VERSION})
        for name, text in {"manifest.json": manifest, **entries}.items():
            made.writestr(name, text)
    return stream.getvalue()


def test_an_export_has_everything_but_secrets(house: House) -> None:
    inside = texts(house.export())
    assert sorted(inside) == [
        "backend_config.json",
        "chats.jsonl",
        "manifest.json",
        "model_settings.json",
        "presets/mine.yaml",
        "settings.yaml",
    ]
    for secret in SECRETS:
        assert secret not in "".join(inside.values())
    assert json.loads(inside["manifest.json"])["left_out"] == [
        "server.api_key",
        "server.auth",
        "chat.system_prompt",
        "theirs.api_token",
    ]
    assert (
        "colour" in inside["backend_config.json"]
        and "Grüße <b>" in json.loads(inside["chats.jsonl"])["messages"][0]["content"]
    )


def test_with_secrets_the_files_are_in_it_as_they_are(house: House) -> None:
    inside = texts(house.export(secrets=True, chats=False))
    assert inside["settings.yaml"] == house.paths.settings_file.read_text()
    assert SECRETS[3] in inside["backend_config.json"]
    assert "chats.jsonl" not in inside


def test_what_was_exported_is_the_same_in_another_home(house: House, other: House) -> None:
    planned = other.plan(house.export(secrets=True), protected=True)
    assert [step for step in planned.steps if step.why_not] == []
    assert other.store.load().limits.queue_length == 32, "a plan changes nothing"
    backup = planned.carry_out()
    before, after = house.store.load(), other.store.load()
    assert after.shown() == before.shown()
    assert (after.server.api_key, after.server.auth) == SECRETS[:2]
    theirs = json.loads(other.paths.backend_config.read_text())
    assert theirs["theirs"]["colour"] == "blue" and theirs["backends"]["x"] == {"y": 1}
    assert other.models.get(MODEL) == house.models.get(MODEL)
    assert other.presets.get("mine") == house.presets.get("mine")
    assert [chat.messages for chat in other.chats.everything()] == [chat.messages for chat in house.chats.everything()]
    assert backup.parent == other.paths.backups and stat.S_IMODE(backup.stat().st_mode) == 0o600
    again = other.plan(house.export(secrets=True), protected=True)
    assert again.changes == ()


def test_what_concerns_the_machine_or_strangers_is_carried_on_request_only(house: House, other: House) -> None:
    house.store.save({"loaders.llamafile.executable": "/bin/sh", "setup.indexes": ["torch=https://evil.example"]})
    planned = other.plan(house.export())
    held = {step.name for step in planned.steps if step.why_not == NOT_ASKED_FOR}
    assert held == {"server.allowed_hosts", "loaders.llamafile.executable", "setup.indexes"}
    planned.carry_out()
    settings = other.store.load()
    assert (settings.value("loaders.llamafile.executable"), settings.server.allowed_hosts) == ("", ())
    assert settings.setup.indexes == ()
    assert settings.limits.queue_length == 7


def test_the_backup_brings_back_what_there_was(house: House, other: House) -> None:
    other.store.save({"limits.queue_length": 99, "server.port": 7001})
    before = other.store.load().shown()
    backup = other.plan(house.export(), protected=True).carry_out()
    assert other.store.load().shown() != before
    undone = other.plan(backup.read_bytes(), protected=True, replace=True)
    undone.carry_out()
    assert other.store.load().shown() == before


def test_a_conversation_with_another_text_is_added_beside_and_only_once(house: House) -> None:
    content = house.export()
    (chat,) = house.chats.everything()
    house.chats.append(chat.id, "user", "And more.")
    house.plan(content).carry_out()
    titles = sorted(one.title for one in house.chats.everything())
    assert titles == ["A talk", "A talk (imported)"]
    assert house.plan(content).changes == ()
    assert len(house.chats.get(chat.id).messages) == 3, "the one that is here is not touched"


def test_wrong_values_are_left_out_with_the_reason_and_the_rest_is_carried(other: House) -> None:
    content = packed(
        **{
            "settings.yaml": "limits: {queue_length: many}\nserver: {prot: 1}\nchat: {shown_messages: 9}\nodd: 1\n",
            "backend_config.json": json.dumps({"backends": {"xllamacpp": {"threads": -5, "batch_size": 64}}}),
            "model_settings.json": json.dumps(
                {
                    "/a.gguf": {"loader": "nobody", "parameters": {}},
                    "/b.gguf": {"loader": "auto", "parameters": {"q": 1}},
                    "/c": 3,
                }
            ),
            "presets/bad.yaml": "temperature: [",
            "chats.jsonl": '{"id": "x"}\nnot json\n',
            "notes.txt": "?",
        }
    )
    planned = other.plan(content)
    reasons = {step.name: step.why_not for step in planned.steps if step.why_not}
    assert "must be a whole number" in reasons["limits.queue_length"]
    assert "did you mean server.port?" in reasons["server.prot"]
    assert "must be a whole number" in reasons["loaders.xllamacpp.threads"]
    assert set(reasons) >= {"odd", "/a.gguf", "/b.gguf", "/c", "bad", "number 1", "number 2", "notes.txt"}
    planned.carry_out()
    settings = other.store.load()
    assert (settings.chat.shown_messages, settings.value("loaders.xllamacpp.batch_size")) == (9, 64)
    assert settings.problems == ()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not a whole export"),
        (b"PK\x03\x04 nothing more", "not a whole export"),
        (packed(**{"manifest.json": "{}"}), "another program's"),
        (packed(**{"manifest.json": "[]"}), "no JSON object"),
        (packed(**{"manifest.json": json.dumps({"format": archive.FORMAT, "version": 2})}), "newer version"),
        (packed(**{"settings.yaml": "[" * 10_000}), "nested too deeply"),
        (packed(**{"settings.yaml": "a: [\n"}), "not valid YAML"),
        (packed(**{"backend_config.json": "[" * 100_000}), "nested too deeply"),
        (packed(**{"settings.yaml": "x" * (2 << 20)}), "larger than"),
        (packed(**{f"presets/p{number}.yaml": "# " * (100 << 10) for number in range(6)}), "together"),
        (packed(**{"settings.yaml": "a: &a [*a, *a]\n"}), "more values than"),
        (packed(**{f"presets/p{number}.yaml": "" for number in range(6000)}), "entries"),
        (packed(**{"model_settings.json": b"\xff\xfe"}), "not a whole export"),
    ],
    ids=range(13),
)
def test_what_is_no_export_is_refused_with_the_reason(content: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        archive.read(content)
    assert why in f"{caught.value.message} {caught.value.cause}"


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LARGEST_CHATS", 1 << 20)
    with pytest.raises(InvalidRequest, match="not a whole export"):
        archive.read(packed(**{"chats.jsonl": b'""\n' * (1 << 20)}))


@pytest.mark.parametrize(
    "name", ["../settings.yaml", "/etc/passwd", "presets/../../x.yaml", "presets\\..\\x.yaml", "C:/x"]
)
def test_a_name_that_leads_elsewhere_leads_nowhere(other: House, name: str, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    planned = other.plan(packed(**{name: "temperature: 1"}))
    assert [step.why_not for step in planned.steps] == ["nothing of this app has this name"]
    planned.carry_out()
    after = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert {path.parent.name for path in after} <= {"backups", "other"}


def test_what_the_page_would_stumble_over_is_taken_out_of_conversations(other: House) -> None:
    message = {"id": "m", "role": "assistant", "content": "x", "created_at": 1.0}
    odd = {"timings": {"a": "y" * 100, "b": [1], "c": 2.5}, "error": {"evidence": 5, "message": "m" * 9000}}
    chat = {"id": "c", "title": "t", "created_at": 1.0, "updated_at": 1.0, "sampling": {"temperature": "hot"}}
    line = json.dumps({**chat, "messages": [{**message, **odd}]})
    other.plan(packed(**{"chats.jsonl": line})).carry_out()
    (kept,) = other.chats.everything()
    assert (kept.sampling, kept.messages[0].timings) == ({}, {"c": 2.5})
    assert AppError.from_dict(kept.messages[0].error or {}).message.startswith("mm")
    for wrong in ({"role": "root"}, {"id": "../x"}, {"created_at": float("nan")}):
        planned = other.plan(
            packed(**{"chats.jsonl": json.dumps({**chat, "id": "d", "messages": [{**message, **wrong}]})})
        )
        assert planned.changes == ()


def test_the_chats_of_a_running_app_are_not_mended_by_an_export(house: House) -> None:
    chat = house.chats.create(title="Being written")
    reply: Message = house.chats.begin_reply(chat.id)
    house.export()
    assert house.chats.get(chat.id).messages == (), "the reply is still being written"
    house.chats.drop_reply(reply.id)


def test_a_conversation_that_is_here_cannot_be_put_in_again(house: House) -> None:
    chats: list[Any] = list(house.chats.everything())
    with pytest.raises(InvalidRequest, match="here already"):
        house.chats.add(Conversation(chats[0].id, "x", 1.0, 1.0))
