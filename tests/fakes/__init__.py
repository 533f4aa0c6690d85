"""Programs that stand in for executables nobody can download during a test. They are started as real executables."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent


def executable(folder: Path, name: str, program: str, *arguments: str, ape: bool = False) -> Path:
    """An executable file `name` in `folder` that runs `tests/fakes/<program>.py` with `arguments` before its own.

    With `ape` it is what the kernel refuses and a Unix shell can run, like an actually portable executable.
    """
    words = [sys.executable, str(FOLDER / f"{program}.py"), *arguments]
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        path = folder / f"{name}.cmd"
        path.write_text(f'@"{words[0]}" "{words[1]}" {" ".join(arguments)} %*\n')
        return path
    path = folder / name
    head = "MZqFpD='\n'\n" if ape else "#!/bin/sh\n"
    path.write_text(f'{head}exec {shlex.join(words)} "$@"\n')
    path.chmod(0o755)
    return path
