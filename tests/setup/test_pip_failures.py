"""pip's ways to fail, each with the sentence a person gets."""

from __future__ import annotations

import pytest

from webui.setup.pip_failures import explain

CASES = [
    (["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"], "disk is full"),
    (["ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/x'"], "not be written"),
    (["ERROR: Could not install packages due to an OSError: [WinError 5] Access is denied"], "not be written"),
    (
        [
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)'",
            "ERROR: Could not find a version that satisfies the requirement gradio==6.31.0 (from versions: none)",
            "ERROR: No matching distribution found for gradio==6.31.0",
        ],
        "cannot be reached",
    ),
    (
        ["Could not fetch URL https://x/: There was a problem: SSLError(SSLCertVerificationError('x'))"],
        "certificate is not trusted",
    ),
    (["WARNING: Retrying after connection broken by 'ProxyError('Cannot connect to proxy.')'"], "proxy refused"),
    (["ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."], "not the expected one"),
    (["ERROR: HTTP error 403 while getting x", "ERROR: 403 Client Error: Forbidden for url: x"], "refused access"),
    (["/usr/bin/python3: No module named pip"], "has no pip"),
    (["error: externally-managed-environment"], "belongs to the operating system"),
    (["ERROR: Failed building wheel for llama-cpp-python"], "Installing llama-cpp-python failed: a package could not"),
    (["ERROR: ResolutionImpossible: for help visit x"], "exclude each other"),
]


@pytest.mark.parametrize(("lines", "expected"), CASES)
def test_each_failure_has_its_sentence(lines: list[str], expected: str) -> None:
    error = explain(lines, 1)
    assert expected in error.message
    assert error.hint
    assert error.evidence == tuple(lines)


def test_an_unknown_failure_quotes_pip() -> None:
    error = explain(["Collecting x", "ERROR: something new", "more"], 2)
    assert error.message == "Installing failed."
    assert error.cause == "ERROR: something new"


def test_a_signal_is_told_from_a_failure() -> None:
    assert explain([], -9).cause == "signal 9"
