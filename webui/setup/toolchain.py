"""Whether this machine can compile, also for its GPU: needed only for engines that have no ready wheel."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

COMPILERS = {
    "CC": ("cc", "gcc", "clang", "cl"),
    "CXX": ("c++", "g++", "clang++", "cl"),
}
_WORDS = {"CC": "a C compiler", "CXX": "a C++ compiler"}
GPU_TOOLS = {"nvcc": "cuda", "hipcc": "rocm", "glslc": "vulkan"}
"""Programs without which nothing can be compiled for a kind of GPU."""
MISSING_WORDS = {
    "cc": "a C compiler",
    "c++": "a C++ compiler",
    "nvcc": "NVIDIA's CUDA toolkit (nvcc)",
    "hipcc": "ROCm's development packages (hipcc)",
    "glslc": "the Vulkan SDK (glslc)",
}
NEEDED = {
    "cpu": ("cc", "c++"),
    "metal": ("cc", "c++"),
    "cuda": ("cc", "c++", "nvcc"),
    "rocm": ("cc", "c++", "hipcc"),
    "vulkan": ("cc", "c++", "glslc"),
}
"""What compiling for each kind of device takes."""


def missing_tools(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """What is missing for compiling, in words. cmake and ninja do not count: pip fetches them where they are absent."""
    return tuple(_WORDS[variable] for variable in COMPILERS if not _found(variable, environment))


def tools_here(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Those of `MISSING_WORDS` that are found."""
    compilers = [name for name, variable in (("cc", "CC"), ("c++", "CXX")) if _found(variable, environment)]
    programs = [name for name in GPU_TOOLS if _program_found(name, environment)]
    return (*compilers, *programs)


def install_hint() -> str:
    """How to get a compiler on this system."""
    if sys.platform == "win32":
        return "Install the Visual Studio Build Tools with the workload 'Desktop development with C++', then try again."
    if sys.platform == "darwin":
        return "Run xcode-select --install, then try again."
    return (
        "On Debian and Ubuntu: sudo apt install build-essential; on Fedora: sudo dnf install gcc-c++. Then try again."
    )


def _found(variable: str, environment: Mapping[str, str]) -> bool:
    path = environment.get("PATH")
    chosen = environment.get(variable, "").split()
    if chosen:
        return shutil.which(chosen[0], path=path) is not None
    if any(shutil.which(name, path=path) for name in COMPILERS[variable]):
        return True
    return sys.platform == "win32" and _visual_studio_installed(environment)


def _program_found(name: str, environment: Mapping[str, str]) -> bool:
    """On the search path, or where the toolkits of NVIDIA, AMD and LunarG install themselves."""
    if name == "nvcc" and environment.get("CUDACXX"):
        return shutil.which(environment["CUDACXX"].split()[0], path=environment.get("PATH")) is not None
    if shutil.which(name, path=environment.get("PATH")):
        return True
    homes = {"nvcc": ("CUDA_PATH", "CUDA_HOME"), "hipcc": ("ROCM_PATH", "HIP_PATH"), "glslc": ("VULKAN_SDK",)}[name]
    folders = [Path(environment[home]) / "bin" for home in homes if environment.get(home)]
    return any(shutil.which(name, path=str(folder)) for folder in folders)


def _visual_studio_installed(environment: Mapping[str, str]) -> bool:
    """Build Tools are not on the PATH; their installer leaves `vswhere.exe`, by which cmake finds them too."""
    programs = environment.get("ProgramFiles(x86)", "")
    return bool(programs) and (Path(programs) / "Microsoft Visual Studio" / "Installer" / "vswhere.exe").exists()
