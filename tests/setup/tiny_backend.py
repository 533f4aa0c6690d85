"""A backend whose engine is a tiny wheel of the tests' own: it loads what the toy loads, if its package lets it."""

from __future__ import annotations

import importlib
from dataclasses import replace

from tests.loaders import toy
from webui.loaders.contract import LoadedModel, ReportProgress

WORKS = b"def start():\n    return 'cpu'\n"
REFUSES = b"def start():\n    raise OSError('libcudart.so.12: cannot open shared object file')\n"
CRASHES = b"import os\ndef start():\n    os.abort()\n"
CRASHES_AT_ONCE = b"import os\nos.abort()\n"
BREAKS_AT_ONCE = b"raise ImportError('libmissing.so.1: cannot open shared object file')\n"


class Refusing(toy.ToyParameters):
    """Of a toy that refuses every model."""

    fault: str = "refuse"


class TinyLoader(toy.ToyLoader):
    def load(self, progress: ReportProgress) -> LoadedModel:
        kind = importlib.import_module("tiny_engine").start()
        return replace(super().load(progress), device_kind=kind)


SPEC = replace(
    toy.SPEC,
    name="tiny",
    title="Tiny",
    loader=TinyLoader,
    distributions=("tiny-engine",),
    requirements="tiny.txt",
)


def engine(source: bytes = WORKS, **more: bytes) -> dict[str, bytes]:
    """The contents of a wheel of the engine."""
    return {"tiny_engine/__init__.py": source, **{f"tiny_engine/{name}.py": data for name, data in more.items()}}
