"""Memory plans for this machine as it is now: gathers its room, what loads have taken before, and what a swap frees.

The plans themselves are pure (`webui.planning`). What a model that is loaded really holds is measured when it is ready
and after replies, kept, and corrects the next plan of that model.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from webui.errors import AppError
from webui.hardware import memory
from webui.hardware.facts import GpuFacts, HardwareFacts
from webui.loaders import processes
from webui.loaders.contract import LoaderSpec
from webui.loaders.dry_run import plan_of
from webui.loaders.held_memory import Held, held_memory
from webui.loaders.llama_log import EnginePlan
from webui.models.facts import ModelFacts
from webui.models.inspect import inspect_model
from webui.planning.decisions import PlanQuestion
from webui.planning.plan import CPU, GpuRoom, Machine, Measured, MemoryPlan
from webui.planning.planner import Extras, Question, outline
from webui.pool.plan_records import PlanRecords
from webui.pool.pool import Pool
from webui.pool.status import PoolStatus

FRESH_SECONDS = 3.0
"""How old the figures of GPUs, and the versions of engines, may be for an instant plan."""
FILES = ("projector", "lora")
MOST_TOLD = 50


@dataclass(frozen=True, slots=True)
class Taken:
    """What the model that is loaded was planned to take, as it was told before it was measured, and what it took."""

    pid: int
    planned: Mapping[str, int]
    measured: Measured

    @property
    def compared(self) -> tuple[int, int]:
        """Planned and measured bytes of the devices that were measured."""
        return sum(self.planned.get(device, 0) for device in self.measured.devices), self.measured.total


class Plans:
    """One for the app. `plan` may be called in any thread; `follow` belongs to the event loop.

    `machine` gives the machine's facts as last detected, `look` detects its GPUs anew and takes a moment; `usable` says
    which GPUs a loader may use.
    """

    def __init__(
        self,
        pool: Pool,
        records: PlanRecords,
        *,
        loaders: Callable[[], Mapping[str, LoaderSpec]],
        machine: Callable[[], HardwareFacts],
        look: Callable[[], tuple[GpuFacts, ...]],
        usable: Callable[[str, tuple[GpuFacts, ...]], tuple[GpuFacts, ...]],
    ) -> None:
        self._pool, self._loaders, self._records = pool, loaders, records
        self._machine, self._look, self._usable = machine, look, usable
        self._gpus: tuple[GpuFacts, ...] | None = None
        self._looked_at = 0.0
        self._looking = threading.Lock()
        self._drafts: dict[tuple[Path, int], ModelFacts] = {}
        self._versions: dict[tuple[str, str], tuple[float, str | None]] = {}
        self._told: OrderedDict[str, EnginePlan] = OrderedDict()
        """What engines said of loads they were asked about."""
        self._held: Held | None = None
        self._held_on_gpus: Mapping[str, int] = {}
        """What the model that is loaded now holds, which a swap gives back."""
        self.taken: Taken | None = None
        """The plan of the model that is loaded now, beside what was measured; `None` until it is."""

    def plan(self, facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any]) -> MemoryPlan:
        """The instant plan of loading `facts` with `parameters` (the loader's full values)."""
        return self.question(facts, spec, parameters).answer()

    def question(self, facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any]) -> PlanQuestion:
        """What `plan` answers: the load, and the room there is for it now."""
        question, version = self._question(facts, spec, parameters)
        measured = self._records.measured(facts, spec.name, version, parameters)
        return PlanQuestion(question, self._told.get(_key(question, version)), measured)

    async def exact(self, facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any]) -> MemoryPlan:
        """The plan with the engine's own figures. Raises `InvalidRequest` where the engine gives none.

        From then on `plan` uses them as well, for the same load.
        """
        engine = await plan_of(spec, facts, parameters)
        await asyncio.to_thread(self._look_again)

        def ask() -> MemoryPlan:
            self._told[_key(*self._question(facts, spec, parameters))] = engine
            while len(self._told) > MOST_TOLD:
                self._told.popitem(last=False)
            return self.plan(facts, spec, parameters)

        return await asyncio.to_thread(ask)

    async def follow(self) -> None:
        """Measure what the loaded model holds, when it is ready and after replies; ends only when it is cancelled."""
        pid: int | None = None
        used = -1
        async with contextlib.aclosing(self._pool.watch()) as statuses:
            async for status in statuses:
                if status.model is None or status.pid is None:
                    pid, self._held, self._held_on_gpus, self.taken = None, None, {}, None
                    continue
                tokens = status.used_tokens or 0
                if status.running or (status.pid == pid and tokens <= used):
                    continue
                pid, used = status.pid, tokens
                await asyncio.to_thread(self._measure, status, tokens)

    def _measure(self, status: PoolStatus, used: int) -> None:
        facts, spec = status.facts, self._loaders().get(status.loader or "")
        if facts is None or spec is None or status.pid is None:
            return
        family = [process.pid for process in processes.family(status.pid)]
        held = held_memory(family, facts.files)
        if held is None:
            return  # it ended meanwhile
        self._held, self._held_on_gpus = held, self._look_on_gpus(spec, family)
        devices = {CPU: held.total, **self._held_on_gpus}
        question, version = self._question(facts, spec, status.parameters, corrected=False)
        planned = {device.device: device.total for device in outline(question).devices}
        measured = Measured(devices, time.time())
        self.taken = Taken(status.pid, self._promised(status.pid, facts, spec, status.parameters), measured)
        self._records.add(
            facts,
            version,
            loader=spec.name,
            parameters=status.parameters,
            planned=planned,
            measured=measured,
            used_tokens=used,
        )

    def _promised(
        self, pid: int, facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any]
    ) -> Mapping[str, int]:
        """The plan as it was before anything was measured of this process."""
        if self.taken is not None and self.taken.pid == pid:
            return self.taken.planned
        question, _version = self._question(facts, spec, parameters)
        return {device.device: device.total for device in outline(question).devices}

    def _look_on_gpus(self, spec: LoaderSpec, family: list[int]) -> dict[str, int]:
        found = {}
        for place, gpu in enumerate(self._usable(spec.name, self._look() if self._machine().gpus else ())):
            if held := gpu.held_by(family):
                found[GpuRoom(place, gpu.name).key] = held
        return found

    def _question(
        self, facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any], *, corrected: bool = True
    ) -> tuple[Question, str | None]:
        version = self._version(spec, facts, parameters)
        correction = self._records.correction(facts, spec.name, version) if corrected else 0
        question = Question(facts, spec, parameters, self._room(spec.name), self._extras(parameters), correction)
        return question, version

    def _version(self, spec: LoaderSpec, facts: ModelFacts, parameters: Mapping[str, Any]) -> str | None:
        """The engine's, as looked up some seconds ago: packages take milliseconds to tell."""
        key, now = (spec.name, str(parameters.get("executable", ""))), time.monotonic()
        known = self._versions.get(key)
        if known is None or now - known[0] > FRESH_SECONDS:
            known = self._versions[key] = (now, spec.availability(facts, parameters).version)
            self._versions = dict(list(self._versions.items())[-MOST_TOLD:])
        return known[1]

    def _room(self, loader: str) -> Machine:
        machine, held = self._machine(), self._held
        freed = held.own if held is not None else 0
        gpus = self._usable(loader, self._current_gpus())
        return Machine(
            memory.available() + freed,
            machine.memory.total,
            tuple(self._gpu_room(place, gpu) for place, gpu in enumerate(gpus)),
            freed,
            frozenset(machine.cpu.instruction_sets),
        )

    def _gpu_room(self, place: int, gpu: GpuFacts) -> GpuRoom:
        room = GpuRoom(place, gpu.name, gpu.memory_free, gpu.memory_total, bool(gpu.integrated))
        return room if room.free is None else replace(room, free=room.free + self._held_on_gpus.get(room.key, 0))

    def _current_gpus(self) -> tuple[GpuFacts, ...]:
        """The GPUs as last looked at; looks again beside, where that is some time ago."""
        known = self._machine().gpus
        if not known:
            return ()
        if time.monotonic() - self._looked_at > FRESH_SECONDS and self._looking.acquire(blocking=False):
            self._looked_at = time.monotonic()
            threading.Thread(target=self._look_beside, daemon=True).start()
        return self._gpus if self._gpus is not None else known

    def _look_beside(self) -> None:
        try:
            self._gpus = self._look()
        finally:
            self._looking.release()

    def _look_again(self) -> None:
        if self._machine().gpus:
            self._gpus, self._looked_at = self._look(), time.monotonic()

    def _extras(self, parameters: Mapping[str, Any]) -> Extras:
        """Sizes of what is loaded beside the model. What cannot be read is left to the load to complain of."""
        total = 0
        for name in FILES:
            with contextlib.suppress(OSError):
                if path := str(parameters.get(name) or ""):
                    total += Path(path).expanduser().stat().st_size
        draft = None
        if path := str(parameters.get("draft_model") or ""):
            with contextlib.suppress(OSError, AppError, ValueError):
                draft = self._draft(Path(path).expanduser())
        return Extras(total, draft)

    def _draft(self, path: Path) -> ModelFacts:
        key = (path, path.stat().st_mtime_ns)
        if key not in self._drafts:
            self._drafts = {key: inspect_model(path)}
        return self._drafts[key]


def _key(question: Question, version: str | None) -> str:
    """What tells a load from others."""
    facts, loader = question.facts, question.spec.name
    return json.dumps([str(facts.path), facts.file_bytes, loader, version, question.parameters], sort_keys=True)
