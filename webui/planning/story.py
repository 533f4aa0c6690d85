"""The end of a ladder: the error that tells the whole story, with the cause that matters most in front."""

from __future__ import annotations

from itertools import groupby

from webui.planning.steps import GiveUp, Situation, Tried
from webui.planning.words import sentence


def give_up(situation: Situation, ending: str = "", *, last: bool = False) -> GiveUp:
    """Nothing is left: the error for the user. `ending` says why it stops here, where something was left to try.

    The main cause is the first failure, that of the loader a person would expect to open the file; what came after it
    is told. Where the `last` failure ended everything by itself, it is the main cause.
    """
    failed = [one for one in situation.tried if one.error is not None]
    errors = [one.error for one in failed if one.error is not None]
    main = errors[-1] if last else errors[0]
    parts = _told(situation, failed) if len(failed) > 1 else []
    parts += [sentence(ending)] if ending else []
    if parts and main.cause:
        parts.insert(0, sentence(f"Its cause: {main.cause}"))
    story = [
        {"loader": one.attempt.loader, "kind": one.attempt.kind.value, "code": error.code, "message": error.message}
        for one, error in zip(failed, errors, strict=True)
    ]
    facts = {**main.facts, "story": story}
    error = type(main)(
        main.message, cause=" ".join(parts) or main.cause, hint=main.hint, evidence=main.evidence, **facts
    )
    return GiveUp(error)


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
