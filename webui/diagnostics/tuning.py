"""Finding the best settings of a model here: the search of `webui.planning.tuning`, run with real trials.

The model that is loaded is put aside meanwhile, so that nothing else is computed, and is brought back afterwards. What
is found is kept (`webui.pool.tuned`) and used from then on; every speed that was measured goes to the measurements.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from webui.diagnostics.long_work import LongRun, LongWork, Runs
from webui.diagnostics.trials import SILENCE_SECONDS, Measured, Plan, TrialBench
from webui.errors import AppError, Cancelled, EngineRefused, InvalidRequest
from webui.loaders.contract import LoaderSpec
from webui.loaders.parameters import keep_known
from webui.loaders.supervisor import WorkerLimits
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.planning.races import Result, Seen, Trial, Verdict
from webui.planning.selection import refusal
from webui.planning.speed import Speed
from webui.planning.tunables import Setting, Space, space_of
from webui.planning.tuning import Search
from webui.pool.tuned import Tuned, TunedSetting

if TYPE_CHECKING:
    from webui.context import AppContext

log = logging.getLogger(__name__)

MINUTES = 5.0
WHY = "The best settings are being looked for."
MOST_OF_A_LOAD = 0.5
"""Share of the time that one load may take."""
LEAST_LOAD_SECONDS = 20.0
PATIENCE = 3.0
"""A trial that takes this many times as long as one with the settings in force is cut short."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be tuned. Without `loaders`, the one that a load would take. `parameters` are the user's own values,
    which are left as they are.
    """

    facts: ModelFacts
    loaders: tuple[str, ...] = ()
    minutes: float = MINUTES
    parameters: Mapping[str, Any] = field(default_factory=dict)
    cache_quantization: bool = False


@dataclass(slots=True)
class TuningRun(LongRun):
    """One run, as it is shown. `trials` grows; `found` is set when it ended with an answer.

    `usual` are the parameters of each loader without any change.
    """

    wanted: Wanted
    step: str = "looking at the machine"
    share: float = 0.0
    trials: list[Seen] = field(default_factory=list)
    usual: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    default: Setting | None = None
    verdict: Verdict | None = None
    found: TunedSetting | None = None
    taken: bool = False
    dismissed: bool = False
    """What its user decided about the answer."""


class Tunings(Runs[TuningRun]):
    """The searches of the running app. Methods belong to the event loop."""

    def __init__(self, context: Callable[[], AppContext], tuned: Tuned, long_work: LongWork) -> None:
        super().__init__(long_work, why=WHY, doing="Looking for the best settings")
        self._context = context
        self._tuned = tuned

    def start(self, wanted: Wanted) -> TuningRun:
        """Begin in the background; raises `Busy` while something else has the machine."""
        run = TuningRun(wanted)
        return self.begin(run, lambda: self._work(run))

    async def forget(self, facts: ModelFacts) -> None:
        """From now on, `facts` is loaded with the usual settings again."""
        await asyncio.to_thread(self._tuned.forget, facts)
        if self.latest is not None and self.latest.wanted.facts.path == facts.path:
            self.latest.dismissed = True

    async def found(self, facts: ModelFacts) -> dict[str, TunedSetting]:
        """What was found for `facts` and holds, by loader."""
        return await asyncio.to_thread(self._found, facts)

    def _found(self, facts: ModelFacts) -> dict[str, TunedSetting]:
        context = self._context()
        versions = {
            name: spec.availability(facts, context.settings.backends.parameters(name)).version
            for name, spec in context.loaders.items()
        }
        return self._tuned.of(facts, versions)

    async def _work(self, run: TuningRun) -> None:
        context = self._context()
        try:
            async with context.pool.set_aside(WHY):
                try:
                    await Work(context, self._tuned, run).done()
                finally:
                    run.step = "bringing the model back"
        except asyncio.CancelledError:
            run.error = Cancelled("The search was stopped; nothing is kept of it.")
            raise


class Work:
    """One run from its spaces to its answer."""

    def __init__(self, context: AppContext, tuned: Tuned, run: TuningRun) -> None:
        self._context = context
        self._tuned = tuned
        self._run = run
        self._wanted = run.wanted
        self._deadline = time.monotonic() + 60 * run.wanted.minutes
        self._measured: dict[Setting, list[Measured]] = defaultdict(list)
        self._slowest = SILENCE_SECONDS
        """Seconds that a trial's prompt and reply take with the settings in force; a bound until that is known."""

    async def done(self) -> None:
        """Search, and keep what was found and measured."""
        run, facts = self._run, self._wanted.facts
        spaces = await self._spaces()
        run.usual = {space.loader: space.usual for space in spaces}
        search = Search(spaces)
        run.default, run.trials = search.default, search.seen
        bounds = await asyncio.to_thread(self._bounds)
        bench = TrialBench(facts, self._context.loaders, self._plan(), bounds)
        try:
            await self._calibrate(bench, search)
            while (trial := search.next(self._deadline - time.monotonic())) is not None:
                run.step = f"{trial.about}: {words_of(trial.setting)}"
                run.share = max(search.share, self._time_share() * 0.95 if search.share else 0.0)
                search.tell(trial, await self._measure(bench, search, trial))
        finally:
            await bench.close()
            await asyncio.to_thread(self._keep_speeds)
        run.share = 1.0
        await self._keep(search)

    def _bounds(self) -> WorkerLimits:
        """What a trial's worker may take and see: what a model's may, and no load may take most of the time."""
        limits = self._context.settings.limits
        load_seconds = max(LEAST_LOAD_SECONDS, 60 * self._wanted.minutes * MOST_OF_A_LOAD)
        return WorkerLimits(
            limits.start_timeout_seconds,
            min(limits.load_timeout_seconds, load_seconds),
            limits.worker_memory_mib * 1024 * 1024 if limits.worker_memory_mib else None,
            self._context.devices().environment,
        )

    def _plan(self) -> Plan:
        facts = self._wanted.facts
        return lambda loader, parameters: self._context.plan(facts, loader, parameters)

    async def _calibrate(self, bench: TrialBench, search: Search) -> None:
        """Find out how much work takes about as long as a trial should. The search sees for itself what fails."""
        for space in search.spaces.values():
            self._run.step = f"measuring {space.loader} as it is"
            try:
                await bench.calibrate(space.loader, space.usual, limit=SILENCE_SECONDS)
                again = await bench.measure(space.loader, space.usual, limit=SILENCE_SECONDS)
            except AppError as error:
                log.info("%s cannot be measured: %s", space.loader, error.message)
                continue
            self._slowest = again.own_seconds
            return

    async def _measure(self, bench: TrialBench, search: Search, trial: Trial) -> Result:
        setting = trial.setting
        parameters = {**search.spaces[setting.loader].usual, **setting.parameters}
        best = search.best
        keep = {**search.spaces[best.loader].usual, **best.parameters} if best.loader == setting.loader else None
        began = time.monotonic()
        try:
            seen = await bench.measure(setting.loader, parameters, limit=PATIENCE * self._slowest, keep=keep)
        except AppError as error:
            log.info("A trial of %s failed: %s", words_of(setting), error.message)
            return Result(seconds=time.monotonic() - began, failure=error.message)
        self._measured[setting].append(seen)
        return seen.result

    # --- what is searched -------------------------------------------------------------------------------------

    async def _spaces(self) -> list[Space]:
        """The spaces of the loaders asked for, the default first. Raises where none is ready for the model."""
        context, facts = self._context, self._wanted.facts
        named = self._wanted.loaders
        forced = named[0] if len(named) == 1 else "auto"
        candidates = await asyncio.to_thread(context.pool.rank, facts, forced)
        ready = [one.loader for one in candidates if one.suitable and (not named or one.loader in named)]
        if not ready:
            raise refusal(facts, candidates, forced if forced != "auto" else None)
        spaces = [await self._space(context.loaders[name]) for name in (ready if named else ready[:1])]
        if not any(space.axes for space in spaces) and len(spaces) == 1:
            raise InvalidRequest(
                f"{ready[0]} has nothing to tune for {model_id(facts)}.",
                cause="all that could be varied is set by hand, or this machine leaves no choice",
                hint="Forget what is saved for the model, or tune another loader.",
            )
        return spaces

    async def _space(self, spec: LoaderSpec) -> Space:
        """What may be varied of one loader: not what the user has set."""
        context, wanted = self._context, self._wanted
        if (await context.hardware()).gpus:
            await context.abilities.of(spec.name)  # from now on it is known what its engine can use
        usual = await asyncio.to_thread(context.full_parameters, spec.name, wanted.parameters)
        own = {**context.settings.backends.parameters(spec.name), **keep_known(spec.parameters, wanted.parameters)}
        found = await asyncio.to_thread(self._space_of, spec, usual)
        return found.without(own)

    def _space_of(self, spec: LoaderSpec, usual: Mapping[str, Any]) -> Space:
        machine = self._context.usable()
        gpu = bool(self._context.usable_gpus(spec.name, machine.gpus)) and not self._context.devices().processor
        small = self._wanted.cache_quantization
        return space_of(spec, usual, self._wanted.facts, machine.cpu, gpu=gpu, cache_quantization=small)

    def _time_share(self) -> float:
        return 1 - (self._deadline - time.monotonic()) / (60 * self._wanted.minutes)

    # --- what is kept -----------------------------------------------------------------------------------------

    async def _keep(self, search: Search) -> None:
        run, verdict = self._run, search.verdict
        run.verdict = verdict
        if verdict is None:
            raise _nothing_ran(run.trials)
        loader = verdict.setting.loader
        usual = search.spaces[loader].usual
        run.found = TunedSetting(
            loader,
            verdict.setting.parameters,
            None if verdict.before is None and verdict.improved else verdict.gain,
            verdict.default.loader,
            {name: usual[name] for name in verdict.setting.parameters},
            verdict.before.reply if verdict.before else None,
            verdict.after.reply if verdict.after else None,
            verdict.before.prompt if verdict.before else None,
            verdict.after.prompt if verdict.after else None,
            time.time(),
        )
        if verdict.decided:
            version = self._version(loader, usual)
            await asyncio.to_thread(self._tuned.keep, self._wanted.facts, version, run.found)

    def _version(self, loader: str, parameters: Mapping[str, Any]) -> str | None:
        return self._context.loaders[loader].availability(self._wanted.facts, parameters).version

    def _keep_speeds(self) -> None:
        """Every setting that was measured, with the medians of its trials."""
        for setting, trials in self._measured.items():
            parameters = {**self._run.usual[setting.loader], **setting.parameters}
            prompts = [one.result.prompt for one in trials if one.result.prompt is not None]
            speed = Speed(
                setting.loader,
                parameters,
                statistics.median(one.result.reply for one in trials),
                statistics.median(prompts) if prompts else None,
                trials[-1].load_seconds,
                trials[-1].memory_bytes,
                measured_at=time.time(),
                source="tune",
            )
            version = self._version(setting.loader, parameters)
            self._context.measurements.add(self._wanted.facts, version, speed)


def _nothing_ran(trials: Sequence[Seen]) -> AppError:
    reasons = dict.fromkeys(seen.result.failure for seen in trials if seen.result.failure)
    return EngineRefused(
        "No trial came to an end, so there is nothing to compare.",
        cause="; ".join(reason.rstrip(".") for reason in reasons),
        hint="See whether the model loads on the Model tab; allow more time if it does.",
    )


def words_of(setting: Setting) -> str:
    """A setting on one line: "xllamacpp, threads 1, poll 0"."""
    if not setting.changes:
        return f"{setting.loader} as it is"
    return ", ".join([setting.loader, *(f"{name} {value}" for name, value in setting.changes)])


def gained(found: TunedSetting) -> str:
    """One sentence on what was gained: "1.31 × the default: 61 against 47 tokens/s, threads 1 → 2"."""
    if not found.parameters and found.loader == found.usual_loader:
        return "Nothing was faster than the usual settings beyond noise."
    changes = ", ".join(f"{name} {found.usual.get(name)} → {value}" for name, value in found.parameters.items())
    if found.loader != found.usual_loader:
        changes = ", ".join(filter(None, [f"{found.usual_loader} → {found.loader}", changes]))
    if found.gain is None or found.reply is None or found.reply_before is None:
        return f"The usual settings do not run here; these do: {changes}"
    prompt = ""
    if found.prompt is not None and found.prompt_before is not None:
        prompt = f", prompts {found.prompt:.0f} against {found.prompt_before:.0f}"
    speeds = f"replies {found.reply:.1f} against {found.reply_before:.1f} tokens/s{prompt}"
    return f"{found.gain:.2f} × the default: {speeds}, {changes}"
