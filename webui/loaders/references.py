"""Classes by name, for processes that are told which loader to run."""

from __future__ import annotations

import importlib
from typing import Any


def reference(cls: type) -> str:
    """`module:qualified.name`."""
    return f"{cls.__module__}:{cls.__qualname__}"


def resolve(name: str) -> Any:
    """The class that `reference` named."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found
