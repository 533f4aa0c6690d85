"""Makes llama-cpp-python behave as on a CPU that its repacked weights crash: every worker with this on its path does.

The real library runs; only a decode with extra buffer types (weight repacking) ends in the SIGSEGV of such machines.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

NATIVE = "llama_cpp.llama_cpp"


class CrashingLoader(importlib.abc.Loader):
    def __init__(self, real: Any) -> None:
        self._real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._real.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        native: Any = module
        load, decode = native.llama_model_load_from_file, native.llama_decode
        repacked = {"in use": False}

        def load_model(path: bytes, parameters: Any) -> Any:
            repacked["in use"] = bool(parameters.use_extra_bufts) and not parameters.no_alloc
            return load(path, parameters)

        def crashing_decode(context: Any, batch: Any) -> Any:
            if repacked["in use"]:
                signal.raise_signal(signal.SIGSEGV)
            return decode(context, batch)

        native.llama_model_load_from_file, native.llama_decode = load_model, crashing_decode


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != NATIVE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None:
            spec.loader = CrashingLoader(spec.loader)
        return spec


sys.meta_path.insert(0, Finder())
