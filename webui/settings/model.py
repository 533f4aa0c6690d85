"""`Settings`: the layers merged into one frozen value that knows where each part came from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from webui.errors import InvalidSetting
from webui.loaders.parameters import Parameters
from webui.settings.backend_config import unknown_backend, unknown_parameter
from webui.settings.declared import HIDDEN, Declared, declare, find, nearest, plain, unknown
from webui.settings.groups import (
    GROUPS,
    BackendSettings,
    ChatSettings,
    ExtensionSettings,
    GeneralSettings,
    HardwareSettings,
    LimitSettings,
    ModelsSettings,
    ServerSettings,
    SetupSettings,
)
from webui.settings.layers import COMMAND_LINE, Layer, absolute, read_layers

if TYPE_CHECKING:
    from webui.loaders.contract import LoaderSpec
    from webui.paths import Paths

BUILT_IN = "built-in"


@dataclass(frozen=True, slots=True)
class Backends:
    """Which backends may be used, in which order, with which parameters as their starting point."""

    declared: BackendSettings
    order: tuple[str, ...]
    """All known backends, first to be tried first; also those that are switched off."""
    configured: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def preferred_backend(self) -> str:
        return self.declared.preferred_backend

    @property
    def gpu_enabled(self) -> bool:
        return self.declared.gpu_enabled

    @property
    def fallback_enabled(self) -> bool:
        return self.declared.fallback_enabled

    def enabled(self, name: str) -> bool:
        return name not in self.declared.disabled

    def parameters(self, name: str) -> dict[str, Any]:
        """What is configured for this backend; the rest are the defaults of its parameter class."""
        return dict(self.configured.get(name, {}))


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the settings were made from, so that they can be made again after a save or with more loaders."""

    paths: Paths
    environment: Mapping[str, str] = field(repr=False)
    command_line: Mapping[str, Any] = field(repr=False)
    started_in: Path
    loaders: Mapping[str, LoaderSpec] | None = field(repr=False)
    """The complete map, or None while extensions may still add to it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one run. Made by `Settings.load`, never changed; `SettingsStore.save` returns a new one.

    `problems` are the values that were left aside, one `InvalidSetting` each, for the page and `doctor` to show.
    """

    server: ServerSettings
    backends: Backends
    hardware: HardwareSettings
    models: ModelsSettings
    limits: LimitSettings
    chat: ChatSettings
    setup: SetupSettings
    extensions: ExtensionSettings
    debug: bool
    problems: tuple[InvalidSetting, ...]
    _keys: Mapping[str, Declared] = field(repr=False, compare=False)
    _values: Mapping[str, Any] = field(repr=False)
    _sources: Mapping[str, str] = field(repr=False, compare=False)
    _saved: frozenset[str] = field(repr=False, compare=False)
    _inputs: Inputs = field(repr=False, compare=False)

    @classmethod
    def load(
        cls,
        paths: Paths,
        *,
        environment: Mapping[str, str] | None = None,
        command_line: Mapping[str, Any] | None = None,
        loaders: Mapping[str, LoaderSpec] | None = None,
        started_in: Path | None = None,
    ) -> Settings:
        """Read and merge all layers.

        `command_line` holds dotted keys. `loaders` is the complete map, extensions included; without it the shipped
        ones are known, and keys of other loaders are kept unchecked until `with_loaders`. Raises `InvalidSetting` for
        what must not be left aside (see `webui.settings.layers`).
        """
        found = os.environ if environment is None else environment
        inputs = Inputs(
            paths,
            MappingProxyType({name: value for name, value in found.items() if name.startswith("GGUF_")}),
            MappingProxyType(dict(command_line or {})),
            started_in or Path.cwd(),
            loaders,
        )
        return _merge(inputs)

    def with_loaders(self, loaders: Mapping[str, LoaderSpec]) -> Settings:
        """The same settings read again, now that extensions have added their loaders to the map."""
        return _merge(replace(self._inputs, loaders=loaders))

    def reload(self) -> Settings:
        """The same layers read again, as the files stand now. Raises as `load` does."""
        return _merge(self._inputs)

    def source(self, key: str) -> str:
        """Where the value of a dotted key came from: built-in, a file, a variable, the command line."""
        if key not in self._values and key not in self._keys:
            raise unknown(key, "the program", self._keys)
        return self._sources.get(key, BUILT_IN)

    def given(self, key: str) -> bool:
        """Whether some place gives a dotted key a value, also one that is the default."""
        return key in self._sources

    def saved(self, key: str) -> bool:
        """Whether the user's own files hold a dotted key, and so it can be reset; something stronger may go over it."""
        return key in self._saved

    def value(self, key: str) -> Any:
        """The value of a dotted key, as its type; raises `InvalidSetting` for one that is not declared."""
        if key in self._values:
            return self._values[key]
        if key not in self._keys:
            raise unknown(key, "the program", self._keys)
        return self._keys[key].spec.default

    def keys(self) -> tuple[str, ...]:
        """All declared keys, in the order of the file."""
        return tuple(self._keys)

    def declaration(self, key: str) -> Declared:
        """The declaration of a key: label, help, unit, bounds."""
        if key not in self._keys:
            raise unknown(key, "the program", self._keys)
        return self._keys[key]

    def shown(self) -> dict[str, Any]:
        """All values as JSON types, secrets hidden: fit for a log, the page and a support bundle."""
        return {
            key: HIDDEN if declared.secret and self.value(key) else plain(self.value(key))
            for key, declared in self._keys.items()
        }


@dataclass(slots=True)
class _Merge:
    """The state of one merge."""

    keys: Mapping[str, Declared]
    loaders: Mapping[str, LoaderSpec]
    complete: bool
    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[InvalidSetting] = field(default_factory=list)
    saved: set[str] = field(default_factory=set)
    strangers: set[str] = field(default_factory=set)
    """Backends that do not exist and have been reported."""

    def add(self, layer: Layer) -> None:
        self.problems += layer.problems
        if self.complete:
            strangers = [name for name in layer.backends if name not in self.loaders]
            self.problems += [unknown_backend(name, layer.source, self.loaders) for name in strangers]
            self.strangers |= set(strangers)
        for key, value in layer.values.items():
            source = layer.source_of(key)
            declared = find(key, self.keys)
            if layer.own and declared is not None:
                self.saved.add(declared.key)
            if value is None and not layer.strict and declared is not None and not declared.spec.optional:
                continue
            try:
                if declared is None:
                    self._undeclared(key, value, source, layer)
                else:
                    checked = declared.check(value, source, layer.name_in_file(key))
                    self.values[declared.key] = absolute(checked, layer.folder)
                    self.sources[declared.key] = source
            except InvalidSetting as error:
                if layer.strict or (declared is not None and declared.protects):
                    raise
                self.problems.append(error)

    def _undeclared(self, key: str, value: Any, source: str, layer: Layer) -> None:
        section, _, rest = key.partition(".")
        name = rest.partition(".")[0]
        if section == "loaders" and name not in self.loaders and not self.complete:
            # An extension that is not loaded yet may bring this backend.
            self.values[key], self.sources[key] = value, source
            return
        if section == "loaders" and name in layer.backends:
            if name in self.loaders:
                raise unknown_parameter(
                    key, source, [other for other in self.keys if other.startswith(f"loaders.{name}.")]
                )
            return
        raise unknown(key, source, self.keys)

    def check_names(self) -> None:
        """Backends that are named and do not exist, once all that can exist are known."""
        if not self.complete:
            return
        named = {"backends.preferred_backend": (self.values.get("backends.preferred_backend", "auto"),)}
        for key in ("backends.fallback_order", "backends.disabled"):
            named[key] = self.values.get(key, ())
        for key, names in named.items():
            for name in names:
                if name in self.loaders or (name == "auto" and key == "backends.preferred_backend"):
                    continue
                if name in self.strangers and key != "backends.preferred_backend":
                    continue
                near = nearest(name, self.loaders)
                error = InvalidSetting(
                    f"{key} in {self.sources[key]} names {name}, which is not a backend"
                    + (f"; did you mean {near}?" if near else ""),
                    hint=f"Backends are {', '.join(self.loaders)}.",
                    key=key,
                    source=self.sources[key],
                )
                if key == "backends.preferred_backend":
                    if self._forced(key):
                        raise error
                    del self.values[key], self.sources[key]
                self.problems.append(error)

    def check_profile(self) -> None:
        """A hardware profile that is named and is not one."""
        key, name = "hardware.profile", self.values.get("hardware.profile", "")
        lines = self.values.get("hardware.profiles", ())
        known = [one.name for one in HardwareSettings(profiles=lines).known()]
        if not name or name in known:
            return
        error = InvalidSetting(
            f"{key} in {self.sources[key]} names {name}, which is not a hardware profile",
            hint=f"Hardware profiles are {', '.join(known)}. All GPUs named in hardware.gpus are used until then.",
            key=key,
            source=self.sources[key],
        )
        if self._forced(key):
            raise error
        del self.values[key], self.sources[key]
        self.problems.append(error)

    def _forced(self, key: str) -> bool:
        """Whether this start says so, and is better not made than made otherwise."""
        return self.sources[key] == COMMAND_LINE or self.sources[key].startswith("GGUF_")

    def section(self, name: str) -> dict[str, Any]:
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.values.items() if key.startswith(prefix)}

    def loader_parameters(self) -> dict[str, dict[str, Any]]:
        """Per loader, values that also fit together; where they do not, none of them is used."""
        gathered: dict[str, dict[str, Any]] = {}
        for key, value in self.section("loaders").items():
            name, _, parameter = key.partition(".")
            gathered.setdefault(name, {})[parameter] = value
        for name, values in gathered.items():
            spec = self.loaders.get(name)
            if spec is None:
                continue
            try:
                spec.parameters.model_validate(values)
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                self.problems.append(
                    InvalidSetting(f"the parameters under loaders.{name} do not fit together: {reason}", key=name)
                )
                gathered[name] = {}
        return gathered


def _merge(inputs: Inputs) -> Settings:
    if inputs.loaders is None:
        from webui.loaders import LOADERS

        merge = _Merge(declare(LOADERS), LOADERS, complete=False)
    else:
        merge = _Merge(declare(inputs.loaders), inputs.loaders, complete=True)
    for layer in read_layers(inputs.paths, inputs.environment, inputs.command_line, merge.keys, inputs.started_in):
        merge.add(layer)
    merge.check_names()
    merge.check_profile()
    groups: dict[str, Any] = {name: _group(group, merge.section(name)) for name, group in GROUPS.items()}
    declared: BackendSettings = groups.pop("backends")
    backends = Backends(declared, _order(declared, merge.loaders), merge.loader_parameters())
    general = _group(GeneralSettings, {key: value for key, value in merge.values.items() if "." not in key})
    return Settings(
        backends=backends,
        debug=general.debug,
        problems=tuple(merge.problems),
        _keys=MappingProxyType(dict(merge.keys)),
        _values=MappingProxyType(merge.values),
        _sources=MappingProxyType(merge.sources),
        _saved=frozenset(merge.saved),
        _inputs=inputs,
        **groups,
    )


def _group(group: type[Parameters], values: Mapping[str, Any]) -> Any:
    return group.model_validate(dict(values))


def _order(declared: BackendSettings, loaders: Mapping[str, LoaderSpec]) -> tuple[str, ...]:
    named = [name for name in declared.fallback_order if name in loaders]
    return tuple(dict.fromkeys([*named, *loaders]))
