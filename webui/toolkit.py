"""The app for programs and notebooks: plain calls, each of which is a command as well.

    from webui import toolkit

    toolkit.detect_backends()                     which backends are here, on which devices        backends
    toolkit.recommend_backend("model.gguf")       which one to take, and why                       recommend FILE
    toolkit.check_compatibility("model.gguf")     which can open it, and why not                   compat FILE
    toolkit.inspect("model.gguf")                 everything that its file says                    inspect FILE
    toolkit.plan("model.gguf")                    what loading it takes, device by device          plan FILE
    toolkit.load("model.gguf")                    a model that answers                             load, run FILE
    toolkit.test_models("folder")                 really load them all, with one token each        test-models FOLDER
    toolkit.profile("model.gguf", "Hello")        where the time of one reply goes                 profile FILE PROMPT
    toolkit.benchmark("model.gguf")               how fast each backend runs it                    bench FILE
    toolkit.save_baseline("monday", run)          keep a benchmark to compare with                 bench --save-baseline
    toolkit.compare("monday")                     what changed since, in percent                   compare NAME
    toolkit.optimize("model.gguf")                find the fastest settings, and keep them         tune FILE
    toolkit.diagnose()                            what is not in order, and how to mend it         doctor
    toolkit.support_bundle("bundle.zip")          everything that helps others to help             doctor --bundle FILE
    toolkit.migrate()                             carry over what an older version left            migrate

Calls wait until they are done, also where an event loop is running already. Models are named by path or by their name
in the models folder; a backend is named as in the settings, or is "auto". Keyword arguments that are not explained are
parameters of the loader (docs/parameters.md). What goes wrong raises an error of `webui.errors`; only `load` and
`test_models` tell of it in their result. Everything uses the same home as the app, `$GGUF_HOME` or `~/.gguf-loader`.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from webui.diagnostics.background import BackgroundApp, in_app
from webui.diagnostics.load_result import LoadResult
from webui.errors import NotLoaded
from webui.paths import Paths

if TYPE_CHECKING:
    from webui.context import AppContext
    from webui.diagnostics.advising import Recommended
    from webui.diagnostics.benchmark_comparison import Comparison
    from webui.diagnostics.benchmark_results import BenchmarkRun
    from webui.diagnostics.health import Check
    from webui.diagnostics.reply_profile import ReplyProfile
    from webui.migration.plan import Plan
    from webui.models.facts import ModelFacts
    from webui.planning.plan import MemoryPlan
    from webui.planning.selection import Candidate
    from webui.pool.jobs import Job
    from webui.pool.tuned import TunedSetting
    from webui.setup.backends import BackendState

__all__ = [
    "Model",
    "benchmark",
    "check_compatibility",
    "compare",
    "detect_backends",
    "diagnose",
    "inspect",
    "load",
    "migrate",
    "optimize",
    "plan",
    "profile",
    "recommend_backend",
    "save_baseline",
    "support_bundle",
    "test_models",
]

Name = str | Path
OWNER = "toolkit"


# --- what there is ----------------------------------------------------------------------------------------------------


def detect_backends() -> list[BackendState]:
    """Every backend: whether it is installed, its version, and the devices that its build can use here."""
    from webui.setup.backends import check

    async def work(app: AppContext) -> list[BackendState]:
        hardware = await app.hardware()
        return [await asyncio.to_thread(check, name, app.loaders, hardware=hardware) for name in app.loaders]

    return in_app(work)


def recommend_backend(model: Name | None = None) -> Recommended:
    """The backend to take: for `model`, or for this machine in general. `.backend`, `.reason`, `.order`, `.advice`."""
    from webui.diagnostics.advising import recommended

    async def work(app: AppContext) -> Recommended:
        return await recommended(app, await _found(app, model) if model is not None else None)

    return in_app(work)


def check_compatibility(model: Name) -> list[Candidate]:
    """Every backend judged for `model`, best first: `.loader`, `.suitable` here and now, `.opens` at all, `.reason`."""

    async def work(app: AppContext) -> list[Candidate]:
        return list(await asyncio.to_thread(app.pool.rank, await _found(app, model)))

    return in_app(work)


def inspect(model: Name) -> ModelFacts:
    """What the file says of itself, read without an engine."""
    return in_app(lambda app: _found(app, model))


def plan(model: Name, backend: str = "auto", *, exact: bool = False, **parameters: Any) -> MemoryPlan:
    """The memory that loading would take; with `exact` by the engine's own figures."""
    from webui.planning.selection import refusal

    async def work(app: AppContext) -> MemoryPlan:
        facts = await _found(app, model)
        candidates = await asyncio.to_thread(app.pool.rank, facts, backend, parameters)
        first = next((one.loader for one in candidates if one.suitable), None)
        if first is None:
            raise refusal(facts, candidates, None if backend == "auto" else backend)
        if exact:
            return await app.exact_plan(facts, first, parameters)
        return await asyncio.to_thread(app.plan, facts, first, parameters)

    return in_app(work)


# --- running models ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Model(LoadResult):
    """A model that was loaded, or was not: then `success` is false and `error` says why. Use it in a `with` block."""

    _app: BackgroundApp = field(kw_only=True)

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        how = f"loaded with {self.backend}" if self.success else f"not loaded: {self.error}"
        return f"<Model {self.model}: {how}>"

    def generate(self, prompt: str, **sampling: Any) -> str:
        """The whole reply. `sampling` are such values as `max_tokens` and `temperature`."""
        return "".join(self.stream(prompt, **sampling))

    def stream(self, prompt: str, **sampling: Any) -> Iterator[str]:
        """The reply, piece by piece, as it is written. Leaving the loop ends it."""
        self._check()
        pieces: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
        writing = self._app.start(lambda app: _write(app, prompt, sampling, pieces))
        try:
            while (piece := pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            writing.cancel()

    def profile(self, prompt: str, **sampling: Any) -> ReplyProfile:
        """Where the time of one reply goes: `.spans`, `.first_token_seconds`, `.tokens_per_second`."""
        from webui.diagnostics.profiling import profile_reply

        self._check()

        async def work(app: AppContext) -> ReplyProfile:
            _text, found = await profile_reply(app, prompt, _sampling(app, sampling))
            return found

        return self._app.run(work)

    def close(self) -> None:
        """Let it go; its memory is the system's again."""
        self._app.close()

    def _check(self) -> None:
        if self.error is not None:
            raise self.error
        if self._app.closed:
            raise NotLoaded("The model was closed.", hint="Load it again.")


def load(model: Name, backend: str = "auto", **parameters: Any) -> Model:
    """Load `model`, falling back as the app does. Look at `.success`, then ask it with `.generate` or `.stream`."""
    from webui.diagnostics.model_tests import try_load
    from webui.pool import LoadRequest

    app = BackgroundApp()
    try:

        async def work(context: AppContext) -> LoadResult:
            facts = await _found(context, model)
            return await try_load(context.pool, LoadRequest(facts, backend, parameters))

        return Model(**vars(app.run(work)), _app=app)
    except BaseException:
        app.close()
        raise


def test_models(
    folder: Name | None = None,
    backends: Sequence[str] = (),
    on_result: Callable[[LoadResult], None] = lambda result: None,
) -> list[LoadResult]:
    """Really load every model of `folder` (by default the models folder), see one token of each, and say how it went.

    Each is loaded with the backend that would be chosen, with those named, or with every one that can (`["all"]`).
    """
    from webui.diagnostics.model_tests import each, try_models
    from webui.models.facts import ModelFacts

    async def work(app: AppContext) -> list[LoadResult]:
        entries = await asyncio.to_thread(app.catalogue.entries)
        models = [entry for entry in entries if isinstance(entry, ModelFacts)]
        wanted = await asyncio.to_thread(each, app, models, list(backends))
        return await try_models(app, wanted, on_result=on_result)

    return in_app(work, {} if folder is None else {"models.directory": str(folder)})


def profile(model: Name, prompt: str, backend: str = "auto", **sampling: Any) -> ReplyProfile:
    """Load `model`, let it answer `prompt`, and say where the time of the reply went."""
    with load(model, backend) as loaded:
        return loaded.profile(prompt, **sampling)


# --- measuring --------------------------------------------------------------------------------------------------------


def benchmark(
    model: Name,
    backends: Sequence[str] = (),
    *,
    depths: Sequence[int] = (),
    runs: int = 5,
    tokens: int = 128,
    **parameters: Any,
) -> BenchmarkRun:
    """Measure each backend that is ready for `model`, or those named. The run is kept, under its `.id`."""
    from webui.diagnostics.benchmark import measure
    from webui.diagnostics.benchmark_request import BenchmarkRequest, depths_or_default
    from webui.diagnostics.model_tests import ready
    from webui.planning.selection import refusal

    async def work(app: AppContext) -> BenchmarkRun:
        facts = await _found(app, model)
        names = tuple(backends) or tuple(one.loader for one in await asyncio.to_thread(ready, app, facts))
        if not names:
            raise refusal(facts, await asyncio.to_thread(app.pool.rank, facts))
        wanted = depths_or_default(tuple(depths), facts, tokens)
        run = await measure(app, BenchmarkRequest(facts, names, wanted, runs, tokens, parameters))
        await asyncio.to_thread(app.benchmarks.store.save, run)
        return run

    return in_app(work)


def save_baseline(name: str, run: BenchmarkRun) -> None:
    """Keep `run` under a name, to compare later runs with."""
    from webui.diagnostics.benchmark_store import BenchmarkStore

    BenchmarkStore(Paths.from_environment().benchmarks).save_baseline(name, run)


def compare(baseline: str | BenchmarkRun, run: BenchmarkRun | None = None) -> Comparison:
    """`run`, or the latest one of the same model, against a baseline or an earlier run, by name.

    `.differences` have `.what`, `.before`, `.now`, `.change` (0.1 is 10 % more) and `.verdict`.
    """
    from webui.diagnostics.benchmark_comparison import compare as compared
    from webui.diagnostics.benchmark_store import BenchmarkStore, Saved
    from webui.errors import NotFound

    store = BenchmarkStore(Paths.from_environment().benchmarks)
    before = store.find(baseline) if isinstance(baseline, str) else Saved(baseline)
    now = run if run is not None else store.beside(before)
    if now is None:
        raise NotFound("There is no other run to compare.", hint="Make one with benchmark().")
    return compared(now, before.run)


def optimize(model: Name, backends: Sequence[str] = (), *, minutes: float = 5.0) -> TunedSetting | None:
    """Find the fastest settings for `model` on this hardware by short measurements. They are kept, and used by every
    load from then on. `None` where the time was too short to be sure of anything.
    """
    from webui.diagnostics.tuning import Wanted

    async def work(app: AppContext) -> TunedSetting | None:
        facts = await _found(app, model)
        own = app.model_settings.get(facts.path).get("parameters", {})
        run = app.tunings.start(Wanted(facts, tuple(backends), minutes, own))
        try:
            await app.tunings.wait()
        finally:
            await app.tunings.stop()
        if run.error is not None:
            raise run.error
        return run.found

    return in_app(work)


# --- looking after it -------------------------------------------------------------------------------------------------


def diagnose() -> list[Check]:
    """The health checks: `.name`, `.state` ("ok", "warning", "problem"), `.sentence`, and `.remedy`. Works also where
    the settings cannot be read.
    """
    from webui.diagnostics.health import gather, run_checks

    return list(run_checks(gather(Paths.from_environment())))


def support_bundle(path: Name, *, include: Sequence[str] = ()) -> Path:
    """Write a support bundle to `path`, a file or a folder, and say where. `include` is of "paths", "names", "keys" and
    "chats", which are left out otherwise.
    """
    from webui.diagnostics.bundle_parts import Source, gather_bundle

    async def work(app: AppContext) -> Path:
        bundle = await gather_bundle(Source(app.paths, app.loaders, app), include)
        return await asyncio.to_thread(bundle.write, Path(path).expanduser().absolute())

    return in_app(work)


def migrate(*, dry_run: bool = False) -> Plan:
    """Carry over what an older version left, and say what becomes of each value; with `dry_run`, only say it. The
    command `migrate --rollback` undoes it.
    """

    async def work(app: AppContext) -> Plan:
        found = await asyncio.to_thread(app.migrations.look)
        if found.effects and not dry_run:
            await asyncio.to_thread(app.migrations.carry_over)
        return found

    return in_app(work)


# --- small parts ------------------------------------------------------------------------------------------------------


async def _found(app: AppContext, model: Name) -> ModelFacts:
    return await asyncio.to_thread(app.catalogue.find, model)


def _sampling(app: AppContext, values: dict[str, Any]) -> Any:
    from webui.loaders.sampling import SamplingParameters

    base = app.presets.get(app.settings.chat.default_preset).changed()
    return SamplingParameters.parse({**base, **values}, where="the sampling")


async def _write(
    app: AppContext, prompt: str, values: dict[str, Any], pieces: queue.SimpleQueue[str | BaseException | None]
) -> None:
    """Hand the reply over, piece by piece; an error, or `None`, is the last."""
    from webui.chat.exchange import Exchange
    from webui.chat.prompting import Question

    job: Job | None = None
    try:
        question = Question.of(prompt, _sampling(app, values), app.settings.chat.system_prompt)
        exchange = await Exchange.begin(app.chats.prompter, question)
        job = exchange.submit(OWNER)
        if exchange.opening:
            pieces.put(exchange.opening)
        async for piece in job.pieces():
            pieces.put(piece)
        pieces.put(job.error)
    except Exception as error:  # noqa: BLE001 (raised where the reply is read)
        pieces.put(error)
    except asyncio.CancelledError:
        if job is not None:
            job.cancel()
        pieces.put(None)
        raise
