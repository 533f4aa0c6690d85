"""The end of a ladder: the error that tells the whole story, with the cause that matters most in front."""

from __future__ import annotations

from webui.errors import AppError
from webui.planning.steps import GiveUp, Situation, StepKind, Tried
from webui.planning.words import sentence

MOST_TOLD = 6
"""Attempts told one by one; of more, the first and the last ones."""


def give_up(situation: Situation, ending: str = "", death: AppError | None = None, final: bool = False) -> GiveUp:
    """Nothing is left: the error for the user. `ending` says why it stops here; `death` ended a running model.

    The main cause is the first failure, that of the loader a person would expect to open the file; what the fallbacks
    said after it is only told. With `final` it is the last one, which ended everything.
    """
    failed = [one for one in situation.tried if one.error is not None]
    if death is not None:
        failed.append(Tried(situation.tried[-1].attempt, death))
    errors = [one.error for one in failed if one.error is not None]
    main = death or (errors[-1] if final else errors[0])
    told = [_told(situation, one) for one in failed]
    if len(told) > MOST_TOLD:
        told[3:-2] = [f"{len(told) - 5} more attempts failed."]
    parts = [sentence(main.cause)] if main.cause else []
    parts += told if len(failed) > 1 else []
    parts += [sentence(ending)] if ending else []
    story = [
        {
            "loader": one.attempt.loader,
            "kind": one.attempt.kind.value,
            "code": one.error.code if one.error else "",
            "message": one.error.message if one.error else "",
        }
        for one in failed
    ]
    facts = {**main.facts, "story": story}
    return GiveUp(type(main)(main.message, cause=" ".join(parts), hint=main.hint, evidence=main.evidence, **facts))


def _told(situation: Situation, one: Tried) -> str:
    title = situation.specs[one.attempt.loader].title
    how = "" if one.attempt.kind in (StepKind.ASKED, StepKind.NEXT_LOADER) else f" ({one.attempt.kind.value})"
    return sentence(f"{title}{how}: {one.error.message if one.error else ''}")
