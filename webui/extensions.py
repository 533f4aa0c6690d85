"""Finding extensions and calling their hooks, so that a failing one is reported and never fatal.

An extension is a Python package: a folder with `__init__.py` in `extensions/` of the checkout or of the user's home. It
is imported as `extensions.<name>`, a name that a worker process resolves too, since it gets this process's module
path: that is how a loader from an extension runs there. Which hooks there are is declared in `webui.hooks`.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from webui import hooks
from webui.errors import EVIDENCE_LINES
from webui.loaders import LOADERS
from webui.loaders.contract import Loader, LoaderSpec
from webui.loaders.parameters import Parameters, controls
from webui.loaders.sampling import SamplingParameters

if TYPE_CHECKING:
    from fastapi import FastAPI

    from webui.paths import Paths
    from webui.settings import Settings

T = TypeVar("T")
log = logging.getLogger(__name__)

PACKAGE = "extensions"
Build = Callable[[Any], None]


class ExtensionState(StrEnum):
    LOADED = "loaded"
    FAILED = "failed"
    OFF = "switched off"


@dataclass(frozen=True, slots=True)
class Extension:
    """One that was found. `summary` is the first line of its docstring, `own` whether it lies in the user's home."""

    name: str
    folder: Path
    own: bool
    state: ExtensionState
    summary: str = ""


@dataclass(frozen=True, slots=True)
class ExtensionProblem:
    """What went wrong in which hook ("import" while it was loaded), how often, and the last lines of the traceback."""

    extension: str
    hook: str
    message: str
    evidence: tuple[str, ...] = ()
    times: int = 1


class ExtensionHost:
    """Loads the extensions once and calls them from then on. Calls are safe from any thread that runs one at a time."""

    def __init__(self, paths: Paths, settings: Settings) -> None:
        self._folders = ((paths.project_extensions, False), (paths.extensions, True))
        self._settings = settings.extensions
        self._plugins = pluggy.PluginManager(hooks.PROJECT)
        self._plugins.add_hookspecs(hooks)
        self._found: dict[str, Extension] = {}
        self._problems: dict[tuple[str, str, str], ExtensionProblem] = {}

    @property
    def problems(self) -> list[ExtensionProblem]:
        """All failures so far, oldest first; repeated ones are counted."""
        return list(self._problems.values())

    @property
    def extensions(self) -> tuple[Extension, ...]:
        """All that were found, by name."""
        return tuple(self._found[name] for name in sorted(self._found))

    def load(self) -> None:
        """Find, import and register the extensions that are switched on. Call once."""
        for folder, own in self._folders:
            for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
                if entry.is_dir() and not entry.name.startswith((".", "_")):
                    self._add(entry, own=own)
        # pluggy calls what was registered last first; so that extensions go by name, they are registered backwards.
        for extension in reversed(self.extensions):
            if extension.state is ExtensionState.OFF:
                continue
            with self._watch(extension.name, "import") as outcome:
                summary = self._register(extension)
                self._found[extension.name] = replace(extension, state=ExtensionState.LOADED, summary=summary)
            if outcome.failed:
                self._found[extension.name] = replace(extension, state=ExtensionState.FAILED)

    def loaders(self) -> dict[str, LoaderSpec]:
        """The backends that extensions add, by name. One that takes the name of another is refused."""
        added: dict[str, LoaderSpec] = {}
        for name, implementation in self._implementations("add_loaders"):
            for spec in self._listed(name, implementation, LoaderSpec):
                with self._watch(name, "add_loaders"):
                    _check_loader(spec, {**LOADERS, **added})
                    added[spec.name] = spec
        return added

    def tabs(self) -> tuple[tuple[str, Build], ...]:
        """Title and builder of each further tab; a builder that fails leaves its tab as far as it got."""
        return tuple(
            (tab.title, self._guarded(name, "add_tabs", tab.build))
            for name, implementation in self._implementations("add_tabs")
            for tab in self._listed(name, implementation, hooks.Tab)
        )

    def panels(self, place: str) -> tuple[tuple[str, Build], ...]:
        """Title and builder of each panel for `place`, one of the places named in `webui.hooks.Panel`."""
        return tuple(
            (panel.title, self._guarded(name, "add_panels", panel.build))
            for name, implementation in self._implementations("add_panels")
            for panel in self._listed(name, implementation, hooks.Panel)
            if panel.place == place
        )

    def change_prompt(self, prompt: str) -> str:
        return self._change("change_prompt", "prompt", prompt, str)

    def change_reply(self, text: str) -> str:
        return self._change("change_reply", "text", text, str)

    def change_sampling(self, sampling: SamplingParameters) -> SamplingParameters:
        return self._change("change_sampling", "sampling", sampling, SamplingParameters)

    def routes(self, app: FastAPI, context: Any) -> None:
        """Mount each extension's routes under `/extensions/<name>/`; `app`'s own middlewares guard them."""
        from fastapi import APIRouter

        for name, implementation in self._implementations("add_routes"):
            router = APIRouter(prefix=f"/extensions/{name}", tags=[f"extension {name}"])
            with self._watch(name, "add_routes"):
                _call(implementation, router=router, context=context)
                app.include_router(router)

    def _add(self, folder: Path, *, own: bool) -> None:
        name = folder.name
        off = not self._settings.enabled or name in self._settings.disabled
        if name in self._found:
            self._report(name, "import", f"{folder} is left aside: an extension of that name came with the app")
        elif not name.isidentifier():
            self._report(name, "import", "the folder's name must be a Python name, such as my_extension")
        elif not (folder / "__init__.py").is_file():
            if not _is_leftover(folder):
                self._report(name, "import", "the folder has no __init__.py")
        else:
            self._found[name] = Extension(name, folder, own, ExtensionState.OFF if off else ExtensionState.FAILED)

    def _register(self, extension: Extension) -> str:
        """Import the package and hand it to pluggy, which checks names and arguments; return its summary."""
        # `extensions` is a namespace package: every folder on the module path may hold a part of it. At the end of the
        # path, so that nothing in a home folder hides a real module.
        parent = str(extension.folder.parent.parent)
        if parent not in sys.path:
            sys.path.append(parent)
        importlib.invalidate_caches()
        module = importlib.import_module(f"{PACKAGE}.{extension.name}")
        place = Path(module.__file__ or "").resolve().parent
        if place != extension.folder.resolve():
            raise ImportError(f"another package of that name is in the way: {place}")
        self._plugins.register(module, extension.name)
        try:
            self._check_hooks(module)
        except Exception:
            self._plugins.unregister(module)
            raise
        lines = (module.__doc__ or "").strip().splitlines()
        return lines[0] if lines else ""

    def _check_hooks(self, module: ModuleType) -> None:
        self._plugins.check_pending()
        for caller in self._plugins.get_hookcallers(module) or ():
            for implementation in caller.get_hookimpls():
                if implementation.plugin is module and (implementation.hookwrapper or implementation.wrapper):
                    raise TypeError(f"{caller.name} is a wrapper, which extensions cannot be")

    def _implementations(self, hook: str) -> Iterator[tuple[str, Any]]:
        """Extension and implementation, in the order they are called."""
        for implementation in reversed(getattr(self._plugins.hook, hook).get_hookimpls()):
            yield implementation.plugin_name, implementation

    def _change(self, hook: str, argument: str, value: T, kind: type[T]) -> T:
        for name, implementation in self._implementations(hook):
            with self._watch(name, hook):
                changed = _call(implementation, **{argument: value})
                if changed is not None and not isinstance(changed, kind):
                    raise TypeError(f"it returned {type(changed).__name__}, not {kind.__name__}")
                value = value if changed is None else changed
        return value

    def _listed(self, name: str, implementation: Any, kind: type[T]) -> list[T]:
        """What an `add_…` hook gives, without the pieces that are of the wrong type."""
        hook = implementation.function.__name__
        given: list[Any] = []
        with self._watch(name, hook):
            given = list(_call(implementation) or ())
        for item in given:
            if not isinstance(item, kind):
                self._report(name, hook, f"it returned {type(item).__name__} where a {kind.__name__} belongs")
        return [item for item in given if isinstance(item, kind)]

    def _guarded(self, name: str, hook: str, build: Build) -> Build:
        def guarded(context: Any) -> None:
            with self._watch(name, hook):
                build(context)

        return guarded

    @contextlib.contextmanager
    def _watch(self, name: str, hook: str) -> Iterator[_Outcome]:
        outcome = _Outcome()
        try:
            yield outcome
        # An extension may do anything, leaving the program included; what it did is reported with its traceback.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            outcome.failed = True
            self._report(name, hook, f"{type(error).__name__}: {error}", traceback.format_exc().splitlines())

    def _report(self, name: str, hook: str, message: str, evidence: list[str] | None = None) -> None:
        known = self._problems.get((name, hook, message))
        if known is not None:
            self._problems[name, hook, message] = replace(known, times=known.times + 1)
            return
        log.warning("Extension %s, %s: %s", name, hook, message)
        lines = tuple(evidence or ())[-EVIDENCE_LINES:]
        self._problems[name, hook, message] = ExtensionProblem(name, hook, message, lines)


@dataclass(slots=True)
class _Outcome:
    failed: bool = False


def _call(implementation: Any, **arguments: Any) -> Any:
    """Call one implementation with those of the hook's arguments that it takes."""
    return implementation.function(**{name: arguments[name] for name in implementation.argnames})


def _check_loader(spec: LoaderSpec, taken: Mapping[str, LoaderSpec]) -> None:
    """Raises `TypeError` or `ValueError` where the rest of the app could not use this backend."""
    if spec.name in taken or spec.name == "auto":
        raise ValueError(f"there is a backend called {spec.name} already")
    if not (isinstance(spec.loader, type) and issubclass(spec.loader, Loader)):
        raise TypeError(f"the loader of {spec.name} is not a subclass of Loader")
    if "<locals>" in spec.loader.__qualname__ or "<locals>" in spec.parameters.__qualname__:
        raise TypeError(
            f"the classes of {spec.name} must stand at the top of a module, so that a worker can import them"
        )
    if not issubclass(spec.parameters, Parameters):
        raise TypeError(f"the parameters of {spec.name} are not a subclass of Parameters")
    controls(spec.parameters)


def _is_leftover(folder: Path) -> bool:
    """Git and Python leave folders behind that hold nothing but compiled files."""
    return all(path.name == "__pycache__" for path in folder.iterdir())
