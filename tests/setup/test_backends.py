"""Installing, repairing and proving backends, in environments of the tests' own, from an index on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.builders.package_index import PackageIndex
from tests.builders.wheels import build_wheel
from webui.errors import BrokenPackage, NotFound, SetupFailed
from webui.hardware.facts import CpuFacts, DiskFacts, GpuFacts, HardwareFacts, MemoryFacts, SystemFacts
from webui.loaders import LOADERS
from webui.paths import PROJECT_ROOT
from webui.setup import backends
from webui.setup.builds import usable_devices

INSTALL = """
import asyncio, dataclasses, json, sys
from pathlib import Path
from webui.errors import AppError
from webui.loaders import LOADERS
from webui.setup import backends

backends.REQUIREMENTS = Path(sys.argv[1])
spec = dataclasses.replace(LOADERS["xllamacpp"], name="tiny", title="Tiny", distributions=("tiny-engine",))
spec = dataclasses.replace(spec, requirements="tiny.txt", find=None)
loaders = {"tiny": spec}

async def main():
    lines = [line async for line in backends.install("tiny", loaders)]
    return {"steps": [line.text for line in lines if line.step], "share": lines[-1].share}

try:
    said = asyncio.run(main())
except AppError as error:
    said = {"error": error.to_dict()}
said["installed"] = backends.check("tiny", loaders).installed
print(json.dumps(said))
"""
CRASH = b"import os\nos.abort()\n"
RAISE = b"raise ImportError('libmissing.so.1: cannot open shared object file')\n"


class Place:
    """A Python environment that sees this one's packages and installs into itself."""

    def __init__(self, root: Path, index: PackageIndex) -> None:
        self.root = root
        self.wheels = index.folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "env")], check=True)
        (root / "requirements").mkdir()
        (root / "requirements" / "tiny.txt").write_text("tiny-engine==1.0\n")
        environment = self.root / "env"
        self.python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        library = next(environment.glob("[Ll]ib/**/site-packages"))
        (library / "outer.pth").write_text(f"{sysconfig.get_path('purelib')}\n{PROJECT_ROOT}\n")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        self.variables = {
            **kept,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "1",
            "PIP_INDEX_URL": index.url,
        }

    def install(self) -> dict[str, Any]:
        """`backends.install` of the tiny engine, in this environment."""
        done = subprocess.run(
            [str(self.python), "-c", INSTALL, str(self.root / "requirements")],
            capture_output=True,
            text=True,
            env=self.variables,
            cwd=self.root,
        )
        assert done.stdout, done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def place(tmp_path: Path) -> Any:
    (tmp_path / "wheels").mkdir()
    with PackageIndex(tmp_path / "wheels") as index:
        yield Place(tmp_path, index)


def test_a_backend_is_installed_and_proved(place: Place) -> None:
    build_wheel(place.wheels, "tiny-engine")
    said = place.install()
    assert said["installed"]
    assert said["share"] == 1.0
    assert said["steps"][-1].startswith("Tiny 1.0 starts here. Devices: CPU.")
    again = place.install()
    assert again["steps"] == ["Tiny is installed; trying it", "Tiny 1.0 starts here. Devices: CPU."]


def test_a_broken_one_is_repaired(place: Place) -> None:
    build_wheel(place.wheels, "tiny-engine")
    place.install()
    module = next(place.root.glob("env/**/tiny_engine/__init__.py"))
    module.write_bytes(RAISE)
    said = place.install()
    assert "libmissing.so.1: cannot open shared object file; installing it again" in said["steps"][1]
    assert said["steps"][-1].startswith("Tiny 1.0 starts here")


@pytest.mark.parametrize(("source", "cause"), [(CRASH, "its process ended with status"), (RAISE, "libmissing.so.1")])
def test_an_engine_that_does_not_start_is_not_called_installed(place: Place, source: bytes, cause: str) -> None:
    build_wheel(place.wheels, "tiny-engine", files={"tiny_engine/__init__.py": source})
    error = place.install()["error"]
    assert error["code"] == BrokenPackage.code
    assert error["message"] == "Tiny is installed and does not start."
    assert cause in error["cause"]


def test_a_package_the_index_lacks(place: Place) -> None:
    said = place.install()
    assert said["error"]["code"] == SetupFailed.code
    assert "tiny-engine==1.0" in said["error"]["message"]
    assert not said["installed"]


async def test_closing_the_log_stops_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the environment of the tests itself: nothing is changed, because the wheel never arrives whole."""
    build_wheel(tmp_path / "wheels", "tiny-engine")
    (tmp_path / "tiny.txt").write_text("tiny-engine==1.0\n")
    with PackageIndex(tmp_path / "wheels") as index:
        index.gate.clear()
        for name, value in (("PIP_CONFIG_FILE", os.devnull), ("PIP_NO_CACHE_DIR", "1"), ("PIP_INDEX_URL", index.url)):
            monkeypatch.setenv(name, value)
        plan = backends.InstallPlan(
            name="tiny",
            command=(sys.executable, "-m", "pip", "install", "-r", str(tmp_path / "tiny.txt")),
            requirements=tmp_path / "tiny.txt",
            packages=("tiny-engine==1.0",),
            compiles=False,
            missing_tools=(),
        )
        lines = backends._run_pip(plan, None)
        async for line in lines:
            if line.text.startswith("fetching"):
                break
        await lines.aclose()
        assert index.served == ["tiny_engine-1.0-py3-none-any.whl"]


@pytest.mark.parametrize("name", [name for name, spec in LOADERS.items() if spec.distributions])
async def test_the_real_engines_start(name: str) -> None:
    found = await backends.test(name)
    state = backends.check(name)
    assert state.installed
    assert state.version == next(iter(found.versions.values()))
    assert state.version.partition("+")[0] == state.pinned
    assert "cpu" in state.devices
    assert found.devices[0] == "CPU"


def test_llama_cpp_python_is_known_to_compile() -> None:
    plan = backends.install_plan("llama-cpp-python")
    assert plan.compiles
    assert plan.command[:3] == (sys.executable, "-m", "pip")
    assert plan.requirements.name == "llama-cpp-python.txt"
    assert not backends.install_plan("xllamacpp").compiles


def test_what_pip_cannot_install_is_said() -> None:
    with pytest.raises(SetupFailed, match="no packages to install"):
        backends.install_plan("llamafile")
    with pytest.raises(NotFound, match="no backend called 'nothing'"):
        backends.check("nothing")


def test_devices_are_those_of_the_build_that_the_machine_has() -> None:
    assert usable_devices(("cpu", "cuda"), None) == ("cpu", "cuda")
    assert usable_devices(("cpu", "cuda", "vulkan"), machine()) == ("cpu",)
    assert usable_devices(("cpu", "cuda", "vulkan"), machine("amd")) == ("cpu", "vulkan")


def test_an_unused_gpu_is_named_in_the_reason() -> None:
    state = backends.check("llama-cpp-python", hardware=machine("nvidia"))
    if "cuda" not in state.devices:
        assert "Test GPU is not used" in state.reason


def machine(vendor: str = "") -> HardwareFacts:
    return HardwareFacts(
        cpu=CpuFacts(None, None, None, None, 1),
        memory=MemoryFacts(1 << 34, 1 << 33),
        disk=DiskFacts(Path("/"), 1 << 40, 1 << 39),
        system=SystemFacts("Linux", "6", "3.11"),
        gpus=(GpuFacts(vendor, 0, "Test GPU"),) if vendor else (),
    )
