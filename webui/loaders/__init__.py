"""The ordered map of backends. Adding one is one file here and one line below.

The order is the default priority of automatic selection (`webui.planning.selection`).
"""

from __future__ import annotations

from webui.loaders import ctransformers, llama_cpp_python, llamafile, transformers, xllamacpp
from webui.loaders.contract import LoaderSpec

LOADERS: dict[str, LoaderSpec] = {
    spec.name: spec
    for spec in (
        ctransformers.SPEC,
        transformers.SPEC,
        llamafile.SPEC,
        xllamacpp.SPEC,
        llama_cpp_python.SPEC,
    )
}
