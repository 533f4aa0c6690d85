"""A throw-away Python environment with an index of its own, and things done to the tiny backend in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from tests.builders.package_index import PackageIndex
from webui.paths import PROJECT_ROOT


class Place:
    """A Python environment that sees this one's packages and installs into itself."""

    def __init__(self, root: Path, index: PackageIndex, like: Place | None = None) -> None:
        """A fresh one under `root`, or a copy of another with what is installed there."""
        self.root, self.index = root, index
        self.wheels = index.folder
        self.environment, self.requirements = root / "env", root / "requirements"
        if like is not None:
            shutil.copytree(like.environment, self.environment, symlinks=True)
            shutil.copytree(like.requirements, self.requirements)
        else:
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self.environment)], check=True)
            self.requirements.mkdir()
            self.ask_for("tiny-engine==1.0")
        self.python = self.environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        self.library = next(self.environment.glob("[Ll]ib/**/site-packages"))
        (self.library / "outer.pth").write_text(f"{sysconfig.get_path('purelib')}\n{PROJECT_ROOT}\n")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        self.variables = {
            **kept,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "0",
            "PIP_INDEX_URL": index.url,
            "GGUF_HOME": str(root / "home"),
        }

    def ask_for(self, *lines: str) -> None:
        """What the backend's requirements file says from now on."""
        (self.requirements / "tiny.txt").write_text("\n".join(lines) + "\n")

    def do(self, *asked: dict[str, Any]) -> list[dict[str, Any]]:
        """One thing after the other, in one process; see `tests.setup.driver`."""
        command = [str(self.python), "-m", "tests.setup.driver", str(self.requirements), json.dumps(asked)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.variables, cwd=self.root, check=False)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout.splitlines()[-1]))

    def install(self, **options: Any) -> dict[str, Any]:
        return self.do({"do": "install", **options})[0]

    def files(self) -> dict[str, bytes]:
        """What is there of the engine, without what Python compiles."""
        found = [path for path in self.library.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        mine = [path for path in found if path.relative_to(self.library).parts[0].startswith(("tiny_", "~"))]
        return {path.relative_to(self.library).as_posix(): path.read_bytes() for path in mine}
