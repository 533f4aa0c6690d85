"""Several programs that write the same home at once lose nothing; one that is killed leaves no half of a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.settings.test_settings_store import store_of
from webui.errors import Busy
from webui.files import locked
from webui.loaders import LOADERS
from webui.paths import PROJECT_ROOT, Paths
from webui.settings import ModelSettings
from webui.settings.declared import declare

KEYS = 15
LOADERS_WRITTEN = ("xllamacpp", "transformers")
WRITER = """
import sys
from pathlib import Path
from webui.loaders import LOADERS
from webui.paths import Paths
from webui.settings import ModelSettings, Settings, SettingsStore

home, *keys = sys.argv[1:]
paths = Paths(Path(home))
store = SettingsStore(paths, Settings.load(paths, environment={}, loaders=LOADERS))
print("ready", flush=True)
sys.stdin.readline()
for key in keys:
    # Each key is saved once, so one that is lost stays lost.
    store.save({key: store.load().value(key)})
    ModelSettings(paths).save(Path(f"/{key}.gguf"), "auto", {})
"""


def test_two_programs_that_change_different_keys_lose_nothing(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "home").ensure()
    keys = {name: [key for key in declare(LOADERS) if key.startswith(f"loaders.{name}.")] for name in LOADERS_WRITTEN}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(paths.home), *mine[:KEYS]],
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for mine in keys.values()
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    settings = store_of(paths, loaders=LOADERS).load()
    assert [key for mine in keys.values() for key in mine[:KEYS] if not settings.saved(key)] == []
    assert len(ModelSettings(paths).all()) == len(keys) * KEYS


def test_threads_of_one_program_lose_nothing_either(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "home").ensure()
    store = store_of(paths)
    keys = ["loaders.toy.context_size", "loaders.second-toy.context_size", "loaders.third.context_size"]
    threads = [threading.Thread(target=store.save, args=({key: 7},)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = json.loads(paths.backend_config.read_text())
    assert {name: entry["context_size"] for name, entry in data["backends"].items()} == {
        "toy": 7,
        "second-toy": 7,
        "third": 7,
    }


def test_a_lock_that_somebody_keeps_is_said_and_not_waited_for_without_end(tmp_path: Path) -> None:
    refused = pytest.raises(Busy, match="Another program")
    with locked(tmp_path / "lock"), refused, locked(tmp_path / "lock", seconds=0):
        pass
    with locked(tmp_path / "lock", seconds=0):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of itself")
def test_killed_while_writing_the_file_is_the_old_or_the_new_one() -> None:
    """The long form, 500 kills, is `python -m tests.benchmarks.config_kills`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.config_kills", "--kills", "6", "--lines", "6"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "read-only folder: old value kept" in done.stdout
