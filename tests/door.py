"""A small copy of the app's door: the real `app.py` and set-up, tiny packages, a command that says where it runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
COMMANDS = """\
import json, sys
from importlib import metadata


def main():
    import tiny_page, tiny_engine
    versions = {name: metadata.version(name) for name in ("tiny-page", "tiny-engine")}
    print(json.dumps({"prefix": sys.prefix, "arguments": sys.argv[1:], "versions": versions}))
    return 7 if "--fail" in sys.argv else 0
"""


@dataclass(frozen=True)
class Door:
    """A checkout in `root`. `environment` is what its processes see: no pip configuration but the test's own."""

    root: Path
    environment: dict[str, str]

    @property
    def requirements(self) -> Path:
        return self.root / "requirements" / "base.txt"

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Begin `python app.py …` in a process of its own."""
        return subprocess.Popen(
            [sys.executable, str(self.root / "app.py"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.environment, **variables},
        )

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """`python app.py …` to its end."""
        process = self.start(*arguments, **variables)
        output, errors = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the command printed; fails with the process's own words where it did not get that far."""
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def make_door(root: Path, index_url: str) -> Door:
    """Copy the door to `root`; its pip fetches from `index_url` and nowhere else."""
    (root / "webui").mkdir(parents=True)
    shutil.copy(ROOT / "app.py", root)
    for name in ("__init__.py", "errors.py", "paths.py"):
        shutil.copy(ROOT / "webui" / name, root / "webui")
    for name in ("setup", "remedies"):
        shutil.copytree(ROOT / "webui" / name, root / "webui" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "webui" / "cli.py").write_text(COMMANDS)
    (root / "requirements").mkdir()
    (root / "requirements" / "base.txt").write_text("# tiny\ntiny-page==1.0\ntiny-engine==1.0\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    environment |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": index_url,
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "1",
    }
    return Door(root, environment)
