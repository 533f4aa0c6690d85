"""What is known of the backends here, what installing each would do, and that the real engines run the tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.loaders import toy
from tests.setup.tiny_backend import Refusing
from webui.errors import BrokenPackage, EngineRefused, NotFound, SetupFailed
from webui.hardware.facts import CpuFacts, DiskFacts, GpuFacts, HardwareFacts, MemoryFacts, SystemFacts
from webui.loaders import LOADERS
from webui.models.inspect import inspect_model
from webui.setup import backends
from webui.setup.builds import usable_devices
from webui.setup.installing import Installer
from webui.setup.plan import Action
from webui.setup.plan_words import plan_lines
from webui.setup.probe import probe
from webui.setup.tiny_model import write_tiny_model
from webui.setup.trial import try_backend

WITH_PACKAGES = [name for name, spec in LOADERS.items() if spec.distributions]


def test_the_tiny_model_is_small_and_the_same_every_time(tmp_path: Path) -> None:
    first, second = (write_tiny_model(tmp_path / name) for name in ("a.gguf", "b.gguf"))
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 400_000
    facts = inspect_model(first)
    assert (facts.architecture, facts.name) == ("llama", "Tiny trial model")


@pytest.mark.parametrize("name", WITH_PACKAGES)
async def test_the_real_engines_run_the_tiny_model(name: str) -> None:
    found = await probe(LOADERS[name])
    state = backends.check(name)
    assert state.installed
    assert state.version == next(iter(found.versions.values()))
    assert state.version.partition("+")[0] == state.pinned
    assert "cpu" in state.devices
    assert found.devices[0] == "CPU"
    trial = await try_backend(LOADERS[name])
    assert trial.tried
    assert trial.tokens == 4
    assert trial.device


async def test_an_engine_that_refuses_the_tiny_model_fails_its_trial() -> None:
    with pytest.raises(EngineRefused, match="toy refuses"):
        await try_backend(replace(toy.SPEC, parameters=Refusing))
    with pytest.raises(BrokenPackage, match="does not start"):
        await probe(replace(toy.SPEC, distributions=("no-such-package",)))


@pytest.mark.parametrize("name", WITH_PACKAGES)
def test_a_plan_says_all_there_is_to_know_and_changes_nothing(name: str) -> None:
    plan = Installer(machine).plan(name, repair=True)
    told = plan.to_dict()
    assert plan.problem is None
    assert plan.action is Action.REPAIR
    packages = {package["name"]: package["version"] for package in told["packages"]}
    assert packages[LOADERS[name].distributions[0]].partition("+")[0] == backends.check(name).pinned
    assert told["commands"][0][:2] == ["pip", "install"]
    lines = plan_lines(plan)
    assert lines[0].endswith("will be repaired.")
    for words in ("Build: for ", "From: ", "Disk: about "):
        assert any(line.startswith(words) for line in lines)


def test_llama_cpp_python_is_compiled_where_no_index_is_named() -> None:
    plan = Installer(machine).plan("llama-cpp-python", repair=True)
    assert plan.compiles
    assert any("minutes" in line for line in plan_lines(plan))
    assert not Installer(machine).plan("xllamacpp", repair=True).compiles


def test_what_pip_cannot_install_is_said() -> None:
    plan = Installer(machine).plan("llamafile")
    assert (plan.action, plan.steps) == (Action.NOTHING, ())
    assert plan.problem is None or isinstance(plan.problem, SetupFailed)
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
        cpu=CpuFacts(None, "x86_64", None, None, 1),
        memory=MemoryFacts(1 << 34, 1 << 33),
        disk=DiskFacts(Path("/"), 1 << 40, 1 << 39),
        system=SystemFacts("Linux", "6", "3.11"),
        gpus=(GpuFacts(vendor, 0, "Test GPU"),) if vendor else (),
    )
