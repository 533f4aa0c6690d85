"""From evidence to an error: a log, an exception or the end of a process, read with the table of symptoms.

What nobody has seen before stays unknown, says so, and shows the engine's own lines.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

from webui.errors import (
    EVIDENCE_LINES,
    AppError,
    BrokenPackage,
    CorruptFile,
    EngineCrashed,
    EngineRefused,
    HostOutOfMemory,
    MissingPackage,
)
from webui.loaders.symptoms import LINE_CHARACTERS, find, last_words, said

UNKNOWN = "for a reason this app does not know"
CHAIN = 8
"""Exceptions of one chain that are looked at: why, and why that."""


def proof(lines: Sequence[str], place: int | None = None) -> list[str]:
    """The lines to show: the last ones, and those that lead to the telling line where it lies further back."""
    if place is None or place >= len(lines) - EVIDENCE_LINES:
        return list(lines[-EVIDENCE_LINES:])
    before = lines[max(0, place - EVIDENCE_LINES // 2 + 2) : place + 1]
    return [*before, "…", *lines[-(EVIDENCE_LINES - len(before) - 1) :]]


def typed(title: str, lines: Iterable[str], *, dead: bool = False, **facts: Any) -> AppError | None:
    """The error that `lines` prove, with them as evidence; `None` where no line says a known reason."""
    kept = _telling(lines)
    finding = find(kept, dead=dead)
    if finding is None:
        return None
    if finding.symptom.error is MissingPackage and finding.what:
        facts = {"package": finding.what.partition(".")[0], **facts}
    message = finding.symptom.message.format(title=title, what=finding.what)
    return finding.symptom.error(
        message.replace(" .", ".").replace("  ", " "),
        cause=said(kept[finding.place]),
        hint=finding.symptom.hint,
        evidence=proof(kept, finding.place),
        **facts,
    )


def explain_lines(title: str, doing: str, lines: Iterable[str]) -> AppError:
    """What the log of a failed step proves; an `EngineRefused` that says so where no line says a known reason.

    `doing` completes "… could not".
    """
    kept = _telling(lines)
    return typed(title, kept) or unknown(title, doing, kept)


def explain_exception(title: str, doing: str, error: BaseException) -> AppError:
    """What an exception of an engine's library proves. One of ours is returned as it is."""
    if isinstance(error, AppError):
        return error
    trace = "".join(traceback.format_exception(error)).rstrip().splitlines()
    chain = [line for link in _chain(error) for line in f"{type(link).__name__}: {link}".splitlines()]
    known = typed(title, chain)
    if known is not None:
        known.evidence = tuple(proof(trace))
        return known
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return unknown(title, doing, trace, text, cause=type(error).__name__)


def unknown(title: str, doing: str, lines: Sequence[str], text: str = "", cause: str = "") -> EngineRefused:
    """The error for what nobody has seen before: it says so, and shows the evidence (`facts["unknown"]`)."""
    shown = "; the engine's own lines are below" if lines else ""
    reason = f"{UNKNOWN}: {text[:LINE_CHARACTERS]}" if text else f"{UNKNOWN}{shown}."
    return EngineRefused(
        f"{title} could not {doing}, {reason}",
        cause=cause or last_words(lines),
        evidence=proof(lines),
        unknown=True,
    )


def import_failure(title: str, error: BaseException) -> AppError:
    """Why an engine's library does not come up: what its text proves, else that the installation is broken."""
    known = explain_exception(title, "start", error)
    if not known.facts.get("unknown"):
        return known
    return BrokenPackage(
        f"{title} is installed and does not start.",
        cause=said(f"{type(error).__name__}: {error}"),
        evidence=known.evidence,
    )


def name_limit(title: str, error: AppError, most: int | None) -> AppError:
    """Where the memory that lacks is bounded by a setting (`most` bytes), the error says so; else it stays as it is."""
    if most is None or not isinstance(error, HostOutOfMemory) or error.facts.get("signal") == "SIGKILL":
        return error
    error.message = f"{title} needs more memory than the {most >> 20:,} MiB that a worker may take."
    error.args = (error.message,)
    error.hint = "Raise limits.worker_memory_mib, or use a smaller context or a smaller quantisation."
    error.facts["limit_bytes"] = most
    return error


def name_damage(title: str, error: AppError, damage: str) -> AppError:
    """Where an engine crashed over a file that it maps, and that changed meanwhile as `damage` says, that is why.

    Any other error stays as it is.
    """
    if not damage or error.facts.get("signal") != "SIGBUS":
        return error
    return CorruptFile(
        f"{title} crashed (SIGBUS), because the model's file changed under it.",
        cause=damage,
        hint="Put the file back as it was, and load the model again.",
        evidence=error.evidence,
        **error.facts,
    )


def _telling(lines: Iterable[str]) -> list[str]:
    return [line.rstrip() for line in lines if line.strip(" .\r\n")]


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and what it came from."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links and len(links) < CHAIN:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


# --- the end of a process -------------------------------------------------------------------------------------------

_SIGNALS = {
    "SIGSEGV": "it touched memory that is not its own: a fault in the engine, or a damaged file",
    "SIGABRT": "it gave up by itself",
    "SIGBUS": "a file that it has mapped became shorter or its disk went away, or shared memory (/dev/shm) is full",
    "SIGFPE": "it computed with a number that it cannot, such as a division by zero: a damaged file, or a fault in it",
    "SIGKILL": "somebody, or a service that watches memory, ended it by force; the system's own record shows no kill "
    "for want of memory",
    "SIGALRM": "it did not close within its time",
    "SIGTERM": "somebody asked it to end: a person, a service manager or a shutdown",
    "SIGINT": "somebody asked it to end: a person, a service manager or a shutdown",
    "SIGHUP": "the terminal or session it belonged to was closed",
    "SIGXCPU": "it used up the processor time that this account may take (ulimit -t)",
    "SIGXFSZ": "it wrote a file larger than this account may write (ulimit -f)",
    "SIGSYS": "it asked for something that the sandbox or container around it forbids",
}
_WINDOWS = {
    0xC0000005: "SIGSEGV",
    0xC00000FD: "SIGSEGV",
    0xC000001D: "SIGILL",
    0xC0000094: "SIGFPE",
    0xC0000409: "SIGABRT",
    0xC0000006: "SIGBUS",
}
"""What Windows gives as exit status where others send a signal."""

_NOT_STARTED = (126, 127)
"""Exit statuses by which shells say that a program cannot be run."""


def explain_exit(
    title: str,
    status: int | None,
    output: Iterable[str],
    *,
    expected: bool = False,
    killed_for_memory: bool = False,
    started: bool = True,
) -> AppError:
    """What the end of a process means. `status` is the exit status, negative for a signal as on POSIX.

    `output` are its last lines; what they prove counts more than how it ended. `killed_for_memory`: the system's record
    shows that it ended a process here to get memory.
    """
    lines = _telling(output)
    name = _signal_name(status)
    facts: dict[str, Any] = {"signal": name} if name else {"exit_status": status}
    if expected:
        return EngineCrashed(f"The {title} worker was stopped.", evidence=lines, **facts)
    if name == "SIGKILL" and killed_for_memory:
        return HostOutOfMemory(
            f"The system ended {title}, because the machine's memory (or its container's) ran out.",
            cause="the kernel's record of such kills went up while it ran",
            evidence=lines,
            **facts,
        )
    if name == "SIGILL":
        return BrokenPackage(
            f"The installed build of {title} uses instructions that this machine's CPU does not have (SIGILL).",
            cause="its process was ended by SIGILL",
            hint="Install a build for this CPU, or choose another loader.",
            evidence=lines,
            **facts,
        )
    known = typed(title, lines, dead=True, **facts)
    if known is not None:
        return known
    words = last_words(lines)
    if name:
        return _crashed(title, name, words, lines)
    if status in _NOT_STARTED:
        return BrokenPackage(f"{title} cannot be run.", cause=words, evidence=lines, **facts)
    when = "unexpectedly" if started else "before it had started"
    return EngineCrashed(
        f"{title} ended {when} (exit status {status}), {UNKNOWN}{_shown(lines)}.",
        cause=words or "its process ended by itself, and nobody had asked it to",
        evidence=proof(lines),
        unknown=True,
        **facts,
    )


def _crashed(title: str, name: str, words: str, lines: Sequence[str]) -> EngineCrashed:
    cause = f"its process was ended by {name}"
    if meaning := _SIGNALS.get(name):
        cause += f": {meaning}"
    if words:
        cause += f". Its last words: {words}"
    return EngineCrashed(f"{title} crashed ({name}).", cause=cause, evidence=proof(lines), signal=name)


def _shown(lines: Sequence[str]) -> str:
    return "; the engine's own lines are below" if lines else " and said nothing"


def _signal_name(status: int | None) -> str:
    """The signal that ended a process, also where Windows says it in a number; empty for a plain exit."""
    if status is None or status >= 0:
        return _WINDOWS.get(status or 0, "")
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
