"""Whether this machine can compile: needed only for engines that have no ready wheel."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

COMPILERS = {
    "CC": ("cc", "gcc", "clang", "cl"),
    "CXX": ("c++", "g++", "clang++", "cl"),
}
_WORDS = {"CC": "a C compiler", "CXX": "a C++ compiler"}


def missing_tools(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """What is missing for compiling, in words. cmake and ninja do not count: pip fetches them where they are absent."""
    return tuple(_WORDS[variable] for variable in COMPILERS if not _found(variable, environment))


def install_hint() -> str:
    """How to get a compiler on this system."""
    if sys.platform == "win32":
        return "Install the Visual Studio Build Tools with the workload 'Desktop development with C++', then try again."
    if sys.platform == "darwin":
        return "Run xcode-select --install, then try again."
    return (
        "On Debian and Ubuntu: sudo apt install build-essential; on Fedora: sudo dnf install gcc-c++. Then try again."
    )


def _found(variable: str, environment: Mapping[str, str]) -> bool:
    path = environment.get("PATH")
    chosen = environment.get(variable, "").split()
    if chosen:
        return shutil.which(chosen[0], path=path) is not None
    if any(shutil.which(name, path=path) for name in COMPILERS[variable]):
        return True
    return sys.platform == "win32" and _visual_studio_installed(environment)


def _visual_studio_installed(environment: Mapping[str, str]) -> bool:
    """Build Tools are not on the PATH; their installer leaves `vswhere.exe`, by which cmake finds them too."""
    programs = environment.get("ProgramFiles(x86)", "")
    return bool(programs) and (Path(programs) / "Microsoft Visual Studio" / "Installer" / "vswhere.exe").exists()
