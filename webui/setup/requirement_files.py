"""Reads the requirement files, which hold nothing but pins, options and comments. Standard library only."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def pinned_packages(requirements: Path) -> list[str]:
    """The `name==version` lines of a requirements file that hold on this system; options and comments left out."""
    lines = (line.partition("#")[0].strip() for line in requirements.read_text("utf-8").splitlines())
    pairs = (line.partition(";") for line in lines if line and not line.startswith("-"))
    return [pin.strip() for pin, _, marker in pairs if _holds(marker.strip())]


def split_pin(pin: str) -> tuple[str, str]:
    """Name and version of `name[extra]==version --options`."""
    name, _, version = pin.partition("==")
    return re.sub(r"\[.*\]", "", name).strip(), version.split()[0]


def _holds(marker: str) -> bool:
    """The two kinds of environment markers that the requirement files use; anything else is taken to hold."""
    if match := re.fullmatch(r'sys_platform == "(\w+)"', marker):
        return sys.platform == match[1]
    if match := re.fullmatch(r'python_version >= "3\.(\d+)"', marker):
        return sys.version_info >= (3, int(match[1]))
    return True
