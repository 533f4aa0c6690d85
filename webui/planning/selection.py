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
from webui.planning.evidence import Evidence, Figure, Ranking, ranked
from webui.planning.words import size


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
    evidence: Evidence | None = None,
) -> tuple[Candidate, ...]:
    """Suitable loaders first, in order of preference, then the others, each group in the order of priority.

    `order` is the configured priority; loaders it leaves out follow in the map's order. A loader that opens the file as
    it is goes before one that has to convert it, and `evidence` changes the order by the rules of its module. With
    `forced`, only that loader can be suitable, also when it is switched off for automatic choice; the others keep their
    own reasons.
    """
    evidence = evidence if evidence is not None else Evidence()
    names = [*(name for name in dict.fromkeys(order) if name in loaders), *(n for n in loaders if n not in order)]
    obstacles = {} if forced is not None else evidence.engines.obstacles
    judged = [_judge(facts, loaders[name], enabled(name), forced, availability, obstacles.get(name)) for name in names]
    suitable = [one for one in judged if one.suitable]
    return (*_explained(suitable, loaders, evidence, forced), *(one for one in judged if not one.suitable))


def _explained(
    suitable: Sequence[Candidate], loaders: Mapping[str, LoaderSpec], evidence: Evidence, forced: str | None
) -> list[Candidate]:
    """`suitable`, which stand by priority, in the order of preference and each with why it stands there."""
    if forced is not None or not suitable:
        return [replace(one, chosen_because="chosen by hand") for one in suitable]
    named = {one.loader: one for one in suitable}
    ranking = ranked(list(named), frozenset(one.loader for one in suitable if one.converts), loaders, evidence)
    reasons = {name: _why_next(ranking, name) for name in ranking.order}
    reasons[ranking.order[0]] = _why_first(ranking)
    return [replace(named[name], chosen_because=reasons[name]) for name in ranking.order]


def _why_first(ranking: Ranking) -> str:
    first, rival = ranking.order[0], ranking.unmeasured[0]
    figure = ranking.figures.get(first)
    if first != rival and figure is not None:
        return _faster(figure, ranking.figures[rival])
    if first in ranking.converting:
        alone = ranking.converting.issuperset(ranking.order)
        reason = "no other loader that is ready here opens the file as it is" if alone else "the first that fits"
    else:
        reason = "the first in the order of priority that opens the file as it is"
    passed = ranking.priority[: ranking.priority.index(first)]
    kept_back = [f"{name} comes later: {_setback(ranking, name)}" for name in passed if name not in ranking.converting]
    slower = max(
        (ranking.figures[name] for name in ranking.order[1:] if name in ranking.figures), key=_rate, default=None
    )
    if figure is not None:
        beside = f", {_words(slower)} with {slower.loader}" if slower is not None else ""
        kept_back.insert(0, f"{_words(figure)} here{beside}")
    return "; ".join([reason, *kept_back])


def _why_next(ranking: Ranking, name: str) -> str:
    figure = ranking.figures.get(name)
    known = [_setback(ranking, name)] + ([f"{_words(figure)} here"] if figure is not None else [])
    reason = ", ".join(filter(None, known))
    return "next, if those before it fail" + (f": {reason}" if reason else "")


def _setback(ranking: Ranking, name: str) -> str:
    """What puts a loader behind others whatever its priority, the weightiest of it."""
    if name in ranking.large:
        return f"it would need about {size(ranking.large[name].total)}, far more than is free"
    if name in ranking.converting:
        return "it has to convert the file"
    return "its engine uses no GPU here" if name in ranking.without_gpu else ""


def _faster(one: Figure, other: Figure) -> str:
    times = one.rate / other.rate
    ratio = f"{times:.2f}" if times < 1.2 else f"{times:.1f}" if times < 10 else f"{times:.0f}"
    sure = "" if one.exact and other.exact else ", measured with other parameters"
    rates = f"{_number(one.rate)} against {_words(other)}"
    return f"{ratio} × faster than {other.loader} for this model here: {rates}{sure}"


def _words(figure: Figure) -> str:
    return f"{_number(figure.rate)} tokens/s"


def _number(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"


def _rate(figure: Figure) -> float:
    return figure.rate


def _judge(
    facts: ModelFacts,
    spec: LoaderSpec,
    enabled: bool,
    forced: str | None,
    availability: Callable[[LoaderSpec, ModelFacts], Availability],
    obstacle: str | None,
) -> Candidate:
    verdict = verdict_of(spec, facts)
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
    if obstacle is not None:
        return candidate(False, obstacle)
    return candidate(True, verdict.reason)


def verdict_of(spec: LoaderSpec, facts: ModelFacts) -> Verdict:
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
            hint=f"Installing one of these helps: {', '.join(missing)} "
            f"(Backend tab, or python3 app.py setup {missing[0]}).",
        )
    return UnsupportedFormat(f"No loader can open {model_id(facts)}.", cause=reasons)


def _forced_refusal(facts: ModelFacts, judged: Candidate, able: Sequence[str]) -> AppError:
    others = f"Let the app choose (auto), or take {' or '.join(able)}." if able else ""
    if judged.opens:
        install = f"Install it on the Backend tab, or with: python3 app.py setup {judged.loader}"
        return MissingPackage(f"{judged.loader} is not ready here.", cause=judged.reason.rstrip("."), hint=install)
    return judged.error(f"{judged.loader} cannot open {model_id(facts)}.", cause=judged.reason.rstrip("."), hint=others)
