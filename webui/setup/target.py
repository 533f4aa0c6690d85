"""The Python environment that packages are installed into: its platform and version, its disk, what could compile."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from webui.setup.toolchain import MISSING_WORDS, tools_here

SYSTEMS = {"linux": "linux", "win32": "windows", "darwin": "macos"}
MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "x64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Target:
    """`platform` is a system and a processor as in "linux-x86_64", "windows-x86_64" or "macos-arm64".

    `free_bytes` is `None` where it could not be asked. `tools` are those found of `webui.setup.toolchain`.
    """

    platform: str
    python: tuple[int, int]
    folder: Path
    free_bytes: int | None = None
    writable: bool = True
    has_pip: bool = True
    tools: frozenset[str] = frozenset()

    @property
    def python_words(self) -> str:
        return f"Python {self.python[0]}.{self.python[1]}"

    def missing(self, needed: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the `needed` tools that are not here, in words."""
        return tuple(MISSING_WORDS[name] for name in needed if name not in self.tools)


def this_target() -> Target:
    """The environment this process runs in; a few file accesses."""
    library = Path(sysconfig.get_path("purelib"))
    return Target(
        platform=platform_name(),
        python=sys.version_info[:2],
        folder=library,
        free_bytes=_free(library),
        writable=os.access(library, os.W_OK),
        has_pip=importlib.util.find_spec("pip") is not None,
        tools=frozenset(tools_here()),
    )


def platform_name(system: str = sys.platform, machine: str = "") -> str:
    processor = (machine or platform.machine()).lower()
    return f"{SYSTEMS.get(system, system)}-{MACHINES.get(processor, processor)}"


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
