"""Installations as they go well and badly: real pip, real wheels, an index on loopback, a throw-away environment."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.builders.package_index import PackageIndex
from tests.builders.wheels import build_wheel
from tests.setup.place import Place
from tests.setup.tiny_backend import BREAKS_AT_ONCE, CRASHES, CRASHES_AT_ONCE, REFUSES, engine

GPU = {"runtime": "CUDA 12.8", "compute_capability": "8.9"}


TWO = "tiny-engine==2.0\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "wheels").mkdir()
    with PackageIndex(tmp_path / "wheels") as index:
        yield Place(tmp_path, index)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Version 1.0 of the engine is installed and works."""
    root = tmp_path_factory.mktemp("original")
    build_wheel(root / "wheels", "tiny-engine", files=engine(only_in_one=b"ONE = 1\n"))
    with PackageIndex(root / "wheels") as index:
        place = Place(root, index)
        assert place.install()["version"] == "1.0"
        yield place


@pytest.fixture
def settled(original: Place, tmp_path: Path) -> Iterator[Place]:
    """A copy of it, from which 2.0 is asked for next."""
    shutil.copytree(original.wheels, tmp_path / "wheels")
    with PackageIndex(tmp_path / "wheels") as index:
        place = Place(tmp_path, index, like=original)
        place.ask_for("tiny-engine==2.0")
        yield place


def test_a_backend_is_installed_proved_tried_again_and_rolled_back(place: Place) -> None:
    build_wheel(place.wheels, "tiny-engine", files=engine())
    build_wheel(place.wheels, "tiny-engine", "2.0", files=engine(new=b"NEW = 1\n"))
    plan, first, other, back, again = place.do(
        {"do": "plan"},
        {"do": "install"},
        {"do": "install", "requirements": TWO},
        {"do": "roll back"},
        {"do": "install", "requirements": "tiny-engine==1.0\n"},
    )
    assert plan["plan"]["action"] == "install"
    assert [package["version"] for package in plan["plan"]["packages"]] == ["1.0"]
    assert first["version"] == "1.0"
    assert "Tiny 1.0 starts here. Devices: CPU. It loaded a tiny model and wrote with it, on CPU." in first["steps"][-1]
    assert first["before"] is None and not first["interrupted"]
    assert (other["version"], other["before"]) == ("2.0", "1.0")
    assert (back["version"], back["before"]) == ("1.0", "2.0")
    assert back["steps"][-2] == "Tiny 1.0 is back; trying it"
    assert again["steps"][0] == "Tiny is installed; trying it"
    assert "Tiny 1.0 starts here" in again["steps"][-1]


def test_a_new_version_that_does_not_work_gives_way_to_the_one_before(settled: Place) -> None:
    """Rolled back without an index: the old version's files are there byte by byte, and nothing of the new one.

    One crashes when it is imported, one starts and crashes with the model.
    """
    versions = {"2.0": (CRASHES_AT_ONCE, "its process ended with status"), "3.0": (CRASHES, "SIGABRT")}
    for version, (source, _) in versions.items():
        build_wheel(settled.wheels, "tiny-engine", version, files=engine(source, only_in_new=b"NEW = 2\n"))
    before = settled.files()
    failed = settled.do(*({"do": "install", "requirements": f"tiny-engine=={version}\n"} for version in versions))
    for said, (_, cause) in zip(failed, versions.values(), strict=True):
        error = said["error"]
        assert error["code"] == "validation_failed"
        assert error["message"] == "What was installed of Tiny does not work here; version 1.0 is put back."
        assert cause in error["cause"] + " ".join(error["evidence"])
        assert (said["version"], said["interrupted"]) == ("1.0", False)
    assert settled.files() == before


def test_a_first_installation_that_does_not_work_is_taken_away_again(place: Place) -> None:
    build_wheel(place.wheels, "tiny-engine", files=engine(REFUSES), requires="tiny-helper")
    build_wheel(place.wheels, "tiny-helper")
    said = place.install()
    assert said["error"]["code"] == "validation_failed"
    assert said["error"]["message"].endswith("it is taken away again.")
    assert said["version"] is None
    assert place.files() == {}


def test_what_the_index_does_wrong_changes_nothing_and_is_named(settled: Place) -> None:
    """Whether pip sees that a download is cut short, or that the file is damaged, depends on its version."""
    build_wheel(settled.wheels, "tiny-engine", "2.0", files=engine())
    faults = {
        settled.index.faulty("cut"): ({"no_network", "damaged_download"}, ("be reached", "not the expected one")),
        settled.index.faulty("false"): ({"damaged_download"}, ("not the expected one",)),
        settled.index.faulty("closed"): ({"no_wheel"}, ("offers no version of it",)),
        "http://127.0.0.1:9/simple": ({"no_network"}, ("cannot be reached",)),
    }
    before = settled.files()
    settled.variables["PIP_RETRIES"] = "1"
    asked = [{"do": "install", "requirements": f"--index-url {address}\n{TWO}"} for address in faults]
    for said, (codes, words) in zip(settled.do(*asked), faults.values(), strict=True):
        assert said["error"]["code"] in codes
        assert any(word in said["error"]["message"] for word in words)
        assert said["error"]["hint"] and "NAME" not in said["error"]["hint"]
        assert (said["version"], said["interrupted"]) == ("1.0", False)
    assert settled.files() == before


def test_what_stands_in_the_way_is_told_before_anything_is_done(settled: Place) -> None:
    """Space, rights, pip, a compiler: nothing is fetched for any of them."""
    build_wheel(settled.wheels, "tiny-engine", "2.0", files=engine())
    settled.index.served.clear()
    said = settled.do(
        {"do": "install", "free": 1 << 20},
        {"do": "install", "writable": False},
        {"do": "install", "has_pip": False},
        {"do": "install", "compiled": True},
    )
    assert [one["error"]["code"] for one in said] == ["no_space", "not_permitted", "pip_missing", "no_compiler"]
    assert "0.2 GiB of disk" in said[0]["error"]["message"]
    assert "a C compiler and a C++ compiler" in said[3]["error"]["message"]
    assert settled.index.served == []


def test_what_the_index_has_and_does_not_fit(settled: Place) -> None:
    """No such version, one for other Pythons, and packages that exclude each other."""
    build_wheel(settled.wheels, "tiny-engine", "3.0", files=engine(), requires_python="<3.9")
    build_wheel(settled.wheels, "tiny-engine", "4.0", files=engine(), requires="tiny-helper==2.0")
    for version in ("1.0", "2.0"):
        build_wheel(settled.wheels, "tiny-helper", version)
    before = settled.files()
    nothing, other, conflict = settled.do(
        {"do": "install"},
        {"do": "install", "requirements": "tiny-engine==3.0\n"},
        {"do": "install", "requirements": "tiny-engine==4.0\ntiny-helper==1.0\n"},
    )
    assert nothing["error"]["code"] == "no_wheel"
    assert "Looked for: Tiny for the processor, Python 3." in nothing["error"]["cause"]
    assert other["error"]["code"] == "unsuited_python"
    assert conflict["error"]["code"] == "package_conflict"
    assert "exclude each other" in conflict["error"]["message"]
    assert {said["version"] for said in (nothing, other, conflict)} == {"1.0"}
    assert settled.files() == before


def test_cancelling_leaves_what_was_there(settled: Place) -> None:
    build_wheel(settled.wheels, "tiny-engine", "2.0", files=engine())
    settled.index.gate.clear()
    before = settled.files()
    said = settled.install(leave_at="fetching")
    assert (said["version"], said["interrupted"], said["steps"][-1][:8]) == ("1.0", False, "fetching")
    assert settled.files() == before


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_killed_in_the_middle_it_is_put_right_by_the_next(settled: Place) -> None:
    build_wheel(settled.wheels, "tiny-engine", "2.0", files=engine())
    settled.index.gate.clear()
    asked = json.dumps([{"do": "install"}])
    command = [str(settled.python), "-m", "tests.setup.driver", str(settled.requirements), asked]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=settled.variables, cwd=settled.root)
    assert settled.index.waiting.wait(60)
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.wait()
    environment = settled.python.parent.parent
    assert list(environment.glob("setup-*")), "nobody was left to remove what was fetched"
    settled.index.gate.set()
    for file in settled.library.glob("tiny_engine/only_in_one.py"):
        file.unlink()  # as if pip had been in the middle of replacing it
    state, done, back = settled.do({"do": "plan"}, {"do": "install"}, {"do": "roll back"})
    assert "cut off" in state["plan"]["damage"]
    assert (done["version"], done["before"], done["interrupted"]) == ("2.0", "1.0", False)
    assert back["version"] == "1.0"
    assert (settled.library / "tiny_engine" / "only_in_one.py").read_bytes() == b"ONE = 1\n"
    assert not list(environment.glob("setup-*"))


def test_broken_and_half_installed_ones_are_repaired(settled: Place) -> None:
    settled.ask_for("tiny-engine==1.0")
    module = settled.library / "tiny_engine" / "__init__.py"
    module.write_bytes(BREAKS_AT_ONCE)
    (said,) = settled.do({"do": "install"})
    assert "libmissing.so.1: cannot open shared object file; installing it again" in said["steps"][1]
    assert "Tiny 1.0 starts here" in said["steps"][-1]
    (settled.library / "tiny_engine" / "only_in_one.py").unlink()
    plan, repaired = settled.do({"do": "plan"}, {"do": "install"})
    assert (plan["plan"]["action"], "only_in_one.py" in plan["plan"]["damage"]) == ("repair", True)
    assert "Tiny 1.0 starts here" in repaired["steps"][-1]
    assert (settled.library / "tiny_engine" / "only_in_one.py").exists()


def test_a_build_for_the_gpu_takes_the_place_of_one_for_the_processor(settled: Place) -> None:
    """Same version, other build, from its maker's index; and back again."""
    settled.ask_for("tiny-engine==1.0")
    build_wheel(settled.wheels / "cu128", "tiny-engine", files=engine(kind=b"KIND = 'cuda'\n"))
    found = {"gpu": GPU, "indexes": [f"tiny-engine={settled.index.builds}"]}
    before = settled.files()
    plan, done = settled.do({"do": "plan", **found}, {"do": "repair", **found})
    assert plan["plan"]["build"] == "CUDA 12.8"
    assert plan["plan"]["source"].startswith("the Tiny index for CUDA 12.8 (http://127.0.0.1")
    assert "error" not in done
    assert settled.files()["tiny_engine/kind.py"] == b"KIND = 'cuda'\n"
    settled.do({"do": "roll back"})
    assert settled.files() == before


def test_from_a_folder_of_wheels_no_index_is_asked(place: Place) -> None:
    folder, other = place.root / "carried", place.root / "other"
    build_wheel(folder, "tiny-engine", files=engine(), requires="tiny-helper")
    build_wheel(folder, "tiny-helper")
    build_wheel(other, "tiny-engine", files=engine(), tag="cp39-cp39-win_amd64")
    nothing, plan, done = place.do(
        {"do": "install", "folder": str(other)},
        {"do": "plan", "folder": str(folder)},
        {"do": "install", "folder": str(folder)},
    )
    assert nothing["error"]["code"] == "no_wheel"
    assert "tiny_engine-1.0-cp39-cp39-win_amd64.whl" in nothing["error"]["cause"]
    assert plan["plan"]["source"] == f"the folder {folder}"
    assert plan["plan"]["packages"][0]["bytes"] == (folder / "tiny_engine-1.0-py3-none-any.whl").stat().st_size
    assert done["version"] == "1.0"
    assert place.index.served == []


@pytest.mark.skipif(sys.platform != "linux", reason="a small disk is made with mount")
def test_a_disk_that_fills_up_while_pip_unpacks(original: Place, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("only root may mount")
    try:
        (tmp_path / "wheels").mkdir()
        noise = bytes(range(256)) * 16384
        large = {**engine(), "tiny_engine/large.bin": noise}
        build_wheel(tmp_path / "wheels", "tiny-engine", "2.0", files=large)
        with PackageIndex(tmp_path / "wheels") as index:
            full = Place(disk, index, like=original).install(requirements=TWO)
        assert (full["error"]["code"], full["version"]) == ("no_space", "1.0")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
