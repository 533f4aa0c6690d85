"""Which loader opens a model: a ranked list in which every loader has its reason, for or against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from webui.errors import AppError, MissingPackage, UnsupportedFormat
from webui.loaders.contract import Availability, LoaderSpec
from webui.models.facts import ModelFacts


@dataclass(frozen=True, slots=True)
class Candidate:
    """A loader judged for one model. `reason` is one sentence why it can or cannot; `preference` says why it stands
    where it stands among the suitable ones.
    """

    loader: str
    suitable: bool
    reason: str
    preference: str = ""
    installed: bool = True


def rank(
    facts: ModelFacts,
    loaders: Mapping[str, LoaderSpec],
    *,
    order: Sequence[str],
    enabled: Callable[[str], bool],
    forced: str | None,
    availability: Callable[[LoaderSpec, ModelFacts], Availability],
) -> tuple[Candidate, ...]:
    """Suitable loaders first, in order of preference, then the others.

    `order` is the configured priority; loaders it leaves out follow in the map's order. A loader that opens the file as
    it is goes before one that has to convert it. With `forced`, only that loader can be suitable, though the others
    keep their own reasons.
    """
    position = {name: index for index, name in enumerate([*order, *(name for name in loaders if name not in order)])}
    judged = []
    for name, spec in loaders.items():
        candidate, converts = _judge(facts, spec, enabled(name), forced, availability)
        judged.append((not candidate.suitable, converts, position[name], candidate))
    return tuple(candidate for *_key, candidate in sorted(judged, key=lambda entry: entry[:3]))


def _judge(
    facts: ModelFacts,
    spec: LoaderSpec,
    enabled: bool,
    forced: str | None,
    availability: Callable[[LoaderSpec, ModelFacts], Availability],
) -> tuple[Candidate, bool]:
    verdict = spec.can_open(facts)
    found = availability(spec, facts)
    if not verdict.ok:
        return Candidate(spec.name, False, verdict.reason, installed=found.ok), verdict.converts
    if not found.ok:
        return Candidate(spec.name, False, found.reason, installed=False), verdict.converts
    if forced == spec.name:
        return Candidate(spec.name, True, verdict.reason, "you chose it"), verdict.converts
    if forced is not None:
        return Candidate(spec.name, False, "could open it, but another loader was chosen"), verdict.converts
    if not enabled:
        return Candidate(spec.name, False, "switched off in the settings"), verdict.converts
    preference = "after those that need not convert the file" if verdict.converts else "by the configured priority"
    return Candidate(spec.name, True, verdict.reason, preference), verdict.converts


def refusal(facts: ModelFacts, candidates: Sequence[Candidate]) -> AppError:
    """The error to raise when no candidate is suitable: every loader with its reason, and what to do."""
    reasons = "; ".join(f"{candidate.loader}: {candidate.reason}" for candidate in candidates)
    missing = [candidate.loader for candidate in candidates if not candidate.installed]
    if missing:
        return MissingPackage(
            f"No loader that is ready here can open {facts.name}.",
            cause=reasons,
            hint=f"Installing one of these may help: {', '.join(missing)} (Backend tab).",
        )
    return UnsupportedFormat(f"No loader can open {facts.name}.", cause=reasons)
