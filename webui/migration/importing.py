"""What an export would change here, shown before it is done, and doing it.

Settings that the export holds are saved over those here; what it does not name stays, or with `replace` goes back to
its default. Presets and settings of single models go over those of the same name or path. Conversations are added, and
none is changed: one that is here already is left, and one that is here with another text is added beside it. Whatever
is wrong in the export is left out with the reason.

An export may come from a stranger. What lets others reach this server, names files of this machine or lets code run is
therefore carried only on request (`protected`).
"""

from __future__ import annotations

import hashlib
import math
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from webui.chat.conversations import Conversation, ConversationStore, Message
from webui.chat.presets import PresetStore
from webui.errors import AppError, InvalidRequest, InvalidSetting
from webui.files import storage_errors
from webui.loaders.contract import LoaderSpec
from webui.loaders.parameters import controls
from webui.loaders.sampling import SamplingParameters
from webui.migration.archive import Archive, back_up
from webui.paths import Paths
from webui.settings import Declared, ModelSettings, Settings, SettingsStore, backend_config
from webui.settings.declared import HIDDEN, find, plain, unknown
from webui.settings.layers import flatten_yaml
from webui.settings.words import written

ROLES = frozenset({"system", "user", "assistant"})
ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
LONGEST_SHOWN = 60
LARGEST_FIGURE = 1e15
SOURCE = "the export"
NOT_ASKED_FOR = "it concerns this machine or who may reach it, and is carried only when that is asked for"

Kind = Literal["setting", "model", "preset", "chat", "entry"]
Chat = TypeAdapter(Conversation)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing of an export: what it is here, what it would be, or why it stays as it is."""

    kind: Kind
    name: str
    before: str = ""
    after: str = ""
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """What an import writes to."""

    paths: Paths
    loaders: Mapping[str, LoaderSpec]
    store: SettingsStore
    conversations: ConversationStore


class Import:
    """The import of one export. Made again for each look, so that it tells of things as they are now."""

    def __init__(self, archive: Archive, places: Places, *, protected: bool = False, replace: bool = False) -> None:
        self.archive, self.places = archive, places
        self.protected, self.replace = protected, replace
        self._settings: Settings = places.store.load()
        self._here = backend_config.find(places.paths.backend_config).data
        self._models = ModelSettings(places.paths)
        self._presets = PresetStore(places.paths)
        self._changes: dict[str, Any] = {}
        self._removed: list[str] = []
        self._saved_models: dict[str, dict[str, Any]] = {}
        self._saved_presets: dict[str, tuple[SamplingParameters, str]] = {}
        self._chats: list[Conversation] = []
        self._strange: dict[str, Any] = {}
        self._strange_of: dict[str, dict[str, Any]] = {}
        self.steps: tuple[Step, ...] = (
            *self._plan_settings(),
            *self._plan_models(),
            *self._plan_presets(),
            *self._plan_chats(),
            *(Step("entry", name, why_not="nothing of this app has this name") for name in archive.strange),
        )

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that change something."""
        return tuple(step for step in self.steps if not step.why_not)

    def carry_out(self) -> Path:
        """Back up, then write what was planned; returns the backup. Each part is written whole or not at all.

        Raises `AppError` where a part cannot be written. Doing it again completes it, importing the backup undoes it.
        """
        backup = back_up(self.places.paths, self._settings, "before-import")
        self.places.store.change(self._changes, self._removed)
        if self._strange or self._strange_of:
            self.places.store.add_unknown(self._strange, self._strange_of)
        with storage_errors("The import was not completed"):
            for name, (parameters, description) in self._saved_presets.items():
                self._presets.save(name, parameters, description=description)
        if self._saved_models:
            self._models.save_all(self._saved_models)
        for conversation in self._chats:
            try:
                self.places.conversations.add(conversation)
            except InvalidRequest:  # a message of another conversation here has the same id
                self.places.conversations.add(_beside(conversation))
        return backup

    # Settings

    def _plan_settings(self) -> Iterator[Step]:
        settings = self._settings
        keys = {key: settings.declaration(key) for key in settings.keys()}  # noqa: SIM118 (not a mapping)
        values, problems = flatten_yaml(self.archive.settings, SOURCE)
        more, others = backend_config.flatten(self.archive.backends, SOURCE)
        for key, value in {**values, **more}.items():
            yield from self._plan_setting(key, value, find(key, keys))
        for problem in (*problems, *others):
            key = str(problem.facts.get("key", ""))
            if key not in self._here:
                yield self._strange_key(key, problem)
        if self.replace:
            for key, declared in keys.items():
                if settings.saved(key) and key not in self._changes and not self._held_back(declared):
                    self._removed.append(key)
                    yield Step("setting", key, _shown(declared, settings.value(key)), "as without it")

    def _plan_setting(self, key: str, value: Any, declared: Declared | None) -> Iterator[Step]:
        if declared is None:
            strange = self._unknown(key, value)
            yield from [strange] if strange else []
            return
        if value is None and not declared.spec.optional:
            return
        try:
            checked = declared.check(value, SOURCE)
        except InvalidSetting as error:
            yield Step("setting", declared.key, why_not=error.message)
            return
        before = self._settings.value(declared.key)
        if plain(checked) == plain(before):
            if self._settings.saved(declared.key):
                self._changes[declared.key] = checked  # so that `replace` leaves it
            return
        shown = (_shown(declared, before), _shown(declared, checked))
        if self._held_back(declared):
            yield Step("setting", declared.key, *shown, why_not=NOT_ASKED_FOR)
            return
        self._changes[declared.key] = checked
        yield Step("setting", declared.key, *shown)

    def _held_back(self, declared: Declared) -> bool:
        return (declared.protects or declared.spec.control.local) and not self.protected

    def _unknown(self, key: str, value: Any) -> Step | None:
        """A parameter that nobody knows here is kept in backend_config.json, where other programs may look for it.

        None where that file has one of the name, which stays.
        """
        section, _, rest = key.partition(".")
        name, _, parameter = rest.partition(".")
        if section == "loaders" and parameter:
            entry = backend_config.entry(self._here, name)
            if parameter in entry:
                return None
            self._strange_of.setdefault(name, {})[parameter] = value
            return Step("setting", key, after="kept in backend_config.json, sets nothing")
        return Step("setting", key, why_not=unknown(key, SOURCE, self._settings.keys()).message)

    def _strange_key(self, key: str, problem: InvalidSetting) -> Step:
        if key in self.archive.backends and "." not in key and key != "backends":
            self._strange[key] = self.archive.backends[key]
            return Step("setting", key, after="kept in backend_config.json, sets nothing")
        return Step("setting", key or "backends", why_not=problem.message)

    # Settings of single models

    def _plan_models(self) -> Iterator[Step]:
        here = self._models.all()
        for path, entry in self.archive.models.items():
            loader = entry.get("loader") if isinstance(entry, dict) else None
            parameters = entry.get("parameters") if isinstance(entry, dict) else None
            if not isinstance(parameters, dict) or not path or len(path) > 4096 or "\0" in path:
                yield Step("model", path[:LONGEST_SHOWN], why_not="it is not what this app saves for a model")
                continue
            if loader != "auto" and loader not in self.places.loaders:
                yield Step("model", path, why_not=f"{str(loader)[:LONGEST_SHOWN]} is not a backend here")
                continue
            sound, wrong = self._sound(str(loader), parameters)
            yield from (Step("model", path, why_not=reason) for reason in wrong)
            new = {"loader": loader, "parameters": sound}
            if here.get(path) != new:
                self._saved_models[path] = new
                yield Step("model", path, _entry(here.get(path)), _entry(new))

    def _sound(self, loader: str, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Those of a model's parameters that may be saved, and why not the others."""
        specs = list(self.places.loaders.values()) if loader == "auto" else [self.places.loaders[loader]]
        sound: dict[str, Any] = {}
        wrong: list[str] = []
        for name, value in parameters.items():
            owners = [spec for spec in specs if name in spec.parameters.model_fields]
            local = any(one.name == name and one.control.local for spec in owners for one in controls(spec.parameters))
            if not owners:
                wrong.append(f"{name[:LONGEST_SHOWN]} is no parameter of {loader}")
            elif local and not self.protected:
                wrong.append(f"{name}: {NOT_ASKED_FOR}")
            else:
                try:
                    for spec in owners:
                        spec.parameters.parse({name: value})
                    sound[name] = value
                except InvalidSetting as error:
                    wrong.append(error.message)
        return sound, wrong

    # Presets

    def _plan_presets(self) -> Iterator[Step]:
        for name, text in self.archive.presets.items():
            try:
                new = self._presets.parse(name, text)
                old = self._presets.parse(name, self._presets.text(name)) if self._presets.own(name) else None
            except InvalidSetting as error:
                yield Step("preset", name, why_not=error.message)
                continue
            if new != old:
                self._saved_presets[name] = new
                yield Step("preset", name, "yours of this name" if old else "", "the export's")

    # Conversations

    def _plan_chats(self) -> Iterator[Step]:
        for number, line in enumerate(self.archive.chats, start=1):
            try:
                chat = _sound_chat(Chat.validate_json(line))
            except (ValidationError, ValueError) as error:
                reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
                yield Step("chat", f"number {number}", why_not=f"it cannot be understood: {reason}")
                continue
            if self._is_here(chat):
                continue
            if self.places.conversations.has(chat.id):
                chat = _beside(chat)
                if self.places.conversations.has(chat.id):
                    continue
            self._chats.append(chat)
            yield Step("chat", chat.title[:LONGEST_SHOWN], after=f"{len(chat.messages)} messages")

    def _is_here(self, chat: Conversation) -> bool:
        conversations = self.places.conversations
        return conversations.has(chat.id) and _mark(conversations.get(chat.id)) == _mark(chat)


def _sound_chat(chat: Conversation) -> Conversation:
    """The conversation with what the page would stumble over taken out. Raises `ValueError` for what is none."""
    messages = tuple(map(_sound_message, chat.messages))
    if not ID.fullmatch(chat.id) or len({message.id for message in messages}) != len(messages):
        raise ValueError("its ids are not this app's")
    if not (math.isfinite(chat.created_at) and math.isfinite(chat.updated_at)):
        raise ValueError("its times are no times")
    try:
        SamplingParameters.parse(chat.sampling)
    except InvalidSetting:
        chat = replace(chat, sampling={})
    return replace(chat, title=chat.title[:200], messages=messages)


def _sound_message(message: Message) -> Message:
    if message.role not in ROLES or not ID.fullmatch(message.id) or not math.isfinite(message.created_at):
        raise ValueError("a message of it has no side, id or time that this app knows")
    timings = {
        name: value
        for name, value in (message.timings or {}).items()
        if value is None or (isinstance(value, str) and len(value) <= LONGEST_SHOWN) or _is_figure(value)
    }
    error = None
    if message.error is not None:
        told = {name: str(message.error.get(name, "")) for name in ("code", "message", "cause", "hint")}
        error = AppError.from_dict(told).to_dict()
    return replace(message, timings=timings or None, error=error)


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < LARGEST_FIGURE


def _mark(chat: Conversation) -> tuple[Any, ...]:
    return chat.system_prompt, [(message.role, message.content) for message in chat.messages]


def _beside(chat: Conversation) -> Conversation:
    """The same under ids of its own, the same ones each time, so that importing it again adds nothing."""
    content = hashlib.blake2b(repr(_mark(chat)).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def other(name: str) -> str:
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {content}").hex

    messages = tuple(replace(message, id=other(message.id)) for message in chat.messages)
    return replace(chat, id=other(chat.id), title=f"{chat.title} (imported)", messages=messages)


def _shown(declared: Declared, value: Any) -> str:
    if declared.secret:
        return HIDDEN if value else "empty"
    return (written(value) or "empty")[:LONGEST_SHOWN]


def _entry(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return ""
    values = ", ".join(f"{name} {written(value)}" for name, value in dict(entry.get("parameters") or {}).items())
    return f"{entry.get('loader')}: {values or 'no parameters'}"[:200]
