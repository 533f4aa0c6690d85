"""From a request to load to everything the recovery ladder decides from: loaders, their parameters, what is known."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from webui.errors import AppError, MissingPackage
from webui.loaders.contract import Availability, LoaderSpec
from webui.loaders.parameters import Parameters, keep_known
from webui.models.facts import ModelFacts
from webui.planning.decisions import RankingQuestion
from webui.planning.evidence import Engines, Evidence
from webui.planning.plan import MemoryPlan
from webui.planning.recovery import Situation
from webui.planning.selection import Candidate, refusal, verdict_of
from webui.pool.experience import Experience
from webui.pool.measurements import Measurements
from webui.pool.status import LoadRequest
from webui.pool.tuned import Tuned
from webui.settings import Settings

AUTO = ("", "auto")

PlanOf = Callable[[ModelFacts, str, Mapping[str, Any]], MemoryPlan]
"""The plan of loading a model with a loader and its parameters."""


@dataclass(frozen=True, slots=True)
class Devices:
    """The GPUs that models may use: the `environment` that keeps a worker to them, the `parameters` that follow from
    the choice where nobody set others, and whether the `processor` is all there is to use.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    processor: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What can be tried for a request.

    `candidates` are all loaders, judged; `situation` holds the suitable ones with their parameters, `versions` those
    of their engines. `passed_over` are loaders that would have come first and cannot be tried, each with the reason:
    not installed, or configured with parameters that are not valid. `devices` are those that may be used now.
    """

    candidates: tuple[Candidate, ...]
    situation: Situation
    versions: Mapping[str, str | None]
    passed_over: tuple[tuple[str, AppError], ...] = ()
    devices: Devices = field(default_factory=Devices)


class Chooser:
    """See the module. The functions are asked anew at each use; `plan` may refuse a parameter."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        loaders: Mapping[str, LoaderSpec],
        experience: Experience,
        measurements: Measurements,
        *,
        plan: PlanOf | None = None,
        engines: Callable[[], Engines] = Engines,
        tuned: Tuned | None = None,
        devices: Callable[[], Devices] = Devices,
    ) -> None:
        self._settings = settings
        self._loaders = loaders
        self._experience = experience
        self._measurements = measurements
        self._plan = plan
        self._engines = engines
        self._tuned = tuned if tuned is not None else Tuned(None, lambda: "")
        self._devices = devices

    def rank(
        self, facts: ModelFacts, loader: str = "auto", parameters: Mapping[str, Any] = MappingProxyType({})
    ) -> tuple[Candidate, ...]:
        """The loaders for `facts`, best first, each with its reason. `loader` other than "auto" is forced.

        `parameters` are those asked for, over the configured ones; a loader may need one to be usable at all. Looks at
        the disk.
        """
        return self.question(facts, loader, parameters).answer(self._loaders)

    def question(
        self, facts: ModelFacts, loader: str = "auto", parameters: Mapping[str, Any] = MappingProxyType({})
    ) -> RankingQuestion:
        """Everything that `rank` decides from. Looks at the disk."""
        backends = self._settings().backends
        found = {
            name: spec.availability(facts, {**backends.parameters(name), **parameters})
            for name, spec in self._loaders.items()
        }
        forced = None if loader in AUTO else loader
        return RankingQuestion(
            facts,
            backends.order,
            frozenset(name for name in self._loaders if backends.enabled(name)),
            forced,
            found,
            Evidence() if forced is not None else self._evidence(facts, parameters, found),
        )

    def _evidence(
        self, facts: ModelFacts, parameters: Mapping[str, Any], found: Mapping[str, Availability]
    ) -> Evidence:
        """What is known of the loaders that are here; of wrong parameters nothing is, and `choose` tells of them."""
        asked: dict[str, Mapping[str, Any]] = {}
        plans: dict[str, MemoryPlan] = {}
        versions = {name: one.version for name, one in found.items() if one.ok}
        tuned, devices = self._tuned_with(facts, versions), self._devices()
        for name in versions:
            with contextlib.suppress(AppError):
                beneath = {**devices.parameters, **tuned.get(name, {})}
                full = self._parameters(self._loaders[name], parameters, devices, beneath, strict=False)
                asked[name] = full.model_dump(mode="json")
                if self._plan is not None and verdict_of(self._loaders[name], facts).ok:
                    plans[name] = self._plan(facts, name, asked[name])
        return Evidence(asked, plans, self._measurements.of(facts, versions), self._engines())

    def choose(self, request: LoadRequest) -> Choice:
        """Judge the loaders and gather what is known; looks at the disk, so call it in a thread.

        Raises the refusal when no loader is suitable, and `InvalidSetting` when the only one's parameters are wrong.
        """
        facts, forced, devices = request.facts, request.loader not in AUTO, self._devices()
        candidates = self.rank(facts, request.loader, request.parameters)
        suitable = [candidate for candidate in candidates if candidate.suitable]
        if not suitable:
            raise refusal(facts, candidates, request.loader)
        tuned = self.tuned(facts, request.parameters)
        asked: dict[str, Mapping[str, Any]] = {}
        refused: list[tuple[str, AppError]] = []
        for candidate in suitable:
            try:
                spec = self._loaders[candidate.loader]
                beneath = {**devices.parameters, **tuned.get(spec.name, {})}
                parameters = self._parameters(spec, request.parameters, devices, beneath, strict=forced)
                asked[candidate.loader] = parameters.model_dump(mode="json")
            except AppError as error:
                refused.append((candidate.loader, error))
        if not asked:
            raise refused[0][1]
        versions = {name: self._version(name, facts, request.parameters) for name in asked}
        if request.afresh:
            self._experience.forget(facts)
        situation = Situation(
            facts,
            self._loaders,
            [candidate for candidate in suitable if candidate.loader in asked],
            asked,
            known=self._experience.recall(facts, versions),
            forced=forced,
            fallback=self._settings().backends.fallback_enabled,
        )
        missing = [] if forced else self._missing(candidates, first=situation.candidates[0].loader)
        return Choice(candidates, situation, versions, (*missing, *refused), devices)

    def tuned(
        self, facts: ModelFacts, parameters: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Mapping[str, Any]]:
        """By loader, the parameters that a search found to be the fastest for `facts`. Looks at the disk."""
        return self._tuned_with(facts, {name: self._version(name, facts, parameters) for name in self._loaders})

    def _tuned_with(self, facts: ModelFacts, versions: Mapping[str, str | None]) -> dict[str, Mapping[str, Any]]:
        found = self._tuned.of(facts, versions)
        return {name: keep_known(self._loaders[name].parameters, setting.parameters) for name, setting in found.items()}

    def _missing(self, candidates: Sequence[Candidate], first: str) -> list[tuple[str, AppError]]:
        """The loaders of higher priority than `first` that open the file as it is, and are not installed."""
        order = [*self._settings().backends.order, *self._loaders]
        return [
            (one.loader, MissingPackage(f"{one.loader} is not ready here: {one.reason.rstrip('.')}."))
            for one in candidates
            if one.opens and not one.installed and not one.converts and order.index(one.loader) < order.index(first)
        ]

    def _version(self, name: str, facts: ModelFacts, parameters: Mapping[str, Any]) -> str | None:
        configured = self._settings().backends.parameters(name)
        return self._loaders[name].availability(facts, {**configured, **parameters}).version

    def _parameters(
        self,
        spec: LoaderSpec,
        asked: Mapping[str, Any],
        devices: Devices,
        beneath: Mapping[str, Any],
        *,
        strict: bool,
    ) -> Parameters:
        """What was found to be good (`beneath`), over it configured values, over them those asked for.

        Not `strict`: values meant for another loader are left out.
        """
        backends = self._settings().backends
        wanted = asked if strict else keep_known(spec.parameters, asked)
        values = {**keep_known(spec.parameters, beneath), **backends.parameters(spec.name), **wanted}
        if devices.processor or not backends.gpu_enabled:
            values |= spec.cpu_parameters
        return spec.parameters.parse(values, where=f"the parameters of {spec.title}")
