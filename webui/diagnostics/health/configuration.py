"""The settings, what was saved for single models, and the port."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from webui.diagnostics.health.check import Check, HealthFacts, fine, is_there, problem, warning
from webui.errors import AppError, InvalidSetting
from webui.migration.forms import is_older
from webui.settings.last_good import last_good
from webui.settings.layers import COMMAND_LINE

PORTS_TRIED = 20


def settings(facts: HealthFacts) -> Iterator[Check]:
    """Every value that was left aside, and files that cannot be read at all."""
    found = facts.settings
    if isinstance(found, AppError):
        if isinstance(found.__cause__, PermissionError):
            return  # told under Permissions, where the way out is
        source = str(found.facts.get("source", ""))
        action = _whole_file(facts.paths.settings_file) if source == str(facts.paths.settings_file) else None
        mend = " Or start without it" if action else ""
        yield problem("Configuration", f"The settings cannot be read: {found.message}.", found.hint + mend, action)
        return
    shared = facts.paths.backend_config
    older = _is_of_the_older_app(shared)
    if older:
        yield warning(
            "Configuration",
            f"{shared.name} is one of the older app: what it sets does not hold.",
            "Carry it over under “Settings of the older app” on the Backend tab, or run: python3 app.py migrate",
        )
    for error in found.problems:
        if not (older and error.facts.get("source") == shared.name):
            yield _left_aside(error, facts)
    if not found.problems:
        yield fine("Configuration", "All settings are understood.")


def _is_of_the_older_app(file: Path) -> bool:
    """Its keys are then no mistakes, and nothing of it is to be taken out."""
    try:
        return is_older(json.loads(file.read_text("utf-8-sig")))
    except (OSError, ValueError):  # not there, or told as a whole
        return False


def _left_aside(error: InvalidSetting, facts: HealthFacts) -> Check:
    """One problem, with the way out that fits the place it stands in."""
    source, key = str(error.facts.get("source", "")), str(error.facts.get("key", ""))
    sentence = f"Left aside: {error.message.rstrip('.')}{'' if error.message.endswith('?') else '.'}"
    yours, shared = facts.paths.settings_file, facts.paths.backend_config
    files = {str(yours): yours, shared.name: shared}
    if key and (source in files or key in facts.loaders):
        action = f"reset {key}"
        return warning("Configuration", sentence, f"{error.hint} Or take it out".strip(), action)
    if source in files:
        action = _whole_file(files[source])
        return warning("Configuration", sentence, f"{error.hint} Or do without it".strip(), action)
    return warning("Configuration", sentence, error.hint or f"Correct it in {source or 'the environment'}.")


def _whole_file(file: Path) -> str:
    """What is done about a file that is broken as a whole: what it last was comes back, or it is moved aside."""
    return f"restore {file.name}" if is_there(last_good(file)) else f"set-aside {file.name}"


def per_model(facts: HealthFacts) -> Iterator[Check]:
    """Loader and parameters saved for a model must be ones that exist."""
    file = facts.paths.model_settings
    name = "Saved model settings"
    data, reason = _saved(file)
    if reason:
        action = f"set-aside {file.name}"
        yield problem(name, f"{file.name} cannot be read: {reason}.", "Move it aside", action)
        return
    wrong = [(path, reason) for path, entry in data.items() if (reason := _wrong(entry, facts))]
    for path, reason in wrong:
        action = f"forget-model {path}"
        yield warning(name, f"What is saved for {path} cannot be used: {reason}.", "Drop it", action)
    if not wrong:
        yield fine(name, f"{len(data)} are saved, and in order." if data else "None are saved.")


def _saved(file: Path) -> tuple[dict[str, object], str]:
    """What the file holds, or why it cannot be read."""
    try:
        data = json.loads(file.read_text("utf-8")) if file.exists() else {}
    except ValueError as error:  # no JSON, or no text
        return {}, str(error)
    return (data, "") if isinstance(data, dict) else ({}, "it holds no JSON object")


def _wrong(entry: object, facts: HealthFacts) -> str:
    """Why an entry cannot be used; empty where it can."""
    if not isinstance(entry, dict):
        return "it is no object"
    loader, parameters = entry.get("loader", "auto"), entry.get("parameters", {})
    if not isinstance(parameters, dict):
        return "its parameters are no object"
    if loader == "auto":
        return ""
    spec = facts.loaders.get(str(loader))
    if spec is None:
        return f"there is no backend called {loader}"
    try:
        spec.parameters.parse(parameters, where=f"the parameters of {spec.title}")
    except AppError as error:
        return error.message.rstrip(".")
    return ""


def port(facts: HealthFacts) -> Iterator[Check]:
    """Whether the page can be served where the settings say, and if not, who is in the way."""
    if isinstance(facts.settings, AppError):
        return
    host, number = facts.settings.server.host, facts.settings.server.port
    if facts.serving:
        yield fine("Port", f"The app answers on {host}:{number}.")
        return
    refused = _refusal(host, number)
    if not refused:
        yield fine("Port", f"{host}:{number} is free.")
        return
    holder = _holder(number)
    sentence = f"{host}:{number} is held by {holder}." if holder else f"{host}:{number} cannot be used: {refused}."
    if holder and "app.py" in holder:
        yield fine("Port", f"{host}:{number} is held by {holder}, which seems to be this app.")
        return
    other = next((one for one in range(number + 1, number + PORTS_TRIED) if not _refusal(host, one)), None)
    source = facts.settings.source("server.port")
    if other is None or source == COMMAND_LINE or source.startswith("GGUF_"):
        yield warning("Port", sentence, "End that program, or choose another port with --port.")
        return
    action = f"use-port {other}"
    yield warning("Port", sentence, "End that program, or use another port from now on", action)


def _refusal(host: str, number: int) -> str:
    """Why the system does not give the port; empty where it does."""
    try:
        family = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            if sys.platform != "win32":  # there, the option would let the trial take a port that is in use
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, number))
    except (OSError, OverflowError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def _holder(number: int) -> str:
    """Program and process that listen on the port, as far as this user may know; empty where not."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == number:
                if connection.pid is None:
                    return ""
                words = psutil.Process(connection.pid).cmdline()[:2]
                return f"{' '.join(words) or 'a program'} (process {connection.pid})"
    return ""
