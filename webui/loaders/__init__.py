"""The ordered map of backends. Adding one is one file here and one line below.

The order is the default priority of automatic selection (`webui.planning.selection`).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from webui.loaders.contract import LoaderSpec

if TYPE_CHECKING:
    LOADERS: dict[str, LoaderSpec]


@cache
def _loaders() -> dict[str, LoaderSpec]:
    from webui.loaders import ctransformers, llama_cpp_python, llamafile, transformers, xllamacpp

    return {
        spec.name: spec
        for spec in (
            ctransformers.SPEC,
            transformers.SPEC,
            llamafile.SPEC,
            xllamacpp.SPEC,
            llama_cpp_python.SPEC,
        )
    }


def __getattr__(name: str) -> dict[str, LoaderSpec]:
    """`LOADERS`, made when it is first asked for: a worker needs one loader, and starts sooner without the others."""
    if name == "LOADERS":
        return _loaders()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
