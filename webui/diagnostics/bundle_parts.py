"""What a support bundle holds, gathered from the rooms by what they show of themselves.

A part that cannot be gathered says so in its place: a bundle is asked for when something does not work.
"""

from __future__ import annotations

import asyncio
import json
import platform
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import webui
from webui.diagnostics.benchmark_results import run_to_dict
from webui.diagnostics.bundle import REPLAY, Bundle, Part, as_text, check_shown
from webui.diagnostics.bundle_private import private
from webui.diagnostics.bundle_replay import Wish, recorded, wishes
from webui.diagnostics.health import gather, run_checks
from webui.diagnostics.log import LogLine
from webui.diagnostics.redaction import Redactor
from webui.errors import AppError
from webui.hardware.facts import HardwareFacts
from webui.loaders.contract import LoaderSpec
from webui.models.facts import ModelFacts, ModelFormat
from webui.models.gguf import GgufHeader, read_header
from webui.models.inspect import model_id
from webui.paths import Paths
from webui.pool.history import History
from webui.pool.records import failure_to_dict, story_to_dict
from webui.setup.requirement_files import pinned_packages

if TYPE_CHECKING:
    from webui.context import AppContext

LOADS, FAILURES, RUNS = 20, 60, 8
RECORD_DAYS, RECORDS = 7.0, 200
"""How far back single loads and replies are told, and how many of each; of others, the sums of the day."""
LOG_BYTES = 512 * 1024
LONGEST_LIST = 64
"""Elements of a list of the header that are kept; a tokenizer's lists are longer."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a bundle is made of. `context` is `None` where the app cannot even be built, for the reason `broken`."""

    paths: Paths
    loaders: Mapping[str, LoaderSpec]
    context: AppContext | None = None
    broken: Exception | None = None


async def gather_bundle(source: Source, shown: Collection[str] = ()) -> Bundle:
    """Make a bundle, which is not written yet. Takes about a second. Raises `InvalidRequest` for a wrong `shown`."""
    wanted = check_shown(shown)
    hardware = await source.context.hardware(refresh=True) if source.context is not None else None
    return await asyncio.to_thread(_gathered, source, wanted, hardware)


def _gathered(source: Source, shown: tuple[str, ...], hardware: HardwareFacts | None) -> Bundle:
    context = source.context
    models: list[Wish] = _told(lambda: wishes(context), []) if context is not None else []
    files = [file for wish in models for file in wish.facts.files]
    redactor = Redactor(private(source.paths, context, files), shown)
    contents: list[tuple[str, str, Callable[[], Any]]] = [
        ("versions.json", "the app, Python, the system, and the packages", lambda: _versions(source)),
        (
            "hardware.json",
            "processor, memory, disk, GPUs, and what the engines can use",
            lambda: _hardware(source, hardware),
        ),
        ("health.json", "the health checks", lambda: _health(source)),
        (
            "configuration.json",
            "every setting with its value and where it comes from",
            lambda: _configuration(source, shown),
        ),
        (
            "failures.json",
            "the last loads with their steps, the last failures with their evidence",
            lambda: _failures(source),
        ),
        ("metrics.json", "speeds, memory and benchmarks measured here", lambda: _metrics(context, models)),
    ]
    if context is not None:
        contents.append(
            (REPLAY, "what plans, rankings and ladders were decided from", lambda: recorded(context, models))
        )
    for number, wish in enumerate(models, 1):
        facts = wish.facts
        about = f"the header of {redactor.text(model_id(facts))}"
        contents.append((f"model-{number}.json", about, lambda facts=facts: _header(facts)))  # type: ignore[misc]
    if "chats" in shown and context is not None:
        contents.append(("chats.json", "conversations", lambda: list(_chats(context))))
    parts = [Part(name, about, _part(make, redactor)) for name, about, make in contents]
    parts.append(Part("log.txt", "the end of the app's log", redactor.text(_log(source))))
    return Bundle(tuple(parts), shown, time.time())


def _part(make: Callable[[], Any], redactor: Redactor) -> str:
    return as_text(redactor.value(json.loads(as_text(_told(make, None)))))


def _told(make: Callable[[], Any], otherwise: Any) -> Any:
    """What `make` gives; where it cannot, why not, or `otherwise` where that has another form."""
    try:
        return make()
    except AppError as error:
        return {"error": error.to_dict()} if otherwise is None else otherwise
    except Exception as error:  # noqa: BLE001 (a bundle is made where things are broken; the reader sees what)
        return {"error": f"{type(error).__name__}: {error}"} if otherwise is None else otherwise


def _versions(source: Source) -> Any:
    names = {pinned.partition("==")[0].partition("[")[0].strip() for pinned in _pins(source)}
    names |= {name for spec in source.loaders.values() for name in spec.distributions}
    return {
        "app": webui.__version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "system": platform.platform(),
        "packages": {name: _version(name) for name in sorted(names, key=str.casefold)},
        "backends": {name: asdict(spec.availability()) for name, spec in source.loaders.items()},
    }


def _pins(source: Source) -> Iterator[str]:
    for file in sorted((source.paths.project_root / "requirements").glob("*.txt")):
        yield from pinned_packages(file)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _hardware(source: Source, hardware: HardwareFacts | None) -> Any:
    if source.context is None or hardware is None:
        return asdict(gather(source.paths, source.loaders).hardware)
    choice = source.context.gpu_choice()
    return {
        **asdict(hardware),
        "engines": [ability.to_dict() for ability in source.context.abilities.known()],
        "gpus_in_use": [gpu.name for gpu in choice.gpus],
    }


def _health(source: Source) -> Any:
    context = source.context
    if context is None:
        facts = gather(source.paths, source.loaders)
    else:
        facts = gather(context.paths, context.loaders, settings=context.settings, loads=context.pool.loads())
    return [asdict(found) for found in run_checks(facts)]


def _configuration(source: Source, shown: Collection[str]) -> Any:
    if source.context is None:
        broken = source.broken
        return {"error": broken.to_dict() if isinstance(broken, AppError) else f"{type(broken).__name__}: {broken}"}
    settings = source.context.settings
    values = settings.shown()
    found = {}
    for key in settings.keys():  # noqa: SIM118 (not a mapping)
        value = values[key]
        if "keys" in shown and settings.declaration(key).secret:
            value = settings.value(key)
        if "prompt" in key and isinstance(value, str) and value and "chats" not in shown:
            value = f"<written: {len(value):,} characters>"
        found[key] = {"value": value, "source": settings.source(key)}
    return {"settings": found, "left_aside": [problem.to_dict() for problem in settings.problems]}


def _failures(source: Source) -> Any:
    if source.context is not None:
        return _of_history(source.context.history)
    if not source.paths.history.exists():  # looking makes no file
        return {"loads": [], "failures": [], "rates": []}
    history = History(source.paths.history)
    try:
        return _of_history(history)
    finally:
        history.close()


def _of_history(history: History) -> Any:
    return {
        "loads": [story_to_dict(story) for story in history.loads(LOADS)],
        "failures": [failure_to_dict(failure) for failure in history.failures(FAILURES)],
        "rates": [asdict(rate) for rate in history.rates()],
    }


def _metrics(context: AppContext | None, models: Iterable[Wish]) -> Any:
    if context is None:
        return {}
    measured, tuned = {}, {}
    for wish in models:
        versions = {name: spec.availability(wish.facts).version for name, spec in context.loaders.items()}
        measured[model_id(wish.facts)] = [asdict(speed) for speed in context.measurements.of(wish.facts, versions)]
        tuned[model_id(wish.facts)] = context.pool.tuned(wish.facts)
    runs = context.benchmarks.store.runs()[:RUNS]
    record = context.metrics.record(RECORD_DAYS)
    return {
        "measured": measured,
        "tuned": tuned,
        "benchmarks": [run_to_dict(run) for run in runs],
        "days": [asdict(day) for day in record.days],
        "errors": [asdict(count) for count in record.errors],
        "loads": [asdict(load) for load in record.loads[-RECORDS:]],
        "replies": [asdict(reply) for reply in record.replies[-RECORDS:]],
    }


def _header(facts: ModelFacts) -> Any:
    """The tensor table and the metadata of a GGUF file, or the facts of another; long lists by their length alone."""
    whole: dict[str, Any] = {"model": model_id(facts), "format": facts.format.value, "file_bytes": facts.file_bytes}
    if facts.format is not ModelFormat.GGUF:
        return {**whole, "facts": asdict(facts)}
    return {**whole, "files": [_file(path) for path in facts.files]}


def _file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        size = path.stat().st_size
        header: GgufHeader = read_header(file, size, label=path.name)
    return {
        "name": path.name,
        "bytes": size,
        "version": header.version,
        "byte_order": header.byte_order,
        "data_offset": header.data_offset,
        "metadata": {key: value for key, value in header.metadata.items() if not _long(value)},
        "lists": header.lengths,
        "tensors": [[one.name, list(one.shape), one.type, one.offset, one.bytes] for one in header.tensors],
    }


def _long(value: Any) -> bool:
    return isinstance(value, list) and len(value) > LONGEST_LIST


def _chats(context: AppContext) -> Iterator[dict[str, Any]]:
    for known in context.store.list(limit=10):
        yield asdict(context.store.get(known.id))


def _log(source: Source) -> str:
    """The end of the file; of what this app has logged, where there is none."""
    file = source.paths.logs / "app.log"
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - LOG_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        text = ""
    if text or source.context is None:
        return text
    return "".join(_line(line) for line in source.context.log.lines())


def _line(line: LogLine) -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(line.at))} {line.level} {line.room}: {line.text}\n"
