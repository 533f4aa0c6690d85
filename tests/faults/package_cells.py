"""The cells in which an engine's package is missing, vanishes between the choice and the load, or is broken."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import metadata
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

from tests.faults.cells import Cell, Phase
from tests.faults.engine_cells import load_failed
from tests.faults.stage import Stage
from webui.errors import AppError
from webui.loaders import LOADERS
from webui.models.inspect import inspect_model

MODULES = {"llama-cpp-python": "llama_cpp", "transformers": "torch"}
"""The module that a loader imports first, where it is not called as the loader."""
VANISHED = 'raise ModuleNotFoundError("No module named {module!r}", name={module!r})\n'
BROKEN = 'raise ImportError("libengine.so.1: undefined symbol: engine_begin", name={module!r})\n'


async def play(stage: Stage, cell: Cell) -> None:
    """The cell from its first step to the next message."""
    stage.configure()
    facts = inspect_model(stage.copy_model(cell.loader))
    parameters = stage.parameters(cell.loader)
    if cell.phase is Phase.SWAP:
        await stage.load_one_before()
    if cell.loader == "llamafile":
        parameters |= _spoil_executable(stage, cell)
    else:
        _spoil_package(stage, cell)
    if cell.phase is Phase.SWAP:
        stage.prober.asking.set()
    try:
        await stage.load(cell.loader, facts, parameters)
    except AppError as error:
        stage.prober.asking.clear()
        await load_failed(stage, cell, error)
        return
    finally:
        stage.prober.asking.clear()
    stage.problems.append("the load worked")


def _spoil_package(stage: Stage, cell: Cell) -> None:
    """Changes that end with the cell: it restores how modules are found."""
    module = MODULES.get(cell.loader, cell.loader)
    if cell.fault.name == "missing":
        sys.meta_path.insert(0, Hidden(LOADERS[cell.loader].distributions[0]))
        return
    package = stage.folder / "shims" / module
    package.mkdir(parents=True)
    text = VANISHED if cell.fault.name == "vanished" else BROKEN
    (package / "__init__.py").write_text(text.format(module=module))
    sys.path.insert(0, str(package.parent))


class Hidden(MetaPathFinder):
    """Makes a distribution one that is not installed."""

    def __init__(self, distribution: str) -> None:
        self._distribution = distribution

    def find_spec(self, *_: Any) -> None:
        return None

    def find_distributions(self, context: metadata.DistributionFinder.Context) -> Iterable[metadata.Distribution]:
        if context.name == self._distribution:
            raise metadata.PackageNotFoundError(context.name)
        return ()


def _spoil_executable(stage: Stage, cell: Cell) -> dict[str, str]:
    path = stage.folder / "spoilt-server"
    if cell.fault.name == "broken":
        path.write_bytes(b"\x7fELF" + bytes(200))
        path.chmod(0o755)
    elif cell.fault.name == "vanished":
        path.write_text("#!/nonexistent/interpreter\n")
        path.chmod(0o755)
    return {"executable": str(Path(path))}
