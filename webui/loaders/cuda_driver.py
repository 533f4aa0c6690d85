"""Names of the NVIDIA GPUs as the driver tells them to this process, without any CUDA toolkit or package.

For loaders whose engine does not say itself which GPU it uses. What a GPU can do, and how much memory is free, is
`webui.hardware`'s business.
"""

from __future__ import annotations

import ctypes
import sys

_NAME_BYTES = 256


def nvidia_gpus() -> tuple[str, ...]:
    """The visible GPUs' names in the driver's order; empty where there is no driver or no GPU."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    names = []
    for index in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
        if driver.cuDeviceGet(ctypes.byref(device), index) == 0:
            driver.cuDeviceGetName(name, _NAME_BYTES, device)
            names.append(name.value.decode("utf-8", errors="replace"))
    return tuple(names)
