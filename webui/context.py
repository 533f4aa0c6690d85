"""Everything the app is made of, built once at the door and handed down. No module holds such things by itself."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webui.chat.conversations import ConversationStore
from webui.chat.first_words import FirstWords
from webui.chat.presets import PresetStore
from webui.chat.service import ChatService
from webui.diagnostics.benchmarks import Benchmarks
from webui.diagnostics.log import LogBuffer, set_debug, start_logging, stop_logging
from webui.diagnostics.long_work import LongWork
from webui.diagnostics.model_tests import ModelTests
from webui.diagnostics.tuning import Tunings
from webui.errors import AppError, InvalidSetting
from webui.extensions import ExtensionHost
from webui.hardware import detect, memory, this_host
from webui.hardware.choice import GpuChoice
from webui.hardware.facts import (
    GpuFacts,
    HardwareFacts,
    drivers,
    fingerprint,
    free_device_memory,
    total_device_memory,
)
from webui.hardware.monitor import Monitor
from webui.hardware.sampling import Sampler
from webui.loaders import LOADERS
from webui.loaders.contract import LoaderSpec
from webui.loaders.parameters import keep_known
from webui.migration.service import Migrations
from webui.models.catalogue import Catalogue
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.paths import Paths
from webui.planning.evidence import Engines, engines_here
from webui.planning.plan import MemoryPlan
from webui.planning.record_forecast import warned
from webui.pool import LoadRequest, Pool, PoolStatus
from webui.pool.choosing import Devices
from webui.pool.decision_log import DecisionLog
from webui.pool.experience import Experience
from webui.pool.gpus import chosen, devices, usable
from webui.pool.history import History
from webui.pool.measurements import Measurements
from webui.pool.metrics import Metrics
from webui.pool.plan_records import PlanRecords
from webui.pool.plans import Plans
from webui.pool.recorder import Sources
from webui.pool.tuned import Tuned
from webui.settings import ModelSettings, Settings, SettingsStore
from webui.settings.watch import FileWatch
from webui.setup.abilities import Abilities
from webui.setup.installations import Installations
from webui.setup.installing import Installer

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class AppContext:
    """The rooms' services. `settings` is the one value here that changes: `use_settings` replaces it."""

    paths: Paths
    settings: Settings
    settings_store: SettingsStore
    model_settings: ModelSettings
    loaders: dict[str, LoaderSpec]
    catalogue: Catalogue
    pool: Pool
    store: ConversationStore
    presets: PresetStore
    chats: ChatService
    extensions: ExtensionHost
    log: LogBuffer
    history: History
    abilities: Abilities
    monitor: Monitor
    measurements: Measurements
    benchmarks: Benchmarks
    plans: Plans
    tunings: Tunings
    model_tests: ModelTests
    metrics: Metrics
    migrations: Migrations
    page_key: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    """Comes with the page; with it, the page asks for what is not everybody's to see."""
    page_answers: dict[str, Callable[[str], Awaitable[Mapping[str, Any]]]] = field(default_factory=dict)
    """Who answers what the page's own scripts ask, by name. The parts of the page put themselves here."""
    first_words: FirstWords = field(default_factory=FirstWords)
    startup_problems: list[AppError] = field(default_factory=list)
    started_with: Settings = field(init=False)
    """The settings as they were at the start: what needs a restart still is as it is here."""
    installer: Installer = field(init=False)
    installations: Installations = field(init=False)
    _hardware: HardwareFacts | None = None
    _files: FileWatch = field(init=False)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.started_with = self.settings
        self._files = FileWatch((self.paths.settings_file, self.paths.backend_config))
        self.installer = Installer(
            self.detected,
            self.loaders,
            indexes=lambda: self.settings.setup.indexes,
            folder=lambda: self.settings.setup.wheels,
        )
        self.installations = Installations(self.installer.do)

    @classmethod
    def create(cls, paths: Paths, settings: Settings, loaders: Mapping[str, LoaderSpec] = LOADERS) -> AppContext:
        """Build the services; nothing is started and no model is loaded yet."""
        paths.ensure()
        buffer = start_logging(paths.logs, debug=settings.debug)
        extensions = ExtensionHost(paths, settings)
        extensions.load()
        all_loaders = {**loaders, **extensions.loaders()}
        settings = _told(settings.with_loaders(all_loaders))
        settings_store = SettingsStore(paths, settings)
        settings_store.remember_good()
        store, presets = ConversationStore(paths.conversations), PresetStore(paths)
        context: AppContext
        history, metrics = History(paths.history), Metrics(paths.metrics)

        def machine() -> str:
            return fingerprint(context.detected())

        def gpus() -> str:
            return context.gpu_choice().key

        measurements = Measurements(paths.measurements, machine, gpus)
        tuned = Tuned(paths.tuned, machine, gpus)
        pool = Pool(
            lambda: context.settings,
            all_loaders,
            memory.available,
            device_memory=lambda: context.free_on_devices(),
            device_total=lambda: total_device_memory(context.usable()),
            history=history,
            experience=Experience(paths.experience, machine, gpus),
            measurements=measurements,
            plan=lambda facts, loader, parameters: context.plan(facts, loader, parameters),
            engines=lambda: context.engines(),
            tuned=tuned,
            devices=lambda: context.devices(),
            decisions=DecisionLog(paths.decisions),
            metrics=metrics,
            sources=_sources(lambda: context),
        )
        long_work = LongWork()
        context = cls(
            paths=paths,
            settings=settings,
            settings_store=settings_store,
            model_settings=ModelSettings(paths),
            loaders=all_loaders,
            catalogue=_catalogue(paths, settings),
            pool=pool,
            store=store,
            presets=presets,
            chats=ChatService(pool, store, presets, lambda: context.settings, extensions),
            extensions=extensions,
            log=buffer,
            history=history,
            abilities=Abilities(all_loaders, paths.abilities, machine),
            monitor=_monitor(lambda: context, pool),
            measurements=measurements,
            benchmarks=Benchmarks(lambda: context, paths.benchmarks, long_work),
            plans=_plans(lambda: context, pool, PlanRecords(paths.plan_records, machine)),
            tunings=Tunings(lambda: context, tuned, long_work),
            model_tests=ModelTests(lambda: context, long_work),
            metrics=metrics,
            migrations=_migrations(paths, all_loaders, lambda: context),
        )
        return context

    async def start(self) -> None:
        """Begin to load the model to start with, if there is one; returns at once."""
        self._keep(asyncio.create_task(self._load_first_model()))
        self._keep(asyncio.create_task(self.plans.follow()))
        self._keep(asyncio.create_task(self._files.follow(self._reload_settings)))

    async def close(self) -> None:
        """End every task and worker, and close what is open."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.pool.load_no_more()
        await self.installations.cancel()
        await self.tunings.stop()
        await self.model_tests.stop()
        await self.monitor.close()
        await self.benchmarks.close()
        await self.chats.close()
        await self.pool.close()
        await asyncio.to_thread(self.history.close)
        await asyncio.to_thread(self.metrics.close)
        self.store.close()
        stop_logging(self.log)

    async def load_model(
        self, model: str | Path | ModelFacts, loader: str | None = None, parameters: Mapping[str, Any] | None = None
    ) -> PoolStatus:
        """Load by catalogue name, path or facts. What is not given comes from what was saved for this model."""
        facts = model if isinstance(model, ModelFacts) else await asyncio.to_thread(self.catalogue.find, model)
        saved = self.model_settings.get(facts.path)
        name = loader or saved.get("loader") or self.settings.backends.preferred_backend or "auto"
        values = dict(parameters) if parameters is not None else dict(saved.get("parameters", {}))
        return await self.pool.load(LoadRequest(facts, name, values))

    async def hardware(self, *, refresh: bool = False) -> HardwareFacts:
        """The machine's facts; looked up once, in a thread, and again when `refresh` asks for it."""
        if not refresh:
            return await asyncio.to_thread(self.detected)
        facts = self._hardware = await asyncio.to_thread(detect, self.paths.models)
        return facts

    def detected(self) -> HardwareFacts:
        """What `hardware` gives, for other threads than the event loop's: it may take some tenths of a second."""
        facts = self._hardware
        if facts is None:
            facts = self._hardware = detect(self.paths.models)
        return facts

    def plan(self, facts: ModelFacts, loader: str, parameters: Mapping[str, Any]) -> MemoryPlan:
        """What loading `facts` with `loader` would take here, and whether it fits. Instant; for any thread.

        `parameters` are those asked for, over the configured ones; ones the loader does not have are left out.
        """
        full = self.full_parameters(loader, parameters)
        footprint = self.metrics.footprint(model_id(facts), loader, int(full.get("context_size") or 0))
        return warned(self.plans.plan(facts, self.loaders[loader], full), footprint)

    async def exact_plan(self, facts: ModelFacts, loader: str, parameters: Mapping[str, Any]) -> MemoryPlan:
        """The same with the engine's own figures, which takes about half a second. Raises where it gives none."""
        return await self.plans.exact(facts, self.loaders[loader], self.full_parameters(loader, parameters))

    def full_parameters(self, loader: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The full parameters that a load with `parameters` would have."""
        spec, allowed = self.loaders[loader], self.devices()
        asked = {
            **keep_known(spec.parameters, allowed.parameters),
            **self.settings.backends.parameters(loader),
            **keep_known(spec.parameters, parameters),
        }
        asked |= spec.cpu_parameters if allowed.processor else {}
        return dict(spec.parameters.parse(asked, where=f"the parameters of {spec.title}").model_dump(mode="json"))

    def usable_gpus(self, loader: str, gpus: tuple[GpuFacts, ...]) -> tuple[GpuFacts, ...]:
        """Those that models of `loader` may go to: none where its engine, as far as is known, can use none."""
        if not gpus:
            return ()
        known = next((ability for ability in self.abilities.known() if ability.loader == loader), None)
        if known is not None and known.told and not known.devices:
            return ()
        allowed = self.gpu_choice(gpus).gpus
        return tuple(gpu for gpu in allowed if not gpu.integrated) or allowed

    def engines(self) -> Engines:
        """What is known of the engines here, as far as it is known without asking them. Looks at the disk."""
        gpu = bool(self.gpu_choice().gpus)
        return engines_here(self.detected(), self.abilities.known(), self.loaders, gpu=gpu)

    def gpu_choice(self, gpus: tuple[GpuFacts, ...] | None = None) -> GpuChoice:
        """Which of `gpus`, or of those that were detected, models may use by the settings as they are."""
        return chosen(self.settings, self.detected().gpus if gpus is None else gpus)

    def usable(self, *, now: bool = False) -> HardwareFacts:
        """The machine as models may use it: without the GPUs that are left out. `now` looks at the GPUs anew."""
        facts = self.detected()
        return usable(self.settings, detect(self.paths.models) if now and facts.gpus else facts)

    def free_on_devices(self) -> int | None:
        """Free bytes of the GPUs that models may use, at this moment."""
        return free_device_memory(self.usable(now=True))

    def devices(self) -> Devices:
        """What the choice of GPUs means for a worker; holds from its start to its end."""
        return devices(self.settings, self.detected().gpus)

    def save_settings(self, changes: Mapping[str, Any]) -> Settings:
        """Validate and write `changes` (dotted keys); from now on they hold. Raises `InvalidSetting`."""
        return self.use_settings(self.settings_store.save(changes))

    def use_settings(self, settings: Settings) -> Settings:
        """Go by `settings` from now on; what each setting's declaration calls a restart waits for one."""
        self.settings = settings
        set_debug(settings.debug)
        self.catalogue.look_in([settings.models.directory or self.paths.models], settings.models.files)
        return settings

    def _reload_settings(self) -> None:
        """Somebody else wrote a settings file: another program, or a person with an editor."""
        known = {problem.message for problem in self.settings.problems}
        try:
            settings = self.use_settings(self.settings_store.load())
        except InvalidSetting as error:
            log.warning("The settings stay as they were: %s", error.message)
            return
        for problem in settings.problems:
            if problem.message not in known:
                log.warning("Left aside: %s", problem.message)
        self.settings_store.remember_good()

    async def _load_first_model(self) -> None:
        name = self.settings.models.default_model
        try:
            entries = await asyncio.to_thread(self.catalogue.entries)
            models = [entry for entry in entries if isinstance(entry, ModelFacts)]
            # Without a choice of the user's: the smallest, which is the starter model as long as it is there.
            first = name or min(models, key=lambda facts: facts.file_bytes, default=None)
            if first is not None:
                await self.load_model(first)
        except AppError as error:
            # Shown on the page from the pool's status; errors before the pool was asked are kept here.
            log.error("The first model was not loaded: %s", error.message)
            self.startup_problems.append(error)

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _told(settings: Settings) -> Settings:
    for problem in settings.problems:
        log.warning("Left aside: %s", problem.message)
    return settings


def _sources(context: Callable[[], AppContext]) -> Sources:
    return Sources(
        lambda: drivers(context().detected()),
        lambda facts, loader, parameters: context().plan(facts, loader, parameters),
        lambda since: context().monitor.sampled_since(since),
    )


def _catalogue(paths: Paths, settings: Settings) -> Catalogue:
    models = settings.models
    return Catalogue([models.directory or paths.models], paths.cache / "catalogue.json", models.files)


def _migrations(paths: Paths, loaders: Mapping[str, LoaderSpec], context: Callable[[], AppContext]) -> Migrations:
    return Migrations(
        paths,
        loaders,
        lambda: context().settings,
        lambda: context().use_settings(context().settings_store.load()),
    )


def _monitor(context: Callable[[], AppContext], pool: Pool) -> Monitor:
    return Monitor(lambda: Sampler(this_host(), context().detected()), pool.pids, lambda: _speed(pool.status))


def _plans(context: Callable[[], AppContext], pool: Pool, records: PlanRecords) -> Plans:
    return Plans(
        pool,
        records,
        loaders=lambda: context().loaders,
        machine=lambda: context().detected(),
        look=lambda: detect(context().paths.models).gpus,
        usable=lambda loader, gpus: context().usable_gpus(loader, gpus),
    )


def _speed(status: PoolStatus) -> float | None:
    """Tokens per second while a reply is written; none in between."""
    return status.tokens_per_second if status.running else 0.0
