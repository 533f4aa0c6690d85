"""What settings point to, or need beside them: values that are allowed, and yet of no use here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from webui.chat.presets import PresetStore
from webui.diagnostics.health.check import Check, HealthFacts, problem, warning
from webui.errors import AppError, InvalidSetting, ModelNotFound
from webui.hardware.choice import choose
from webui.models.catalogue import Catalogue
from webui.settings import Settings
from webui.settings.exposure import check_exposure

NAME = "Configuration"


def pointed_to(facts: HealthFacts) -> Iterator[Check]:
    """Each setting that leads nowhere, with the way back to its default."""
    settings = facts.settings
    if isinstance(settings, AppError):
        return
    yield from _reachable(settings)
    if facts.loaders and set(facts.loaders) <= set(settings.value("backends.disabled")):
        yield _back(
            settings, "backends.disabled", "All backends are switched off, so no model can be loaded.", bad=True
        )
    first = settings.models.default_model
    if first and facts.models.is_dir() and (lost := _lost_model(facts, first, settings.models.files)):
        yield _back(settings, "models.default_model", f"The model to load at start cannot be used: {lost}")
    if settings.setup.wheels is not None and not settings.setup.wheels.is_dir():
        sentence = f"There is no folder of wheels {settings.setup.wheels}, so no backend can be installed."
        yield _back(settings, "setup.wheels", sentence)
    if unknown := choose(facts.hardware.gpus, settings.value("hardware.gpus")).unknown:
        sentence = f"Models may use the GPU {', '.join(unknown)} only, and there is none of that name."
        yield _back(settings, "hardware.gpus", sentence)
    for key in settings.keys():  # noqa: SIM118 (not a mapping)
        if key.endswith(".executable") and (file := str(settings.value(key))) and not Path(file).expanduser().exists():
            yield _back(settings, key, f"The program {file} of {key.split('.')[1]} does not exist.")
    yield from _presets(facts, settings)


def _reachable(settings: Settings) -> Iterator[Check]:
    server = settings.server
    try:
        check_exposure(server.host, share=server.share, auth=server.auth, api_key=server.api_key)
    except InvalidSetting as error:
        key = "server.share" if server.share else "server.host"
        yield _back(settings, key, f"The app does not start: {error.message}", error.hint, bad=True)


def _lost_model(facts: HealthFacts, first: str, files: Sequence[str]) -> str:
    """Why the model to begin with is not to be had; empty where it is. A broken one is told under Models."""
    catalogue = Catalogue([facts.models], facts.paths.cache / "catalogue.json", files)
    try:
        catalogue.find(first)
    except ModelNotFound as error:
        return error.message
    except AppError:
        return ""
    return ""


def _presets(facts: HealthFacts, settings: Settings) -> Iterator[Check]:
    """The user's own presets can be read, and there is one of the name that new conversations begin with."""
    store = PresetStore(facts.paths)
    for name in store.names():
        if store.own(name):
            try:
                store.get(name)
            except AppError as error:
                sentence = f"The preset {name} cannot be used: {error.message.rstrip('.')}."
                yield warning(
                    NAME, sentence, f"{error.hint} Or move it aside".strip(), f"set-aside presets/{name}.yaml"
                )
    chosen = settings.chat.default_preset
    if chosen not in store.names():
        yield _back(
            settings, "chat.default_preset", f"New conversations begin with the preset {chosen}, and there is none."
        )


def _back(settings: Settings, key: str, sentence: str, hint: str = "", *, bad: bool = False) -> Check:
    tell = problem if bad else warning
    if settings.saved(key):
        return tell(
            NAME, sentence, f"{hint} Or take it out" if hint else f"Correct {key}, or take it out", f"reset {key}"
        )
    return tell(NAME, sentence, f"{hint} It comes from {settings.source(key)}.".strip(), None)
