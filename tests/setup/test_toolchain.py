"""What is needed for compiling, and how its absence is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from webui.setup.toolchain import install_hint, missing_tools


def test_an_empty_path_lacks_both_compilers(tmp_path: Path) -> None:
    assert missing_tools({"PATH": str(tmp_path)}) == ("a C compiler", "a C++ compiler")


@pytest.mark.skipif(sys.platform == "win32", reason="executables are marked by their name there")
def test_a_compiler_on_the_path_or_named_by_the_user_counts(tmp_path: Path) -> None:
    for name in ("gcc", "my-cxx"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    assert missing_tools({"PATH": str(tmp_path)}) == ("a C++ compiler",)
    assert missing_tools({"PATH": str(tmp_path), "CXX": "my-cxx -O2"}) == ()
    assert missing_tools({"PATH": str(tmp_path), "CXX": "my-cxx", "CC": "gone"}) == ("a C compiler",)


def test_the_hint_names_a_command() -> None:
    assert "try again" in install_hint()
