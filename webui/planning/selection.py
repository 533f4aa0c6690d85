"""Which loader opens a model: a ranked list in which every loader has its reason, for or against.

Pure: facts and declarations in, a list out. What is installed is asked through a function that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from webui.errors import AppError, MissingPackage, UnsupportedFormat
from webui.loaders.contract import Availability, LoaderSpec, Verdict
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id


@dataclass(frozen=True, slots=True)
class Candidate:
    """A loader judged for one model.

    `reason` is one sentence why it can or cannot; `chosen_because` says, for a suitable one, why it stands where it
    stands. `opens` is whether it could open this file at all, `converts` whether only by rewriting it in memory,
    `installed` whether its parts are here.
    """

    loader: str
    suitable: bool
    reason: str
    chosen_because: str = ""
    installed: bool = True
    opens: bool = True
    converts: bool = False
    error: type[AppError] = UnsupportedFormat


def rank(
    facts: ModelFacts,
    loaders: Mapping[str, LoaderSpec],
    *,
    order: Sequence[str],
    enabled: Callable[[str], bool],
    forced: str | None,
    availability: Callable[[LoaderSpec, ModelFacts], Availability],
) -> tuple[Candidate, ...]:
    """Suitable loaders first, in order of preference, then the others, each group in the order of priority.

    `order` is the configured priority; loaders it leaves out follow in the map's order. A loader that opens the file as
    it is goes before one that has to convert it. With `forced`, only that loader can be suitable, also when it is
    switched off for automatic choice; the others keep their own reasons.
    """
    names = [*(name for name in dict.fromkeys(order) if name in loaders), *(n for n in loaders if n not in order)]
    judged = [_judge(facts, loaders[name], enabled(name), forced, availability) for name in names]
    suitable = sorted((one for one in judged if one.suitable), key=lambda one: one.converts)  # stable: keeps priority
    explained = [replace(one, chosen_because=_why_here(one, place, forced)) for place, one in enumerate(suitable)]
    return (*explained, *(one for one in judged if not one.suitable))


def _why_here(candidate: Candidate, place: int, forced: str | None) -> str:
    if forced is not None:
        return "chosen by hand"
    if place == 0 and not candidate.converts:
        return "the first in the order of priority that opens the file as it is"
    if place == 0:
        return "no other loader that is ready here opens the file as it is"
    return "next, if those before it fail" + (": it has to convert the file" if candidate.converts else "")


def _judge(
    facts: ModelFacts,
    spec: LoaderSpec,
    enabled: bool,
    forced: str | None,
    availability: Callable[[LoaderSpec, ModelFacts], Availability],
) -> Candidate:
    verdict = _verdict(spec, facts)
    found = availability(spec, facts)

    def candidate(suitable: bool, reason: str) -> Candidate:
        return Candidate(spec.name, suitable, reason, "", found.ok, verdict.ok, verdict.converts, verdict.error)

    if not verdict.ok:
        return candidate(False, verdict.reason)
    if not found.ok:
        return candidate(False, found.reason)
    if forced is not None and forced != spec.name:
        return candidate(False, f"It could open this model, but {forced} was chosen by hand.")
    if not enabled and forced is None:
        return candidate(False, "It could open this model, but it is switched off in the settings.")
    return candidate(True, verdict.reason)


def _verdict(spec: LoaderSpec, facts: ModelFacts) -> Verdict:
    """The loader's own judgement. It may be an extension's code, and a mistake in it must not take the others along."""
    try:
        return spec.can_open(facts)
    except Exception as error:  # noqa: BLE001 (code of others; the reason is shown beside the loader)
        return Verdict(False, f"Its own check of the file failed: {type(error).__name__}: {error}")


def refusal(facts: ModelFacts, candidates: Sequence[Candidate], forced: str | None = None) -> AppError:
    """The error to raise when no candidate is suitable.

    Where a loader was `forced`, its reason and those that could do it instead; else every loader with its reason.
    """
    judged = next((one for one in candidates if one.loader == forced), None)
    if judged is not None:
        return _forced_refusal(facts, judged, [one.loader for one in candidates if one.opens and one.installed])
    reasons = "; ".join(f"{one.loader}: {one.reason.rstrip('.')}" for one in candidates)
    missing = [one.loader for one in candidates if one.opens and not one.installed]
    if missing:
        return MissingPackage(
            f"No loader that is ready here can open {model_id(facts)}.",
            cause=reasons,
            hint=f"Installing one of these helps: {', '.join(missing)} (Backend tab, or python3 app.py setup NAME).",
        )
    return UnsupportedFormat(f"No loader can open {model_id(facts)}.", cause=reasons)


def _forced_refusal(facts: ModelFacts, judged: Candidate, able: Sequence[str]) -> AppError:
    others = f"Let the app choose (auto), or take {' or '.join(able)}." if able else ""
    if judged.opens:
        install = f"Install it on the Backend tab, or with: python3 app.py setup {judged.loader}"
        return MissingPackage(f"{judged.loader} is not ready here.", cause=judged.reason.rstrip("."), hint=install)
    return judged.error(f"{judged.loader} cannot open {model_id(facts)}.", cause=judged.reason.rstrip("."), hint=others)
