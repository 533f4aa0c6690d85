"""Everything a person has set, in one file: a ZIP of texts, written and read here.

    manifest.json         what this is, when it was made, and what was left out
    settings.yaml         the user's settings
    backend_config.json   backends, their order and their parameters
    model_settings.json   what was saved for single models
    presets/NAME.yaml     the user's own presets
    chats.jsonl           a conversation on each line

Logins, keys and whatever looks like one are left out unless they are asked for. A file that is read may come from
anywhere: nothing of it is ever unpacked to a place that it names, only these entries are looked at, and each is read up
to a bound. What it means and whether it is carried is `webui.migration.importing`'s business.
"""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webui.chat.conversations import ConversationStore
from webui.chat.presets import NAME, PresetStore
from webui.errors import InvalidRequest, InvalidSetting
from webui.files import storage_errors, write_atomically
from webui.settings import Declared, ModelSettings, Settings, backend_config
from webui.settings.declared import find
from webui.settings.reading import parse_yaml, read_text

if TYPE_CHECKING:
    from webui.paths import Paths

FORMAT, VERSION = "gguf-loader-webui export", 1
LARGEST_ARCHIVE = 256 << 20
LARGEST_TEXT = 256 << 10
LARGEST_PRESETS = 1 << 20
LARGEST_JSON = 16 << 20
LARGEST_CHATS = 512 << 20
LARGEST_CHAT = 64 << 20
MOST_ENTRIES = 5000
MANIFEST, SETTINGS, BACKENDS, MODELS, CHATS = (
    "manifest.json",
    "settings.yaml",
    "backend_config.json",
    "model_settings.json",
    "chats.jsonl",
)
PRESETS = "presets/"
SECRET_NAME = re.compile(r"(?i)api[-_]?key|secret|passw|credential|(^|[-_])(auth|token|key|login)$")
SECRET_TEXT = re.compile(
    r"(?i)--?(api|hf|auth|access)[-_]?(key|token)\b|--?(password|auth)\b|://[^/\s:@]+:[^/\s@]+@|\b(hf_|sk-)[\w-]{16,}"
)
"""An argument, an address or a key itself that somebody put into a text of another purpose."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An export as it was read; `strange` are entries of it that nobody knows."""

    manifest: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    backends: dict[str, Any] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)
    presets: dict[str, str] = field(default_factory=dict)
    chats: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()


def export(paths: Paths, settings: Settings, *, secrets: bool = False, chats: bool = True) -> bytes:
    """All of this home as one file. Raises `InvalidSetting` where a file of it cannot be understood."""
    left_out: list[str] = []
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in _texts(paths, settings, secrets, left_out):
            archive.writestr(name, text)
        if chats and (database := paths.chats / "chats.sqlite3").exists():
            store = ConversationStore(database, mend=False)
            try:
                with archive.open(CHATS, "w") as lines:
                    for conversation in store.everything():
                        lines.write(json.dumps(asdict(conversation)).encode() + b"\n")
            finally:
                store.close()
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "secrets": secrets,
            "left_out": left_out,
        }
        archive.writestr(MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return stream.getvalue()


def back_up(paths: Paths, settings: Settings, reason: str) -> Path:
    """Keep all but the chats, secrets included, in `backups/` of the home; returns the file, its owner's alone."""
    content = export(paths, settings, secrets=True, chats=False)
    stem = f"{reason}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while (file := paths.backups / (f"{stem}.zip" if number == 1 else f"{stem}-{number}.zip")).exists():
        number += 1
    with storage_errors(f"{file} was not written"):
        write_atomically(file, content, private=True)
    return file


def read(content: bytes) -> Archive:
    """An export from its bytes. Raises `InvalidRequest` for what is none, or is larger than any honest one."""
    if len(content) > LARGEST_ARCHIVE:
        raise InvalidRequest(f"The file is larger than {LARGEST_ARCHIVE >> 20} MiB, so it is no export of this app.")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _read(archive)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise _not_ours(str(error)) from error
    except (ValueError, InvalidSetting, RecursionError) as error:
        raise _not_ours(getattr(error, "message", str(error))) from error


def _read(archive: zipfile.ZipFile) -> Archive:
    names = archive.namelist()
    if len(names) > MOST_ENTRIES or len(set(names)) != len(names):
        raise _not_ours(f"it has {len(names)} entries" if len(names) > MOST_ENTRIES else "an entry stands in it twice")
    if MANIFEST not in names:
        raise _not_ours("it has no manifest.json")
    manifest = _object(archive, MANIFEST)
    if manifest.get("format") != FORMAT:
        raise _not_ours("its manifest.json is another program's")
    version = manifest.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise InvalidRequest("The export comes from a newer version of this app.", hint="Update the app.")
    presets = {name.removeprefix(PRESETS).removesuffix(".yaml"): name for name in names if _is_preset(name)}
    known = {MANIFEST, SETTINGS, BACKENDS, MODELS, CHATS, *presets.values()}
    return Archive(
        manifest,
        parse_yaml(_text(archive, SETTINGS), SETTINGS) if SETTINGS in names else {},
        backend_config.parse(_text(archive, BACKENDS, LARGEST_JSON), BACKENDS) if BACKENDS in names else {},
        _object(archive, MODELS) if MODELS in names else {},
        _presets(archive, presets),
        tuple(_lines(archive)) if CHATS in names else (),
        tuple(name for name in names if name not in known and not name.endswith("/")),
    )


def _is_preset(name: str) -> bool:
    stem = name.removeprefix(PRESETS).removesuffix(".yaml")
    return name == f"{PRESETS}{stem}.yaml" and NAME.fullmatch(stem) is not None


def _presets(archive: zipfile.ZipFile, names: Mapping[str, str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    read = 0
    for preset, name in names.items():
        texts[preset] = _text(archive, name)
        read += len(texts[preset])
        if read > LARGEST_PRESETS:
            raise _not_ours(f"the presets in it are larger than {LARGEST_PRESETS >> 10} KiB together")
    return texts


def _text(archive: zipfile.ZipFile, name: str, largest: int = LARGEST_TEXT) -> str:
    """The entry's text. What its directory says of its size is not believed."""
    with archive.open(name) as stream:
        content = stream.read(largest + 1)
    if len(content) > largest:
        raise _not_ours(f"{name} in it is larger than {largest >> 10} KiB")
    return content.decode("utf-8-sig")


def _object(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    found = json.loads(_text(archive, name, LARGEST_JSON))
    if not isinstance(found, dict):
        raise _not_ours(f"{name} in it is no JSON object")
    return found


def _lines(archive: zipfile.ZipFile) -> Iterator[str]:
    read = 0
    with archive.open(CHATS) as stream:
        while line := stream.readline(LARGEST_CHAT + 1):
            read += len(line)
            if len(line) > LARGEST_CHAT or read > LARGEST_CHATS:
                raise _not_ours("the conversations in it are too large")
            if line.strip():
                yield line.decode("utf-8")


def _not_ours(why: str) -> InvalidRequest:
    return InvalidRequest(
        "The file is not a whole export of this app.",
        cause=why,
        hint="Choose a file that was made by Export or by python3 app.py config export.",
    )


# --- what goes into an export ---------------------------------------------------------------------------------------


def _texts(paths: Paths, settings: Settings, secrets: bool, left_out: list[str]) -> Iterator[tuple[str, str]]:
    keys = {key: settings.declaration(key) for key in settings.keys()}  # noqa: SIM118 (not a mapping)
    # With secrets a file stays as it is, comments and all; without, comments may hold what must not go out.
    if paths.settings_file.exists():
        text = read_text(paths.settings_file, str(paths.settings_file))
        data = parse_yaml(text, str(paths.settings_file))
        yield SETTINGS, text if secrets else _yaml(_without_secrets(data, (), keys, left_out))
    for name, data in (
        (BACKENDS, backend_config.find(paths.backend_config).data),
        (MODELS, ModelSettings(paths).all()),
    ):
        if data:
            yield name, backend_config.text_of(data if secrets else _without_secrets(data, (), keys, left_out))
    presets = PresetStore(paths)
    for preset in presets.names():
        if presets.own(preset):
            yield f"{PRESETS}{preset}.yaml", presets.text(preset)


def _yaml(data: Mapping[str, Any]) -> str:
    from ruamel.yaml import YAML

    stream = io.StringIO()
    YAML().dump(data, stream)
    return stream.getvalue()


def _without_secrets(data: Any, place: tuple[str, ...], keys: Mapping[str, Declared], left_out: list[str]) -> Any:
    """A copy of JSON-like `data` without what is declared to be a secret, or looks like one and is not declared."""
    if isinstance(data, dict):
        kept = {}
        for name, value in data.items():
            inner = (*place, str(name))
            if _is_secret(inner, value, keys):
                left_out.append(".".join(inner))
            else:
                kept[name] = _without_secrets(value, inner, keys, left_out)
        return kept
    if isinstance(data, list):
        secret = [isinstance(item, str) and SECRET_TEXT.search(item) is not None for item in data]
        if any(secret):
            left_out.append(".".join(place))
        return [
            _without_secrets(item, place, keys, left_out)
            for item, hidden in zip(data, secret, strict=True)
            if not hidden
        ]
    return data


def _is_secret(place: tuple[str, ...], value: Any, keys: Mapping[str, Declared]) -> bool:
    declared = find(".".join(place), keys)
    if declared is not None and declared.secret:
        return value not in (None, "")
    if isinstance(value, str) and SECRET_TEXT.search(value):
        return True
    return declared is None and SECRET_NAME.search(place[-1]) is not None and isinstance(value, str | int | list)
