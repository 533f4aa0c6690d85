"""Where the app keeps things: the user's folder, and the checkout it was started from.

Everything a user makes or downloads lies under one home, `$GGUF_HOME` or `~/.gguf-loader`; the checkout is only read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent
"""The checkout: holds settings.yaml, presets/, extensions/, requirements/ and docs/."""

HOME_VARIABLE = "GGUF_HOME"
HOME_FOLDER = ".gguf-loader"


@dataclass(frozen=True, slots=True)
class Paths:
    """All folders and files of one installation. `ensure` creates the folders; nothing else does so behind one's back.

    `runtime` is an empty folder the server runs in, because Gradio serves files that lie under the working directory.
    `chats` holds the conversation database, `bin` executables such as llamafile.
    """

    home: Path
    project_root: Path = PROJECT_ROOT

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Paths:
        """The home named by `$GGUF_HOME`, else `~/.gguf-loader`. Made absolute, since the server changes folder."""
        named = (os.environ if environment is None else environment).get(HOME_VARIABLE, "").strip()
        home = Path(named).expanduser() if named else Path.home() / HOME_FOLDER
        return cls(home=Path(os.path.abspath(home)))  # noqa: PTH100 (resolve() would follow a link the user made)

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def chats(self) -> Path:
        return self.home / "chats"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def runtime(self) -> Path:
        return self.home / "runtime"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    @property
    def abilities(self) -> Path:
        """What the engines said they can compute on."""
        return self.cache / "abilities.json"

    @property
    def presets(self) -> Path:
        return self.home / "presets"

    @property
    def extensions(self) -> Path:
        return self.home / "extensions"

    @property
    def bin(self) -> Path:
        return self.home / "bin"

    @property
    def settings_file(self) -> Path:
        """The user's own settings; what the page saves goes here and never into the checkout."""
        return self.home / "settings.yaml"

    @property
    def backend_config(self) -> Path:
        """Backend choice, order and parameters, in the form the desktop app's successors share."""
        return self.home / "backend_config.json"

    @property
    def settings_lock(self) -> Path:
        """Held by whoever writes settings, so that two programs at once lose nothing of each other's."""
        return self.home / "settings.lock"

    @property
    def backups(self) -> Path:
        """What there was before an import or a reset of everything."""
        return self.home / "backups"

    @property
    def model_settings(self) -> Path:
        """Loader and parameters saved per model file."""
        return self.home / "model_settings.json"

    @property
    def history(self) -> Path:
        """Loads and failures of the last weeks."""
        return self.home / "history.sqlite3"

    @property
    def metrics(self) -> Path:
        """What loads took and how fast replies were, some weeks back, and sums by the day for a year."""
        return self.home / "metrics.sqlite3"

    @property
    def experience(self) -> Path:
        """What was learnt about loading each file on this machine."""
        return self.home / "experience.json"

    @property
    def decisions(self) -> Path:
        """What the last loads were decided from."""
        return self.home / "decisions.json"

    @property
    def plan_records(self) -> Path:
        """What loads took, beside what was planned for them."""
        return self.home / "plans.json"

    @property
    def measurements(self) -> Path:
        """How fast each model ran on this machine."""
        return self.home / "measurements.json"

    @property
    def benchmarks(self) -> Path:
        """Earlier benchmarks and baselines."""
        return self.home / "benchmarks"

    @property
    def tuned(self) -> Path:
        """The settings found to be the fastest of each model on this machine."""
        return self.home / "tuned.json"

    @property
    def conversations(self) -> Path:
        """The file of all conversations."""
        return self.chats / "chats.sqlite3"

    @property
    def migration_log(self) -> Path:
        """What became of every older value."""
        return self.logs / "migration.log"

    @property
    def migration_choice(self) -> Path:
        """Whether the page may ask about older settings."""
        return self.home / "migration.json"

    @property
    def older_speeds(self) -> Path:
        """Speeds that the older app measured."""
        return self.home / "older_speeds.json"

    @property
    def project_settings(self) -> Path:
        return self.project_root / "settings.yaml"

    @property
    def project_presets(self) -> Path:
        return self.project_root / "presets"

    @property
    def project_extensions(self) -> Path:
        return self.project_root / "extensions"

    def ensure(self) -> Paths:
        """Create the folders; raises `OSError` where the home cannot be written. The home is its owner's alone."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (
            self.models,
            self.chats,
            self.logs,
            self.runtime,
            self.cache,
            self.presets,
            self.extensions,
            self.bin,
        ):
            folder.mkdir(exist_ok=True)
        return self
