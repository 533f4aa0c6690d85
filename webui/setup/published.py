"""Which ready builds the engines' makers publish, and what each needs: the one table of wheels.

Builds for GPUs stand on an index of their makers, one per build, whose last part is the build's label. Their addresses
are not written down here: they come from the setting `setup.indexes`, or from the package's own description where a
build of it is installed already (`webui.setup.sources`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Version = tuple[int, int]

LINUX, LINUX_ARM, WINDOWS = "linux-x86_64", "linux-arm64", "windows-x86_64"
MAC, MAC_INTEL = "macos-arm64", "macos-x86_64"
DESKTOPS = frozenset({LINUX, WINDOWS})
ANYWHERE = frozenset({LINUX, LINUX_ARM, WINDOWS, MAC, MAC_INTEL})


@dataclass(frozen=True, slots=True)
class Build:
    """One build of a package. `label` is empty for what every package index offers.

    `runtime` is the CUDA or ROCm version it was made with. A driver of that version or newer runs it; an older one of
    the same major version only on cards of the `native` compute capabilities, for which no code is translated when it
    starts. `capabilities` are the least and the most that are covered, `architectures` AMD's names. `megabytes` is the
    download and `disk_megabytes` what it takes while it is installed, both about.
    """

    label: str
    kind: str
    title: str
    platforms: frozenset[str]
    megabytes: int
    disk_megabytes: int
    runtime: Version | None = None
    native: tuple[Version, ...] = ()
    capabilities: tuple[Version, Version] = ((0, 0), (99, 9))
    architectures: frozenset[str] = frozenset()
    requirements: str = ""
    """Another requirements file than the backend's own, where this build has one."""


@dataclass(frozen=True, slots=True)
class Published:
    """The builds of one backend's main package, the best of each kind first.

    `labelled`: the version ends in the build's label, as in 2.13.0+cu126. `pythons` are the oldest and the newest that
    ready builds exist for. `compile_options` says how the package is compiled for each kind, and is empty where it
    cannot be. `maker` is whose index the builds for GPUs stand on.
    """

    distribution: str
    maker: str
    builds: tuple[Build, ...]
    pythons: tuple[Version, Version]
    labelled: bool = False
    compile_options: Mapping[str, str] = field(default_factory=dict)
    compile_megabytes: int = 0


_RDNA = frozenset({"gfx1030", "gfx1031", "gfx1032", "gfx1100", "gfx1101", "gfx1102"})
_RDNA_NEW = _RDNA | {"gfx1150", "gfx1151", "gfx1200", "gfx1201", "gfx950"}
_TORCH_AMD = frozenset(
    {"gfx908", "gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1101", "gfx1102"}
    | {"gfx1150", "gfx1151", "gfx1200", "gfx1201"}
)
_CUDA_PLACES = DESKTOPS | {LINUX_ARM}
_CUDA_13 = ((7, 5), (99, 9))

XLLAMACPP = Published(
    "xllamacpp",
    "xllamacpp",
    (
        Build(
            "cu132",
            "cuda",
            "CUDA 13.2",
            _CUDA_PLACES,
            250,
            1200,
            (13, 2),
            ((7, 5), (8, 6), (8, 9), (12, 0), (12, 1)),
            _CUDA_13,
        ),
        Build(
            "cu128",
            "cuda",
            "CUDA 12.8",
            _CUDA_PLACES,
            250,
            1200,
            (12, 8),
            ((8, 6), (8, 9), (12, 0)),
            ((5, 0), (12, 0)),
        ),
        Build("rocm-7.2.4", "rocm", "ROCm 7.2", frozenset({LINUX}), 250, 1200, (7, 2), architectures=_RDNA_NEW),
        Build("rocm-6.4.1", "rocm", "ROCm 6.4", frozenset({LINUX}), 250, 1200, (6, 4), architectures=_RDNA),
        Build("vulkan", "vulkan", "Vulkan", DESKTOPS | {MAC_INTEL}, 45, 400),
        Build("", "metal", "Metal", frozenset({MAC}), 12, 120),
        Build("", "cpu", "the processor", ANYWHERE, 34, 250),
    ),
    ((3, 10), (3, 99)),
)

LLAMA_CPP_PYTHON = Published(
    "llama-cpp-python",
    "llama-cpp-python",
    (
        Build("cu132", "cuda", "CUDA 13.2", DESKTOPS, 300, 1500, (13, 2), capabilities=_CUDA_13),
        Build("cu130", "cuda", "CUDA 13.0", DESKTOPS, 300, 1500, (13, 0), capabilities=_CUDA_13),
        *(
            Build(f"cu12{minor}", "cuda", f"CUDA 12.{minor}", DESKTOPS, 450, 1800, (12, minor), (), ((6, 0), (99, 9)))
            for minor in (5, 4, 3, 2, 1)
        ),
        Build("rocm72", "rocm", "ROCm 7.2", frozenset({LINUX}), 300, 1500, (7, 2), architectures=_RDNA_NEW),
        Build("hip-radeon", "rocm", "HIP", frozenset({WINDOWS}), 300, 1500, architectures=_RDNA_NEW),
        Build("vulkan", "vulkan", "Vulkan", DESKTOPS, 60, 400),
        Build("metal", "metal", "Metal", frozenset({MAC, MAC_INTEL}), 12, 150),
        Build("cpu", "cpu", "the processor", DESKTOPS, 12, 150),
    ),
    ((3, 10), (3, 12)),
    compile_options={
        "cpu": "",
        "metal": "-DGGML_METAL=on",
        "cuda": "-DGGML_CUDA=on",
        "rocm": "-DGGML_HIP=on",
        "vulkan": "-DGGML_VULKAN=on",
    },
    compile_megabytes=1500,
)

TORCH = Published(
    "torch",
    "PyTorch",
    (
        Build(
            "cu130", "cuda", "CUDA 13.0", _CUDA_PLACES, 2200, 9000, (13, 0), ((7, 5), (8, 0), (8, 6), (9, 0)), _CUDA_13
        ),
        Build(
            "cu126",
            "cuda",
            "CUDA 12.6",
            DESKTOPS,
            2600,
            9000,
            (12, 6),
            ((5, 0), (6, 0), (6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0)),
            ((5, 0), (9, 0)),
        ),
        Build("rocm7.2", "rocm", "ROCm 7.2", frozenset({LINUX}), 3500, 16000, (7, 0), architectures=_TORCH_AMD),
        Build("rocm6.4", "rocm", "ROCm 6.4", frozenset({LINUX}), 3500, 16000, (6, 0), architectures=_TORCH_AMD),
        Build("xpu", "xpu", "Intel's XPU", DESKTOPS, 1500, 6000),
        Build("", "mps", "Metal (MPS)", frozenset({MAC}), 90, 1500),
        Build("cpu", "cpu", "the processor", _CUDA_PLACES, 190, 2500),
        Build("", "cpu", "the processor", frozenset({MAC}), 90, 1500),
    ),
    ((3, 11), (3, 14)),
    labelled=True,
)

CTRANSFORMERS = Published(
    "ctransformers",
    "ctransformers",
    (
        Build(
            "",
            "cuda",
            "CUDA 12",
            DESKTOPS,
            400,
            1500,
            (12, 0),
            capabilities=((5, 0), (99, 9)),
            requirements="ctransformers-cuda.txt",
        ),
        Build("", "cpu", "the processor", DESKTOPS | {MAC, MAC_INTEL}, 10, 60),
    ),
    ((3, 8), (3, 99)),
)

PUBLISHED: Mapping[str, Published] = {
    "ctransformers": CTRANSFORMERS,
    "transformers": TORCH,
    "xllamacpp": XLLAMACPP,
    "llama-cpp-python": LLAMA_CPP_PYTHON,
}
"""By backend. One that is not here (of an extension) is installed as its requirements file says."""
