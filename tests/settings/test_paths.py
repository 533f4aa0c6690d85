"""Where things lie: one home, chosen by the environment."""

from __future__ import annotations

from pathlib import Path

from webui.paths import PROJECT_ROOT, Paths


def test_the_environment_chooses_the_home(tmp_path: Path) -> None:
    paths = Paths.from_environment({"GGUF_HOME": str(tmp_path / "here")})
    assert paths.home == tmp_path / "here"
    assert Paths.from_environment({}).home == Path.home() / ".gguf-loader"
    assert Paths.from_environment({"GGUF_HOME": "relative"}).home == Path.cwd() / "relative"
    assert Paths.from_environment({"GGUF_HOME": "~/x"}).home == Path.home() / "x"


def test_ensure_creates_every_folder_and_may_be_called_twice(tmp_path: Path) -> None:
    paths = Paths(home=tmp_path / "a" / "b").ensure().ensure()
    for folder in (paths.models, paths.chats, paths.logs, paths.runtime, paths.cache, paths.presets, paths.bin):
        assert folder.is_dir()
        assert folder.parent == paths.home
    assert list(paths.runtime.iterdir()) == []


def test_the_project_root_is_the_checkout() -> None:
    assert (PROJECT_ROOT / "webui" / "paths.py").is_file()
