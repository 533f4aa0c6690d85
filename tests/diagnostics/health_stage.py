"""A machine in order, for planting one problem after the other: a home of its own, and hardware that suffices."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.builders.gguf import tiny_llama_bpe
from tests.builders.wheels import build_wheel
from tests.loaders import toy
from webui.chat.conversations import ConversationStore
from webui.diagnostics.health import Check, CheckState, Evidence, HealthFacts, gather, run_checks
from webui.diagnostics.health import packages as package_checks
from webui.diagnostics.health.actions import Surgery, mend
from webui.errors import AppError
from webui.hardware.facts import DiskFacts, GpuFacts, HardwareFacts, MemoryFacts, VulkanFacts
from webui.loaders.contract import LoaderSpec
from webui.paths import PROJECT_ROOT, Paths
from webui.pool.history import KEPT
from webui.pool.history_file import HistoryFile
from webui.settings import Settings, SettingsStore
from webui.setup import kept

GIB = 1 << 30
OLD = 2 * 3600.0
ENGINE = "tiny-engine"
"""The package of the stage's backend."""
HELPER = "stage-helper"
"""The one package that this stage's app is pinned to."""


def make_environment(root: Path) -> Path:
    """A virtual environment with two packages, and the wheels to mend it from; takes seconds, so it is copied."""
    wheels = root / "wheels"
    for name, version in ((ENGINE, "1.0"), (ENGINE, "0.9"), (HELPER, "1.0"), (HELPER, "2.0")):
        module = name.replace("-", "_")
        build_wheel(wheels, name, version, files={f"{module}/__init__.py": b"", f"{module}/core.so": b"12345678"})
    (root / "engine.txt").write_text(f"{ENGINE}==1.0\n")
    (root / "base.txt").write_text(f"{HELPER}==2.0\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "env")], check=True)
    (library_of(root) / "outer.pth").write_text(f"{sysconfig.get_path('purelib')}\n{PROJECT_ROOT}\n")
    words = [python_of(root), "-m", "pip", "install", "--no-deps", f"{ENGINE}==1.0", f"{HELPER}==2.0"]
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, **pip_variables(root)})
    return root


def python_of(root: Path) -> str:
    return str(root / "env" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))


def library_of(root: Path) -> Path:
    return next((root / "env").glob("[Ll]ib/**/site-packages"))


def pip_variables(root: Path) -> dict[str, str]:
    return {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(root / "wheels"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
    }


class Stage:
    """A home, a machine and a Python environment, all in order. Change what you like, then `look`."""

    def __init__(self, root: Path, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.environment, self.monkeypatch = root, environment, monkeypatch
        self.paths = Paths(root / "home").ensure()
        self.memory = MemoryFacts(16 * GIB, 8 * GIB)
        self.gpus: tuple[GpuFacts, ...] = ()
        self.vulkan: VulkanFacts | None = None
        self.disks: dict[str, DiskFacts] = {
            "models": DiskFacts(root, 1 << 40, 1 << 39),
            "temporary files": DiskFacts(root, 1 << 40, 1 << 39),
        }
        self.clock_ahead = 0.0
        self.evidence = Evidence(self.paths.cache / "health.json")
        self.system = root / "system"
        (self.system / "proc/sys/kernel/random").mkdir(parents=True)
        (self.system / "proc/sys/kernel/random/boot_id").write_text("first\n")
        (self.system / "proc/pressure").mkdir()
        tiny_llama_bpe(self.paths.models / "good.gguf")
        ConversationStore(self.paths.chats / "chats.sqlite3").close()
        history = HistoryFile(self.paths.history, KEPT)
        history.counts()
        history.close()
        monkeypatch.setattr("tempfile.tempdir", str(root / "temporary"))
        (root / "temporary").mkdir()
        self.settings: dict[str, Any] = {"server.port": free_port()}
        self._enter()

    def _enter(self) -> None:
        """Make `environment` the one whose packages are looked at and changed."""
        patch = self.monkeypatch
        for name, value in pip_variables(self.environment).items():
            patch.setenv(name, value)
        patch.setattr(package_checks, "BASE", self.environment / "base.txt")
        patch.setattr(package_checks, "_libraries", lambda: [self.library])
        patch.syspath_prepend(str(self.library))
        patch.setattr(sys, "executable", python_of(self.environment))
        patch.setattr(sys, "prefix", str(self.environment / "env"))
        patch.setattr(kept, "_library", lambda: self.library)
        engine = dataclasses.replace(
            toy.SPEC, distributions=(ENGINE,), requirements=str(self.environment / "engine.txt")
        )
        self.loaders: dict[str, LoaderSpec] = {"toy": engine}

    @property
    def library(self) -> Path:
        return library_of(self.environment)

    def own_environment(self) -> None:
        """From here on a copy, for what changes it."""
        shutil.copytree(self.environment, self.root / "python", symlinks=True)
        sys.path.remove(str(self.library))
        self.environment = self.root / "python"
        self._enter()

    def pip(self, *words: str) -> None:
        subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True)

    def facts(self) -> HealthFacts:
        settings: Settings | None = None
        with contextlib.suppress(AppError):  # `gather` reads them again, and keeps the error
            settings = Settings.load(self.paths, command_line=self.settings, loaders=self.loaders)
        found = gather(self.paths, self.loaders, settings=settings, evidence=self.evidence)
        hardware: HardwareFacts = dataclasses.replace(
            found.hardware, memory=self.memory, gpus=self.gpus, problems=(), vulkan=self.vulkan
        )
        return dataclasses.replace(
            found, hardware=hardware, disks=self.disks, root=self.system, now=time.time() + self.clock_ahead
        )

    def look(self) -> list[Check]:
        return run_checks(self.facts())

    def complaints(self) -> list[Check]:
        return [check for check in self.look() if check.state is not CheckState.OK]

    async def mend(self, check: Check) -> list[str]:
        """Do what the check proposes; returns what was said."""
        assert check.action, check
        surgery = Surgery(
            self.facts(),
            save=lambda changes: SettingsStore(self.paths).save(changes),
            take_out=lambda key, source: SettingsStore(self.paths).take_out(key, source),
        )
        return [line async for line in mend(check.action, surgery, [check])]

    def write_settings(self, text: str) -> None:
        self.paths.settings_file.write_text(text)


def make_old(path: Path, seconds: float = OLD) -> None:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def damage_database(file: Path) -> None:
    """Rows on several pages, and then garbage over the pages in the middle."""
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
        size = database.execute("PRAGMA page_size").fetchone()[0]
    with file.open("r+b") as opened:
        opened.seek(0, os.SEEK_END)
        end = opened.tell()
        opened.seek(max(size, (end // size // 2) * size))
        opened.write(os.urandom(size))


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
