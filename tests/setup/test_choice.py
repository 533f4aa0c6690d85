"""Which build each machine gets: a table over recorded machines and variations of them, and what pip then fetches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.builders.package_index import PackageIndex
from tests.builders.wheels import build_wheel
from tests.hardware import machines
from webui.errors import NoCompiler, NoWheel, UnsuitedPython
from webui.hardware.facts import GpuFacts, HardwareFacts
from webui.loaders import LOADERS
from webui.setup.backends import pins_of, requirements_of
from webui.setup.choice import Choice, Way, choose
from webui.setup.plan import Action, Installed, InstallPlan, plan_for
from webui.setup.published import PUBLISHED
from webui.setup.requirement_files import split_pin
from webui.setup.sources import Sources
from webui.setup.target import Target, platform_name

COMPILERS = frozenset({"cc", "c++"})
INDEXES = Sources(indexes={one.distribution: "https://index.invalid/whl/{build}" for one in PUBLISHED.values()})
TORCH_NEW, TORCH_OLD = (3, 15), (3, 10)

MATRIX = """
machine                     xllamacpp    llama-cpp-python  transformers  ctransformers
amd-apu                     vulkan       vulkan            cpu           default cpu
amd-discrete                rocm-6.4.1   vulkan            rocm6.4       default cpu
amd-strix-halo              vulkan       vulkan            rocm6.4       default cpu
apple-m1-8gb                default metal  metal           default mps   default cpu
apple-m2-max                default metal  metal           default mps   default cpu
container-2-of-64           default cpu  cpu               cpu           default cpu
intel-arc                   vulkan       vulkan            xpu           default cpu
laptop-nvidia-intel         cu128        cu122             cu126         default cuda
none                        NoWheel      compile cpu       cpu           default cpu
nvidia-mig                  default cpu  cu122             cu126         default cuda
nvidia-old-driver           vulkan       vulkan            cpu           default cpu
nvidia-single               cu128        cu125             cu126         default cuda
nvidia-too-old              default cpu  cpu               cpu           default cpu
nvidia-two-unequal          cu128        cu124             cu126         default cuda
nvidia-without-driver       default cpu  cpu               cpu           default cpu
raspberry-pi-5              default cpu  compile cpu       cpu           NoWheel
two-vendors                 cu128        cu124             cu126         default cuda
windows-radeon              vulkan       vulkan            cpu           default cpu
wsl-nvidia                  cu128        cu124             cu126         default cuda
+blackwell-cuda-13.2        cu132        cu132             cu130         default cuda
+ada-cuda-13.0              cu132        cu130             cu130         default cuda
+hopper-cuda-13.0           cu128        cu130             cu130         default cuda
+pascal-cuda-12.8           cu128        cu125             cu126         default cuda
+windows-nvidia             cu128        cu125             cu126         default cuda
+rdna4-rocm-7.2             rocm-7.2.4   rocm72            rocm7.2       default cpu
+arm-server-nvidia          cu128        compile cpu       cpu           NoWheel
+mac-intel                  default cpu  compile cpu       NoWheel       default cpu
+python-3.13                default cpu  compile cpu       cpu           default cpu
+python-3.15                default cpu  compile cpu       UnsuitedPython  default cpu
+no-compiler-python-3.13    default cpu  NoCompiler        cpu           default cpu
"""
"""What stands there is the build's label on its maker's index, or the way and the kind of device, or the error."""


def rows() -> list[tuple[str, list[str]]]:
    found = []
    for line in MATRIX.strip().splitlines()[1:]:
        name, *cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        found.append((name, cells))
    return found


def nvidia(capability: str, runtime: str) -> GpuFacts:
    return GpuFacts("nvidia", 0, "Test GPU", 24 << 30, 23 << 30, "580", capability, integrated=False, runtime=runtime)


def machine(name: str, folder: Path) -> tuple[HardwareFacts, Target]:
    """The facts and the environment of a machine; those with a plus are made of a recorded one."""
    target = Target("linux-x86_64", (3, 11), Path("/env"), 1 << 40, tools=COMPILERS)
    bare = machines.facts("container-2-of-64", folder)
    if not name.startswith("+"):
        facts = machines.facts(name, folder / "own")
        system = {"W": "win32", "m": "darwin"}.get(facts.system.name[0], "linux")
        return facts, replace(target, platform=platform_name(system, facts.cpu.architecture))
    made: dict[str, Any] = {
        "+blackwell-cuda-13.2": (nvidia("12.0", "CUDA 13.2"), {}),
        "+ada-cuda-13.0": (nvidia("8.9", "CUDA 13.0"), {}),
        "+hopper-cuda-13.0": (nvidia("9.0", "CUDA 13.0"), {}),
        "+pascal-cuda-12.8": (nvidia("6.1", "CUDA 12.8"), {}),
        "+windows-nvidia": (nvidia("8.6", "CUDA 12.8"), {"platform": "windows-x86_64"}),
        "+rdna4-rocm-7.2": (
            GpuFacts("amd", 0, "RX 9070", 16 << 30, None, "amdgpu", "gfx1201", integrated=False, runtime="ROCm 7.2.1"),
            {},
        ),
        "+arm-server-nvidia": (nvidia("9.0", "CUDA 12.8"), {"platform": "linux-arm64"}),
        "+mac-intel": (None, {"platform": "macos-x86_64"}),
        "+python-3.13": (None, {"python": (3, 13)}),
        "+python-3.15": (None, {"python": (3, 15)}),
        "+no-compiler-python-3.13": (None, {"python": (3, 13), "tools": frozenset()}),
    }
    gpu, changes = made[name]
    return replace(bare, gpus=(gpu,) if gpu else ()), replace(target, **changes)


def said(choice: Choice) -> str:
    if choice.problem is not None:
        return type(choice.problem).__name__
    assert choice.build is not None
    return choice.build.label if choice.way is Way.INDEX else f"{choice.way} {choice.build.kind}"


@pytest.mark.parametrize(("name", "expected"), rows(), ids=[name for name, _ in rows()])
def test_each_machine_gets_the_build_that_suits_it(name: str, expected: list[str], tmp_path: Path) -> None:
    facts, target = machine(name, tmp_path)
    backends = MATRIX.split("\n")[1].split()[1:]
    chosen = {backend: choose(backend, facts, target, INDEXES) for backend in backends}
    assert [said(choice) for choice in chosen.values()] == expected
    for choice in chosen.values():
        assert choice.why
        assert choice.problem is None or choice.problem.hint


def test_without_an_address_the_gpu_s_build_is_named_and_the_next_best_taken(tmp_path: Path) -> None:
    facts, target = machine("nvidia-single", tmp_path)
    choice = choose("xllamacpp", facts, target, Sources())
    assert said(choice) == "default cpu"
    (note,) = choice.notes
    assert "CUDA 12.8 would use NVIDIA GeForce RTX 4070" in note
    assert "setup.indexes" in note and "xllamacpp=" in note


def test_what_is_compiled_is_compiled_for_the_gpu_where_the_tools_are_here(tmp_path: Path) -> None:
    facts, target = machine("nvidia-single", tmp_path)
    without = choose("llama-cpp-python", facts, target, Sources())
    assert said(without) == "compile cpu"
    assert any("nvcc" in note for note in without.notes)
    with_tools = choose("llama-cpp-python", facts, replace(target, tools=COMPILERS | {"nvcc"}), Sources())
    assert said(with_tools) == "compile cuda"


def test_a_driver_that_is_too_old_for_every_build_is_told(tmp_path: Path) -> None:
    facts, target = machine("nvidia-mig", tmp_path)
    (note,) = choose("xllamacpp", facts, target, INDEXES).notes
    assert note.startswith("With a driver that offers CUDA 12.8 or newer")


@pytest.mark.parametrize(
    ("kind", "name", "backend"),
    [
        (NoWheel, "none", "xllamacpp"),
        (NoCompiler, "+no-compiler-python-3.13", "llama-cpp-python"),
        (UnsuitedPython, "+python-3.15", "transformers"),
    ],
)
def test_what_cannot_be_had_says_why(kind: type[Exception], name: str, backend: str, tmp_path: Path) -> None:
    facts, target = machine(name, tmp_path)
    problem = choose(backend, facts, target, INDEXES).problem
    assert isinstance(problem, kind)
    assert backend in problem.message or "torch" in problem.message
    shown = plan(backend, name, tmp_path / "again", INDEXES)[0].problem
    assert isinstance(shown, kind) and "NAME" not in shown.hint


def test_a_build_that_leaves_the_gpu_unused_is_replaced(tmp_path: Path) -> None:
    """The same version from its maker's index over the one for the processor; what it needs besides comes as ever."""
    facts, target = machine("nvidia-single", tmp_path)
    spec = LOADERS["xllamacpp"]
    requirements = requirements_of(spec)
    pins = pins_of(requirements)
    versions = dict(map(split_pin, pins))
    choice = choose("xllamacpp", facts, target, INDEXES)
    there = {kinds: Installed(versions, kinds) for kinds in (("cpu",), ("cpu", "cuda"))}
    made = [plan_for(spec, requirements, pins, choice, target, INDEXES, installed) for installed in there.values()]
    assert [plan.action for plan in made] == [Action.REBUILD, Action.NOTHING]
    own, rest = made[0].steps
    address, pin = "https://index.invalid/whl/cu128", f"xllamacpp=={versions['xllamacpp']}"
    assert own.arguments[-3:] == ("--index-url", address, pin)
    assert "--force-reinstall" in own.arguments and "--no-deps" in own.arguments
    assert rest.arguments == ("install", "-r", str(requirements))
    damaged = plan_for(
        spec, requirements, pins, choice, target, INDEXES, Installed(versions, ("cuda",), "it lacks files")
    )
    assert (damaged.action, damaged.damage) == (Action.REPAIR, "it lacks files")


# --- what pip does with it --------------------------------------------------------------------------------------------

TAGS = {
    "linux-x86_64": "manylinux2014_x86_64",
    "linux-arm64": "manylinux2014_aarch64",
    "windows-x86_64": "win_amd64",
    "macos-arm64": "macosx_11_0_arm64",
    "macos-x86_64": "macosx_11_0_x86_64",
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackageIndex]:
    """Every published build as a tiny wheel, on the makers' indexes and on the general one."""
    folder = tmp_path_factory.mktemp("index")
    for backend, published in PUBLISHED.items():
        pins = dict(map(split_pin, pins_of(requirements_of(LOADERS[backend]))))
        version = pins[published.distribution]
        for build in published.builds:
            for platform in build.platforms:
                labelled = (
                    f"{version}+{build.label.replace('-', '')}" if build.label and published.labelled else version
                )
                where = folder / build.label if build.label else folder
                build_wheel(
                    where,
                    published.distribution,
                    labelled,
                    files={"build.py": f"LABEL = {build.label!r}".encode()},
                    tag=f"cp311-cp311-{TAGS[platform]}",
                )
        if published.labelled:  # the general index has a build, too, which is not the one that is wanted
            build_wheel(folder, published.distribution, version, tag=f"cp311-cp311-{TAGS['linux-x86_64']}")
    with PackageIndex(folder) as served:
        yield served


def plan(backend: str, name: str, folder: Path, sources: Sources) -> tuple[InstallPlan, Target]:
    facts, target = machine(name, folder)
    spec = LOADERS[backend]
    choice = choose(backend, facts, target, sources)
    requirements = requirements_of(spec, choice.build.requirements if choice.build else "")
    return plan_for(spec, requirements, pins_of(requirements), choice, target, sources, Installed()), target


def request(served: PackageIndex, plan: InstallPlan, target: Target, main: str, folder: Path) -> list[str]:
    """The plan's own arguments for the main package, as a download and as if it ran on that machine."""
    options = [word for word in plan.steps[0].arguments[1:] if word not in ("--force-reinstall", "--no-deps")]
    if "-r" in options:
        at = options.index("-r")
        options = options[:at] + options[at + 2 :]
    pins = [word for word in options if "==" in word] or [
        f"{change.name}=={change.version}" for change in plan.changes if change.name == main
    ]
    options = [word for word in options if "==" not in word]
    options += [] if "--only-binary" in options else ["--only-binary", ":all:"]
    options += [] if "--index-url" in options else ["--index-url", served.url]
    here = ["--platform", TAGS[target.platform], "--python-version", "311", "--abi", "cp311", "--implementation", "cp"]
    return ["download", "--no-deps", "--dest", str(folder), *here, *options, *pins]


PIP = "import json, sys; from pip._internal.cli.main import main; sys.exit(any(map(main, json.load(sys.stdin))))"
"""pip many times over in one process, since starting it takes longer than what it is asked here."""


def test_pip_fetches_that_very_build(index: PackageIndex, tmp_path: Path) -> None:
    """Real pip against a real index: once for each set of arguments and platform that the machines above come to."""
    sources = Sources(indexes={one.distribution: index.builds for one in PUBLISHED.values()})
    asked: dict[tuple[Any, ...], tuple[list[str], Path, str]] = {}
    for name, cells in rows():
        for backend, cell in zip(("xllamacpp", "llama-cpp-python", "transformers"), cells, strict=False):
            made, target = plan(backend, name, tmp_path / name / backend, sources)
            if target.python != (3, 11) or made.compiles or made.problem is not None:
                continue
            key = (made.steps[0].arguments, target.platform)
            if key in asked:
                continue
            folder = tmp_path / f"fetched-{len(asked)}"
            words = request(index, made, target, PUBLISHED[backend].distribution, folder)
            label = cell if " " not in cell else "."
            asked[key] = (words, folder, f"{label}/*{TAGS[target.platform]}.whl")
    assert len(asked) >= 20
    commands = json.dumps([words for words, _, _ in asked.values()])
    quiet = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([sys.executable, "-c", PIP], input=commands, capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stderr
    for _, folder, pattern in asked.values():
        (wheel,) = folder.iterdir()
        expected = [path for path in index.folder.glob(pattern) if path.name == wheel.name]
        assert [path.read_bytes() for path in expected] == [wheel.read_bytes()], (wheel.name, pattern)
