"""docs/backends/: the facts of each backend, from its declaration, within pages written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from webui.loaders.contract import LoaderSpec, one_job
from webui.models.facts import ModelFormat
from webui.planning.recommendation import NAMES
from webui.reference.filled import filled
from webui.reference.tables import code, table
from webui.setup.backends import COMPILED, REQUIREMENTS, requirements_of
from webui.setup.requirement_files import pinned_packages

FOLDER = "docs/backends"
FORMATS = {
    ModelFormat.GGUF: "GGUF files",
    ModelFormat.GGML: "GGML files",
    ModelFormat.LLAMAFILE: "llamafiles",
    ModelFormat.TRANSFORMERS: "model directories",
}


def pages(root: Path, loaders: Mapping[str, LoaderSpec]) -> dict[str, str]:
    """Path in the checkout → content: the overview, and a page for each backend."""
    found = {f"{FOLDER}/README.md": filled(root / FOLDER / "README.md", {"overview": _overview(loaders)})}
    for name, spec in loaders.items():
        path = f"{FOLDER}/{name}.md"
        found[path] = filled(root / path, {"facts": _facts(spec)})
    return found


def _overview(loaders: Mapping[str, LoaderSpec]) -> str:
    head = ("backend", "opens", "computes on", "several replies at once", "exact plans", "comes with the app")
    rows = [
        (
            f"[{spec.name}]({spec.name}.md)",
            _formats(spec),
            _devices(spec),
            _yes(spec.slots is not one_job),
            _yes(spec.has_dry_run),
            _yes(_in_base(spec)),
        )
        for spec in loaders.values()
    ]
    return table(head, rows)


def _facts(spec: LoaderSpec) -> str:
    missing = LoaderSpec.ALL_SAMPLERS - spec.samplers
    rows = [
        ("opens", _formats(spec)),
        ("computes on", _devices(spec)),
        ("several replies at once", _yes(spec.slots is not one_job)),
        ("exact plans (its dry run)", _yes(spec.has_dry_run)),
        ("packages", ", ".join(code(pin) for pin in _pins(spec)) or "none: it runs a program"),
        ("installed by", _installed_by(spec)),
        ("samplers it lacks", ", ".join(code(name) for name in sorted(missing)) or "none"),
        ("tried after a crash", "; then ".join(_changes(step) for step in spec.safe_steps)),
        ("without a GPU", _changes(spec.cpu_parameters)),
    ]
    return table(("", spec.title), rows)


def _formats(spec: LoaderSpec) -> str:
    return ", ".join(words for kind, words in FORMATS.items() if kind in spec.formats)


def _devices(spec: LoaderSpec) -> str:
    return ", ".join(NAMES[device] for device in spec.devices)


def _pins(spec: LoaderSpec) -> list[str]:
    """The backend's own packages as they are pinned."""
    file = requirements_of(spec)
    pins = pinned_packages(file) if file is not None else []
    return [pin for name in spec.distributions for pin in pins if pin.partition("==")[0] == name]


def _in_base(spec: LoaderSpec) -> bool:
    base = {pin.partition("==")[0] for pin in pinned_packages(REQUIREMENTS / "base.txt")}
    return bool(spec.distributions) and base.issuperset(spec.distributions)


def _installed_by(spec: LoaderSpec) -> str:
    if _in_base(spec):
        return "the first start"
    if not spec.distributions:
        return "you: put the program where it is found"
    compiled = ", which compiles it" if COMPILED & set(spec.distributions) else ""
    return f"`python3 app.py setup {spec.name}`{compiled}, or the button on its card"


def _changes(parameters: Mapping[str, object]) -> str:
    return ", ".join(code(f"{name} = {json.dumps(value)}") for name, value in parameters.items()) or "nothing to set"


def _yes(fact: bool) -> str:
    return "yes" if fact else "–"
