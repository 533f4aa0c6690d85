"""A reader's desk: a home of one's own with the starter model, a shell in a checkout, and a server to ask.

`python3` and `.venv/bin/python` are this suite's Python. What `python3 app.py` does before its first command, making
the environment, has tests of its own in `tests/test_door.py`; here it is started with `--no-setup`.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.docs.samples import Sample, commands_of
from tests.docs.substitutes import as_run
from webui.paths import HOME_FOLDER, HOME_VARIABLE, PROJECT_ROOT

SECONDS = 180
SHOWN_ADDRESS = "127.0.0.1:7860"
PYTHON = f"""\
#!/bin/sh
if [ "$1" = app.py ]; then shift; set -- {shlex.quote(str(PROJECT_ROOT / "app.py"))} --no-setup "$@"; fi
exec {shlex.quote(sys.executable)} "$@"
"""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the samples of one page are tried, one after the other."""

    folder: Path

    @property
    def person(self) -> Path:
        """The reader's own folder."""
        return self.folder / "person"

    @property
    def home(self) -> Path:
        """The app's home, at its usual place."""
        return self.person / HOME_FOLDER

    @property
    def checkout(self) -> Path:
        """The working folder: looks like a checkout and is none, so that nothing there is changed."""
        return self.folder / "checkout"

    def prepare(self, model: Path, cache: Path | None) -> None:
        """Lay out the folders. `cache` is that of another desk: what the engines said need not be asked again."""
        models = self.home / "models"
        models.mkdir(parents=True)
        (models / model.name).symlink_to(model)
        if cache is not None and cache.is_dir():
            shutil.copytree(cache, self.home / "cache")
        for place in (self.folder / "bin" / "python3", self.checkout / ".venv" / "bin" / "python"):
            place.parent.mkdir(parents=True)
            place.write_text(PYTHON)
            place.chmod(0o755)
        for name in ("app.py", "requirements"):
            (self.checkout / name).symlink_to(PROJECT_ROOT / name)

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name != HOME_VARIABLE}
        person = str(self.person)
        path = os.pathsep.join((str(self.folder / "bin"), inherited.get("PATH", os.defpath)))
        modules = os.pathsep.join(filter(None, (str(PROJECT_ROOT), inherited.get("PYTHONPATH"))))
        return {**inherited, "HOME": person, "USERPROFILE": person, "PATH": path, "PYTHONPATH": modules}

    def run_commands(self, sample: Sample, address: str) -> str:
        """Run a console block in one shell that ends with the first command that fails; returns what it printed."""
        lines = ["set -eu -o pipefail"]
        for command in commands_of(sample.text):
            lines += [f"printf '%s\\n' {shlex.quote('$ ' + command)} >&2", as_run(command)]
        script = "\n".join(lines).replace(SHOWN_ADDRESS, address)
        return self._run(["bash", "-c", script], sample.place, given="")

    def run_cells(self, cells: Iterable[Sample], address: str) -> str:
        """Run Python samples of one page one after the other in one interpreter; returns what they printed."""
        listed = [
            {"file": cell.page, "line": cell.line, "text": cell.text.replace(SHOWN_ADDRESS, address)} for cell in cells
        ]
        return self._run([sys.executable, "-m", "tests.docs.notebook"], listed[0]["file"], given=json.dumps(listed))

    def _run(self, command: list[str], place: object, given: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.checkout,
            env=self.environment(),
            input=given,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        printed = f"{done.stdout[-4000:]}\n{done.stderr[-6000:]}"
        assert done.returncode == 0, f"{place} ended with {done.returncode}:\n{printed}"
        assert "Traceback (most recent call last)" not in done.stderr, f"{place}:\n{printed}"
        return done.stdout
