"""Benchmarks that are kept: one JSON file for each run, and baselines, which are runs under a name of one's own.

The newest runs are kept, baselines until they are deleted. A disk that is full or read-only costs the copy alone: what
could not be written is remembered as long as the app runs. A damaged file is left aside. Methods read and write files:
call them in a thread.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from webui.diagnostics.benchmark_results import BenchmarkRun, run_from_json, run_to_json
from webui.errors import InvalidRequest, NotFound, StorageFailed
from webui.files import write_atomically

log = logging.getLogger(__name__)

MOST_RUNS = 100
MOST_BASELINES = 50
LARGEST_FILE = 4 * 1024 * 1024
LAST = "last"
_RUN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}")


def new_id(at: float) -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(at))}-{secrets.token_hex(2)}"


@dataclass(frozen=True, slots=True)
class Saved:
    """One kept benchmark. `baseline` is its name where it is one, else empty."""

    run: BenchmarkRun
    baseline: str = ""

    @property
    def key(self) -> str:
        """What `find` takes, and what tells it from a run of the same id."""
        return self.baseline or self.run.id


class BenchmarkStore:
    """See the module. `changes` counts what was saved and deleted by this app, for those who show the list."""

    def __init__(self, folder: Path, *, most_runs: int = MOST_RUNS) -> None:
        self._folder = folder
        self._baselines = folder / "baselines"
        self._most_runs = most_runs
        self._lock = threading.Lock()
        self._unwritten: dict[str, BenchmarkRun] = {}
        self._known: dict[Path, tuple[tuple[int, int], BenchmarkRun | None]] = {}
        self.changes = 0

    def save(self, run: BenchmarkRun) -> str:
        """Keep `run`; the oldest beyond the bound go. Returns why it is not on the disk, empty where it is."""
        with self._lock:
            self.changes += 1
            try:
                write_atomically(self._folder / f"{run.id}.json", run_to_json(run))
            except OSError as error:
                self._unwritten[run.id] = run
                for old in list(self._unwritten)[: -self._most_runs]:
                    del self._unwritten[old]
                log.warning("The benchmark is not kept on disk: %s", error)
                return f"The benchmark is remembered only until the app ends: {error.strerror or error}."
            for old_file in self._files(self._folder)[self._most_runs :]:
                self._remove(old_file)
            return ""

    def runs(self) -> list[BenchmarkRun]:
        """Newest first."""
        with self._lock:
            found = {run.id: run for run in map(self._read, self._files(self._folder)) if run is not None}
            return [run for _, run in sorted({**self._unwritten, **found}.items(), reverse=True)][: self._most_runs]

    def baselines(self) -> list[Saved]:
        """By name."""
        with self._lock:
            found = [(file.stem, self._read(file)) for file in sorted(self._files(self._baselines))]
            return [Saved(run, name) for name, run in found if run is not None]

    def all(self) -> list[Saved]:
        """Baselines first, then the runs, newest first."""
        return [*self.baselines(), *(Saved(run) for run in self.runs())]

    def find(self, key: str, model: str = "") -> Saved:
        """A baseline by its name, a run by its id or the beginning of it, or the `last` one (of `model`, where there
        is one of it). Raises `NotFound`.
        """
        runs = self.runs()
        wanted = key.strip()
        named = [one for one in self.baselines() if one.baseline == wanted]
        if named:
            return named[0]
        if wanted == LAST and runs:
            return Saved(next((run for run in runs if run.model == model), runs[0]))
        alike = [run for run in runs if wanted and run.id.startswith(wanted)]
        if len(alike) == 1:
            return Saved(alike[0])
        if alike:
            raise NotFound(f"{len(alike)} benchmarks begin with {wanted!r}.", hint="Give more of the date and time.")
        raise NotFound(f"There is no benchmark called {wanted!r}.", hint="bench --list shows those that are kept.")

    def earlier(self, run: BenchmarkRun) -> Saved | None:
        """The latest run before `run` of the same model, else of any."""
        before = [one for one in self.runs() if one.id < run.id]
        found = next(iter([*(one for one in before if one.model == run.model), *before]), None)
        return Saved(found) if found is not None else None

    def beside(self, before: Saved | None) -> BenchmarkRun | None:
        """The latest run that is not `before`: of the same model, if there is one, else of any."""
        others = [run for run in self.runs() if before is None or run.id != before.run.id]
        alike = [run for run in others if before is None or run.model == before.run.model]
        return next(iter([*alike, *others]), None)

    def check_name(self, name: str) -> None:
        """Raise `InvalidRequest` for what cannot be the name of a baseline."""
        if not _NAME.fullmatch(name) or name == LAST or _RUN.fullmatch(name):
            raise InvalidRequest(
                f"{name!r} cannot be the name of a baseline.",
                hint="Take up to 40 letters, digits, spaces, dots, dashes and underscores, beginning with one of the "
                "first two.",
            )

    def save_baseline(self, name: str, run: BenchmarkRun) -> None:
        """Keep `run` under `name`, in the place of one of that name. Raises `InvalidRequest` and `StorageFailed`."""
        self.check_name(name)
        with self._lock:
            file = self._baselines / f"{name}.json"
            if len(self._files(self._baselines)) >= MOST_BASELINES and not file.exists():
                raise InvalidRequest(f"There are {MOST_BASELINES} baselines already.", hint="Delete one first.")
            try:
                write_atomically(file, run_to_json(run))
            except OSError as error:
                raise StorageFailed("The baseline was not saved.", cause=error.strerror or str(error)) from error
            self.changes += 1

    def delete(self, key: str) -> None:
        """Forget a run (by its full id) or a baseline (by its name). Raises `NotFound` and `StorageFailed`."""
        with self._lock:
            if key in self._unwritten:
                del self._unwritten[key]
                self.changes += 1
                return
            folder = self._folder if _RUN.fullmatch(key) else self._baselines
            file = folder / f"{key}.json"
            if file not in self._files(folder):
                raise NotFound("This benchmark is no longer there.", hint="It was deleted already.")
            try:
                file.unlink()
            except OSError as error:
                raise StorageFailed("The benchmark was not deleted.", cause=error.strerror or str(error)) from error
            self.changes += 1

    def _files(self, folder: Path) -> list[Path]:
        """The files of `folder` that bear a name of ours, newest first (by their names)."""
        pattern = _RUN if folder == self._folder else _NAME
        try:
            names = [file for file in folder.iterdir() if file.suffix == ".json" and pattern.fullmatch(file.stem)]
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("Earlier benchmarks cannot be listed: %s", error)
            return []
        return sorted(names, reverse=True)

    def _read(self, file: Path) -> BenchmarkRun | None:
        """The run in `file`, `None` where it is damaged; read again only when the file has changed."""
        try:
            status = file.stat()
            mark = (status.st_mtime_ns, status.st_size)
            if file in self._known and self._known[file][0] == mark:
                return self._known[file][1]
            if status.st_size > LARGEST_FILE:
                raise ValueError(f"{status.st_size} bytes is too large")
            run = run_from_json(file.read_bytes())
            if file.parent == self._folder and run.id != file.stem:
                raise ValueError("it holds another run than its name says")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("A benchmark cannot be read and is left aside: %s: %s", file, str(error).splitlines()[0])
            if isinstance(error, OSError):
                return None
            run = None
        self._known[file] = (mark, run)
        return run

    def _remove(self, file: Path) -> None:
        self._known.pop(file, None)
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("An old benchmark cannot be deleted: %s: %s", file, error)
