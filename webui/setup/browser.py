"""Finds a Chromium for the browser tests, or gets one. The app itself needs none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from webui.errors import SetupFailed
from webui.setup.pip_progress import ReportStep

VARIABLE = "GGUF_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_MACOS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
_WINDOWS = (
    r"Google\Chrome\Application\chrome.exe",
    r"Chromium\Application\chrome.exe",
    r"Microsoft\Edge\Application\msedge.exe",
)


def find_chromium() -> Path | None:
    """The Chromium named by `$GGUF_CHROMIUM`, else one that is installed, else Playwright's own."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    for name in _NAMES:
        if found := shutil.which(name):
            return Path(found)
    places: list[Path] = []
    if sys.platform == "darwin":
        places = [Path(place) for place in _MACOS]
    elif sys.platform == "win32":
        roots = [os.environ.get(name) for name in ("ProgramFiles", "ProgramFiles(x86)", "LOCALAPPDATA")]
        places = [Path(root) / place for root in roots if root for place in _WINDOWS]
    return next((place for place in places if place.exists()), None) or _playwrights_own()


def ensure_chromium(progress: ReportStep) -> Path:
    """Find a Chromium; where there is none, install one with the system's packages or with Playwright.

    Raises `SetupFailed` with what was tried.
    """
    if found := find_chromium():
        return found
    said: list[str] = []
    for command in _ways_to_get_one():
        progress(f"running {' '.join(command[:3])}", None)
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            check=False,
        )
        said += [f"$ {' '.join(command)}", *(done.stdout + done.stderr).splitlines()[-10:]]
        if found := find_chromium():
            return found
    raise SetupFailed(
        "No Chromium was found for the browser tests, and none could be installed.",
        hint=f"Install Chromium or Chrome, or set {VARIABLE} to its path, then run the tests again.",
        evidence=said,
    )


def _ways_to_get_one() -> list[list[str]]:
    ways = []
    if shutil.which("apt-get") and os.name == "posix" and os.geteuid() == 0:
        ways += [["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]]
    return [*ways, [sys.executable, "-m", "playwright", "install", "chromium"]]


def _playwrights_own() -> Path | None:
    """Where `playwright install chromium` would have put it. Asked in a child: its driver is a program of its own."""
    program = (
        "from playwright.sync_api import sync_playwright\n"
        "with sync_playwright() as playwright:\n    print(playwright.chromium.executable_path)"
    )
    asked = subprocess.run(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False
    )
    path = Path(asked.stdout.strip()) if asked.returncode == 0 and asked.stdout.strip() else None
    return path if path is not None and path.exists() else None
