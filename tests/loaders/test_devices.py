"""What engines say they can compute on: the real ones in processes of their own, GPUs through recorded answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from webui.loaders import devices
from webui.loaders.devices import Ability, EngineDevice, ask, read_list

GIB = 1 << 30
REAL = {"ctransformers": "CUDA 12", "xllamacpp": "sees no GPU", "llama-cpp-python": "processor only"}


@pytest.mark.parametrize("loader", REAL)
def test_a_real_engine_answers_in_its_own_process(loader: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "webui.loaders.devices", loader], capture_output=True, text=True, check=True, timeout=120
    )
    ability = Ability.from_dict(json.loads(done.stdout.splitlines()[-1]))
    assert (ability.loader, ability.told, ability.installed) == (loader, True, True)
    assert ability.devices or REAL[loader] in ability.reason


def test_the_unknown_engine_and_the_missing_program_tell_nothing() -> None:
    assert ask("toy") == Ability("toy", reason="this backend does not say what it can use", told=False)


def test_xllamacpp_lists_gpus_and_leaves_the_processor_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def info(name: str, kind: int) -> dict[str, Any]:
        return {"name": name, "description": f"Card {name}", "memory_total": 8 * GIB, "memory_free": GIB, "type": kind}

    told = [info("CUDA0", 1), info("Vulkan1", 2), info("CPU", 0), info("BLAS", 3)]
    monkeypatch.setitem(sys.modules, "xllamacpp", SimpleNamespace(get_device_info=lambda: told))
    ability = ask("xllamacpp")
    assert ability.kinds == ("cuda", "vulkan")
    assert ability.devices[0] == EngineDevice("cuda", "CUDA0", "Card CUDA0", 8 * GIB, GIB)
    assert ability.reason == ""
    assert Ability.from_dict(json.loads(json.dumps(ability.to_dict()))) == ability


class RecordedTorch(SimpleNamespace):
    """torch with one card of the given capability, built for the given generations."""

    def __init__(
        self, built: list[str], capability: tuple[int, int], *, error: str = "", hip: str | None = None
    ) -> None:
        def init() -> None:
            if error:
                raise RuntimeError(error)

        card = SimpleNamespace(name="Some Card", major=capability[0], minor=capability[1])
        super().__init__(
            version=SimpleNamespace(cuda=None if hip else "12.8", hip=hip),
            cuda=SimpleNamespace(
                init=init,
                device_count=lambda: 1,
                get_arch_list=lambda: built,
                get_device_properties=lambda index: card,
                mem_get_info=lambda index: (6 * GIB, 8 * GIB),
            ),
            backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)),
            xpu=SimpleNamespace(is_available=lambda: False),
        )


@pytest.mark.parametrize(
    ("torch", "kinds", "reason"),
    [
        (RecordedTorch(["sm_80", "sm_86", "sm_90"], (8, 6)), ("cuda",), ""),
        (RecordedTorch(["sm_80"], (8, 9)), ("cuda",), ""),
        (RecordedTorch(["sm_80", "compute_90"], (12, 0)), ("cuda",), ""),
        (RecordedTorch(["sm_75", "sm_80"], (6, 1)), (), "leaves out Some Card (compute capability 6.1)"),
        (
            RecordedTorch([], (8, 6), error="Found no NVIDIA driver on your system.\nPlease"),
            (),
            "Found no NVIDIA driver",
        ),
        (RecordedTorch(["gfx1100"], (11, 0), hip="6.2"), ("rocm",), ""),
    ],
)
def test_torch_lists_what_its_build_covers(
    monkeypatch: pytest.MonkeyPatch, torch: Any, kinds: tuple[str, ...], reason: str
) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch)
    ability = ask("transformers")
    assert ability.kinds == kinds
    assert reason in ability.reason and bool(ability.reason) == (not kinds)


def test_the_list_of_a_program_is_read() -> None:
    lines = [
        "ggml_cuda_init: found 2 CUDA devices:",
        "Available devices:",
        "  CUDA0: NVIDIA GeForce RTX 3090 (24135 MiB, 23871 MiB free)",
        "  Vulkan1: AMD Radeon RX 6700 XT (RADV NAVI22) (12272 MiB, 12000 MiB free)",
        "  CPU: some processor (100 MiB, 100 MiB free)",
    ]
    assert list(read_list(lines)) == [
        EngineDevice("cuda", "CUDA0", "NVIDIA GeForce RTX 3090", 24135 << 20, 23871 << 20),
        EngineDevice("vulkan", "Vulkan1", "AMD Radeon RX 6700 XT (RADV NAVI22)", 12272 << 20, 12000 << 20),
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
@pytest.mark.parametrize("lists", [True, False])
def test_a_program_is_asked_where_it_has_the_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists: bool) -> None:
    program = tmp_path / "llama-server"
    flag = "--list-devices          print list of available devices and exit" if lists else "--port PORT"
    program.write_text(
        f"#!/bin/sh\ncase $1 in --version) echo 'version: 6000 (abc)';; --help) echo '{flag}';;\n"
        "--list-devices) echo 'Available devices:'; echo '  ROCm0: Radeon (16368 MiB, 16000 MiB free)';; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("GGUF_LLAMAFILE", str(program))
    ability = devices.ask("llamafile")
    assert ability.kinds == (("rocm",) if lists else ())
    assert ability.told is lists
    assert ("does not list its devices" in ability.reason) is not lists
