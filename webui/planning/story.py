"""The end of a ladder: the error that a person is told, with the cause that matters most in front."""

from __future__ import annotations

from itertools import groupby

from webui.planning.steps import GiveUp, Situation, Tried
from webui.planning.words import sentence


def give_up(situation: Situation, ending: str = "", *, last: bool = False, told: bool = False) -> GiveUp:
    """Nothing is left: the error for the user. `ending` says why it stops here, where something was left to try.

    The main cause is the first failure, that of the loader a person would expect to open the file. Where the `last`
    failure ended everything by itself, it is the main cause. The others are counted, since the steps of the load stand
    beside it; they are `told` in its words where those steps are those of several loads.
    """
    failed = [one for one in situation.tried if one.error is not None]
    errors = [one.error for one in failed if one.error is not None]
    main = errors[-1] if last else errors[0]
    parts = [sentence(main.cause)] if main.cause else []
    if len(failed) > 1:
        parts += _told(situation, failed) if told else [_counted(len(failed) - 1, "before" if last else "after")]
    parts += [sentence(ending)] if ending else []
    story = [
        {"loader": one.attempt.loader, "kind": one.attempt.kind.value, "code": error.code, "message": error.message}
        for one, error in zip(failed, errors, strict=True)
    ]
    facts = {**main.facts, "story": story}
    cause = " ".join(parts) if len(parts) > 1 or not main.cause else main.cause
    return GiveUp(type(main)(main.message, cause=cause, hint=main.hint, evidence=main.evidence, **facts))


def _counted(others: int, where: str) -> str:
    return f"The attempt {where} it failed too." if others == 1 else f"The {others} attempts {where} it failed too."


def _told(situation: Situation, failed: list[Tried]) -> list[str]:
    """One sentence for each loader and failure, in order; attempts in a row that ended alike are told together."""
    told: list[str] = []
    for (loader, message), group in groupby(failed, key=lambda one: (one.attempt.loader, str(one.error))):
        attempts = list(group)
        text, title = sentence(message), situation.specs[loader].title
        text = text if text.lower().startswith(title.lower()) else f"{title}: {text}"
        if len(attempts) > 1:
            kinds = ", ".join(dict.fromkeys(one.attempt.kind.value for one in attempts))
            text = f"{text.removesuffix('.')} ({len(attempts)} attempts: {kinds})."
        told.append(text)
    return told
