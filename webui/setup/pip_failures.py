"""What pip's output means for a person, when it failed: one sentence and what to do. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable

from webui.errors import (
    CompilationFailed,
    DamagedDownload,
    NoNetwork,
    NoSpace,
    NotPermitted,
    NoWheel,
    PackageConflict,
    PipMissing,
    SetupFailed,
    UnsuitedPython,
)

_CAUSES: tuple[tuple[type[SetupFailed], str, str, str], ...] = (
    (
        NoSpace,
        r"No space left on device|Errno 28|not enough space on the disk",
        "the disk is full",
        "Free some space, then run the same command again.",
    ),
    (
        NotPermitted,
        r"Permission denied|Errno 13|Access is denied|Read-only file system",
        "a folder may not be written to",
        "Check who owns the folder (no administrator rights are needed for one of your own), then run it again.",
    ),
    (
        NoNetwork,
        r"CERTIFICATE_VERIFY_FAILED|SSLError|certificate verify failed",
        "the package index's certificate is not trusted here",
        "Behind a company proxy, give pip its certificate: pip config set global.cert FILE",
    ),
    (
        NoNetwork,
        r"ProxyError|Cannot connect to proxy|407 Proxy",
        "the proxy refused the connection",
        "Check the proxy settings (HTTPS_PROXY, or pip config), then run the same command again.",
    ),
    (
        DamagedDownload,
        r"THESE PACKAGES DO NOT MATCH THE HASHES|BadHash|HashMismatch|BadZipFile|located at .* is invalid|"
        r"has an invalid wheel|File is not a zip file",
        "a downloaded file is not the expected one",
        "Run it again; if it happens again, the package index or a proxy on the way changes files.",
    ),
    (
        NoNetwork,
        r"40[13] Client Error|401 Unauthorized|403 Forbidden",
        "the package index refused access",
        "Check the index address and the login in pip's configuration.",
    ),
    (
        NoNetwork,
        r"too many 50\d error responses|50\d Server Error",
        "the package index does not answer as it should",
        "Wait a while, then run the same command again: it continues where it stopped.",
    ),
    (
        NoNetwork,
        r"NewConnectionError|NameResolutionError|name resolution|getaddrinfo failed|Network is unreachable|"
        r"Connection refused|ConnectTimeout|Failed to establish|Max retries exceeded|ReadTimeout|Read timed out|"
        r"IncompleteRead|Connection broken|ConnectionResetError|RemoteDisconnected|Connection aborted",
        "the package index cannot be reached",
        "Check the network connection, then run the same command again: it continues where it stopped.",
    ),
    (
        PipMissing,
        r"No module named pip\b",
        "this Python has no pip",
        "Install pip for it, for example: python3 -m ensurepip",
    ),
    (
        UnsuitedPython,
        r"externally-managed-environment",
        "this Python belongs to the operating system, which does not let pip change it",
        "Start without --no-setup, or from a virtual environment.",
    ),
    (
        CompilationFailed,
        r"Failed building wheel|Failed to build|subprocess-exited-with-error",
        "a package could not be compiled",
        "The compiler's own lines are in the log.",
    ),
    (
        UnsuitedPython,
        r"requires? a different [Pp]ython",
        "the package is made for other versions of Python",
        "Use a released 64-bit Python of the versions that the log names.",
    ),
    (
        NoWheel,
        r"\(from versions: none\)",
        "the package index offers no version of it",
        "Check the network connection, pip's index settings, and that this is a released 64-bit Python.",
    ),
    (
        NoWheel,
        r"No matching distribution found",
        "the package index has no suitable version for this Python and system",
        "Use a released 64-bit Python, not the very newest, on Linux, macOS or Windows.",
    ),
    (
        PackageConflict,
        r"ResolutionImpossible|conflicting dependencies",
        "packages that are asked for exclude each other",
        "Repair the backend, or remove the .venv folder and start again.",
    ),
)
"""Class, pattern, cause, hint. The first that matches counts, so causes stand before their consequences."""


def explain(output: Iterable[str], status: int) -> SetupFailed:
    """The error for pip's `output` for a person. `status` is pip's exit status (negative: the signal that ended it)."""
    lines = list(output)
    text = "\n".join(lines)
    if status < 0:
        return SetupFailed(
            "The installation was ended from outside.",
            cause=f"signal {-status}",
            hint="If memory is short, close other programs; then run the same command again.",
            evidence=lines,
        )
    for kind, pattern, cause, hint in _CAUSES:
        if re.search(pattern, text):
            package = re.search(r"(?:No matching distribution found for|Failed building wheel for) (\S+)", text)
            about = f" {package[1]}" if package and ("compiled" in cause or "version" in cause) else ""
            return kind(f"Installing{about} failed: {cause}.", hint=hint, evidence=lines, exit_status=status)
    last = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "")
    return SetupFailed("Installing failed.", cause=last.strip(), evidence=lines, exit_status=status)
