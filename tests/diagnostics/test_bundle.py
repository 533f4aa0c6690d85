"""A support bundle made after loads that really failed: what it tells elsewhere, and what it does not tell at all."""

from __future__ import annotations

import base64
import json
import re
import shutil
import socket
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.builders.gguf import tiny_llama_bpe
from tests.fakes import recovery_stage
from tests.faults.file_cells import spoil
from tests.hardware import machines
from webui import context as context_module
from webui.cli import main
from webui.context import AppContext
from webui.diagnostics.bundle import SHOWABLE, Bundle
from webui.diagnostics.bundle_parts import Source, gather_bundle
from webui.diagnostics.bundle_reader import LARGEST_ENTRY, ReadBundle, read_bundle
from webui.errors import AppError, CorruptFile, InvalidRequest
from webui.hardware import memory
from webui.loaders import LOADERS
from webui.models.inspect import inspect_model
from webui.paths import Paths
from webui.pool import LoadRequest
from webui.settings import Settings

PERSON, MACHINE = "marguerite", "wohnzimmer"
PROMPT = "Where did I leave my green umbrella?"
REPLY = "Ask the man with the “Ärmelschoner”."
SYSTEM = "You are the keeper of lost umbrellas."
API_KEY, LOGIN, TOKEN = "planted-api-key-7", "marguerite:planted-password-8", "planted-token-value-9"
PLANTED = (PERSON, MACHINE, PROMPT, REPLY, SYSTEM, API_KEY, "planted-password-8", TOKEN)
TWO = ("xllamacpp", "llama-cpp-python")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of somebody with a name, on a machine with a name, with things to keep to themselves."""
    home = tmp_path / "home" / PERSON
    home.mkdir(parents=True)
    for name, value in {"HOME": str(home), "USER": PERSON, "LOGNAME": PERSON, "HF_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(socket, "gethostname", lambda: MACHINE)
    return home


def opened(home: Path, **values: Any) -> AppContext:
    paths = Paths(home / ".gguf-loader").ensure()
    others = [name for name in LOADERS if name not in TWO]
    asked = {
        "backends.disabled": others,
        "server.api_key": API_KEY,
        "server.auth": LOGIN,
        "chat.system_prompt": SYSTEM,
        **values,
    }
    return AppContext.create(paths, Settings.load(paths, environment={}, command_line=asked))


async def failed(context: AppContext, request: LoadRequest) -> list[tuple[str, str]]:
    """The steps of a load that fails, as (kind, loader)."""
    with pytest.raises(AppError):
        await context.pool.load(request)
    return [
        (str(rung.attempt.kind), rung.attempt.loader)
        for rung in context.pool.loads()[0].rungs
        if rung.state != "skipped"
    ]


def talk(context: AppContext) -> None:
    """A conversation, and a log that quotes it, with everything in it that a log should not have."""
    chat = context.store.create(system_prompt=SYSTEM)
    context.store.append(chat.id, "user", PROMPT)
    context.store.append(chat.id, "assistant", f"First line of the answer.\n{REPLY}")
    spoken = json.dumps({"prompt": PROMPT, "reply": REPLY, "home": str(Path.home())})
    lines = (
        f"rendered {PROMPT} for {PERSON}@{MACHINE} in {Path.home() / 'models'}",
        f"{spoken} Authorization: Bearer {API_KEY}; basic {base64.b64encode(LOGIN.encode()).decode()}",
        f"HF_TOKEN={TOKEN} http://{LOGIN}@{MACHINE}/?q={quote(PROMPT)}&home={quote(str(Path.home()), safe='')}",
    )
    context.paths.logs.joinpath("app.log").write_text("\n".join(lines))


@pytest.fixture
async def made(home: Path) -> tuple[Bundle, list[tuple[str, str]]]:
    """A bundle after two real engines refused a file, and the steps that were taken."""
    (home / "models").mkdir()
    model = tiny_llama_bpe(home / "models" / "lost.gguf")
    facts = inspect_model(model)
    spoil(model, "unknown-architecture")
    context = opened(home)
    try:
        steps = await failed(context, LoadRequest(facts, parameters={"context_size": 512}))
        talk(context)
        return await gather_bundle(Source(context.paths, context.loaders, context)), steps
    finally:
        await context.close()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another home on another machine."""
    other = machines.facts("amd-discrete", tmp_path / "machine")
    monkeypatch.setattr(context_module, "detect", lambda folder: other)
    monkeypatch.setattr(memory, "available", lambda: 3 << 30)
    monkeypatch.setenv("GGUF_HOME", str(tmp_path / "elsewhere"))
    return tmp_path


def decided(read: ReadBundle, loaders: Mapping[str, Any] = LOADERS) -> list[dict[str, Any]]:
    answers = read.decide_again(loaders)
    assert [(one.kind, one.about, one.problem) for one in answers if not one.same] == []
    return [one.again for one in answers if one.kind == "ladder"]


@pytest.mark.engine
async def test_elsewhere_it_gives_the_same_plan_ranking_and_ladder(
    made: tuple[Bundle, list[tuple[str, str]]], elsewhere: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle, steps = made
    file = bundle.write(elsewhere)
    assert [loader for _, loader in steps] == list(TWO)
    ladder = decided(read_bundle(file))
    assert [(one["kind"], one["loader"]) for one in ladder[:-1]] == steps
    assert ladder[-1]["give_up"]["code"] == "unsupported_architecture"
    assert main(["plan", "--from-bundle", str(file), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["same"] is True and told["changed"] == []
    kinds = [one["kind"] for one in told["answers"]]
    assert (kinds.count("ranking"), kinds.count("plan") >= 2, kinds.count("ladder")) == (1, True, len(steps) + 1)
    assert main(["plan", "--from-bundle", str(file)]) == 0
    text = capfd.readouterr().out
    assert "lost with xllamacpp fits" in text
    assert f"{len(kinds)} of {len(kinds)} decisions are the same" in text


@pytest.mark.engine
async def test_what_is_decided_otherwise_is_told(
    made: tuple[Bundle, list[tuple[str, str]]], elsewhere: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = {part.name: json.loads(part.text) for part in made[0].parts if part.name == "replay.json"}["replay.json"]
    content["models"][0]["plans"][0]["question"]["machine"]["available"] = 1 << 20
    content["loads"][0]["climbs"][0]["decisions"][0]["host_available"] = 1 << 20
    file = rewritten(made[0].write(elsewhere), elsewhere / "other.zip", {"replay.json": json.dumps(content)})
    assert main(["plan", "--from-bundle", str(file)]) == 1
    text = capfd.readouterr().out
    assert "warning: replay.json was changed" in text
    assert text.count("(NOT as recorded)") >= 2


@pytest.mark.engine
async def test_a_scan_finds_nothing_of_anybody(
    made: tuple[Bundle, list[tuple[str, str]]], home: Path, tmp_path: Path
) -> None:
    file = made[0].write(tmp_path)
    found = contents(file)
    assert {
        "README.txt",
        "manifest.json",
        "versions.json",
        "hardware.json",
        "health.json",
        "configuration.json",
    } <= set(found)
    assert {"failures.json", "metrics.json", "replay.json", "model-1.json", "log.txt"} <= set(found)
    wanted = [spelling for word in (*PLANTED, str(home)) for spelling in spellings(word)]
    for name, raw in {**found, file.name: file.read_bytes()}.items():
        for spelling in wanted:
            assert spelling.lower() not in raw.lower(), f"{spelling!r} stands in {name}"
    header = json.loads(found["model-1.json"])["files"][0]
    assert header["metadata"]["general.architecture"] == "lemma" and header["tensors"]
    assert "tokenizer.ggml.tokens" in header["lists"] and "tokenizer.ggml.tokens" not in header["metadata"]
    failure = json.loads(found["failures.json"])["failures"][-1]
    assert failure["error"]["evidence"] and failure["loader"] == "xllamacpp"
    measured = json.loads(found["metrics.json"])
    assert [load["outcome"] for load in measured["loads"]] == ["failed", "failed"] and measured["days"]
    settings = json.loads(found["configuration.json"])["settings"]
    assert settings["server.api_key"] == {"value": "********", "source": "the command line"}
    assert settings["chat.system_prompt"]["value"].startswith("<written: ")
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.engine
async def test_what_is_ticked_is_in_it(home: Path) -> None:
    context = opened(home)
    try:
        talk(context)
        source = Source(context.paths, context.loaders, context)
        bundle = await gather_bundle(source, list(SHOWABLE))
        whole = "".join(part.text for part in bundle.parts)
        for word in (*PLANTED, str(home)):
            assert word in whole or json.dumps(word)[1:-1] in whole, word
        names = await gather_bundle(source, ["names"])
        text = "".join(part.text for part in names.parts)
        assert MACHINE in text and API_KEY not in text and PROMPT not in text and str(home) not in text
        with pytest.raises(InvalidRequest, match="cannot hold 'everything'"):
            await gather_bundle(source, ["everything"])
    finally:
        await context.close()


async def test_the_ladder_of_a_full_gpu(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a card in the machine where it is made, and none where it is read."""
    facts = machines.facts("nvidia-single", tmp_path / "machine")
    monkeypatch.setattr(context_module, "detect", lambda folder: facts)
    stage = home / ".gguf-loader" / "extensions" / "stage"
    stage.mkdir(parents=True)
    shutil.copy(recovery_stage.__file__, stage / "__init__.py")
    (stage / "first.full").touch()
    context = opened(home, **{"backends.disabled": [*LOADERS]})
    try:
        model = inspect_model(tiny_llama_bpe(tmp_path / "full.gguf"))
        status = await context.pool.load(LoadRequest(model, "first"))
        kinds = [str(rung.attempt.kind) for rung in status.ladder]
        assert len(kinds) > 1
        bundle = await gather_bundle(Source(context.paths, context.loaders, context))
        known = dict(context.loaders)
    finally:
        await context.close()
    monkeypatch.undo()
    read = read_bundle(bundle.write(tmp_path))
    assert [one["kind"] for one in decided(read, known)] == kinds
    strangers = read.decide_again(LOADERS)
    assert all("first" in one.problem for one in strangers if one.kind != "plan" or one.about == "first")


def test_a_bundle_of_an_app_that_does_not_start(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GGUF_HOME", str(home / ".gguf-loader"))
    Paths.from_environment().ensure().settings_file.write_text("server: [")
    target = home / "bundle.zip"
    assert main(["doctor", "--bundle", str(target)]) == 0
    assert "Written:" in capfd.readouterr().out
    found = contents(target)
    assert "invalid_setting" in found["configuration.json"].decode()
    assert PERSON.encode() not in b"".join(found.values())
    assert main(["plan", "--from-bundle", str(target)]) == 1
    assert "nothing to decide again" in capfd.readouterr().err


def test_what_would_be_in_it_is_listed_without_writing(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--bundle", "-", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["file"] is None and told["holds"] == []
    assert "log.txt" in [part["name"] for part in told["parts"]]
    assert main(["doctor", "--bundle", "-", "--include", "paths,everything"]) == 1
    assert "It can hold" in capfd.readouterr().err


# --- bundles that somebody made up ------------------------------------------------------------------------------------


def zipped(path: Path, entries: Mapping[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def rewritten(source: Path, target: Path, changes: Mapping[str, str]) -> Path:
    return zipped(target, {**contents(source), **changes})


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def spellings(word: str) -> list[bytes]:
    return [
        text.encode()
        for text in (
            word,
            json.dumps(word)[1:-1],
            quote(word),
            quote(word, safe=""),
            base64.b64encode(word.encode()).decode(),
        )
    ]


MANIFEST = json.dumps({"format": 1, "app_version": "0", "made_at": 0, "files": []})
HOSTILE: dict[str, Callable[[Path], Path]] = {
    "text": lambda path: path.write_text("not a zip") and path,
    "empty": lambda path: path.write_bytes(b"") or path,
    "cut": lambda path: path.write_bytes(zipped(path, {"manifest.json": MANIFEST}).read_bytes()[:-30]) and path,
    "outside": lambda path: zipped(path, {"manifest.json": MANIFEST, "../../evil.json": "{}"}),
    "absolute": lambda path: zipped(path, {"manifest.json": MANIFEST, "/etc/evil.json": "{}"}),
    "folders": lambda path: zipped(path, {"manifest.json": MANIFEST, "a/b.json": "{}"}),
    "no manifest": lambda path: zipped(path, {"replay.json": "{}"}),
    "other version": lambda path: zipped(path, {"manifest.json": '{"format": 99}'}),
    "bomb": lambda path: zipped(path, {"manifest.json": MANIFEST, "log.json": b" " * (LARGEST_ENTRY + 1)}),
    "many": lambda path: zipped(path, {"manifest.json": MANIFEST, **{f"{n}.json": "{}" for n in range(500)}}),
    "very many": lambda path: zipped(path, {f"{n:070}.json": "" for n in range(10_000)}),
    "packed oddly": lambda path: zipped(path, {"manifest.json": MANIFEST}, zipfile.ZIP_LZMA),
    "deep": lambda path: zipped(path, {"manifest.json": MANIFEST, "replay.json": "[" * 100_000 + "]" * 100_000}),
    "nested": lambda path: zipped(path, {"manifest.json": MANIFEST, "replay.json": "[" * 200 + "]" * 200}),
    "endless": lambda path: zipped(path, {"manifest.json": MANIFEST, "replay.json": '{"models": Infinity}'}),
    "huge number": lambda path: zipped(path, {"manifest.json": MANIFEST, "replay.json": f'{{"a": {1 << 70}}}'}),
    "long number": lambda path: zipped(path, {"manifest.json": MANIFEST, "replay.json": "9" * 100_000}),
    "not utf-8": lambda path: zipped(path, {"manifest.json": MANIFEST, "replay.json": b"\xff\xfe"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_bundle_is_refused_in_one_sentence(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = HOSTILE[name](tmp_path / "hostile.zip")
    with pytest.raises(CorruptFile):
        read_bundle(file)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert main(["plan", "--from-bundle", str(file)]) == 1
    assert "Traceback" not in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    file = zipped(tmp_path / "hostile.zip", {"manifest.json": MANIFEST})
    raw = bytearray(file.read_bytes())
    for place in (raw.index(b"PK\x03\x04") + 6, raw.index(b"PK\x01\x02") + 8):
        raw[place] |= 1
    file.write_bytes(raw)
    with pytest.raises(CorruptFile, match="no support bundle"):
        read_bundle(file)


@pytest.mark.engine
async def test_content_that_cannot_be_meant_is_refused(
    made: tuple[Bundle, list[tuple[str, str]]], tmp_path: Path
) -> None:
    content = next(part.text for part in made[0].parts if part.name == "replay.json")
    edits: list[Callable[[Any], Any]] = [
        lambda data: data["facts"][0].update(block_count=1 << 40),
        lambda data: data["facts"][0].update(format="lemma"),
        lambda data: data["models"][0]["ranking"].update(facts=99),
        lambda data: data["models"][0]["plans"][0]["question"].update(machine=[]),
        lambda data: data["loads"][0]["climbs"][0]["decisions"][0].update(tried=[7]),
        lambda data: data["loads"][0]["climbs"][0].pop("candidates"),
        lambda data: data.update(models={}, loads=3),
        lambda data: data.pop("facts"),
        lambda data: data.update(loads=data["loads"] * 100),
    ]
    for edit in edits:
        data = json.loads(content)
        edit(data)
        file = zipped(tmp_path / "hostile.zip", {"manifest.json": MANIFEST, "replay.json": json.dumps(data)})
        with pytest.raises(CorruptFile):
            read_bundle(file).decide_again(LOADERS)


def test_texts_of_a_bundle_cannot_command_a_terminal(tmp_path: Path) -> None:
    texts = json.dumps({"title": "\x1b]0;evil\x07 \x9b31m ok"})
    file = zipped(tmp_path / "hostile.zip", {"manifest.json": MANIFEST, "other.json": texts})
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", read_bundle(file).files["other.json"]["title"])
