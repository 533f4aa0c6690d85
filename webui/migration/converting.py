"""An older value as the setting's own: other units, numbers for names, words for numbers. Pure.

What is wrong even so is refused with what would be allowed; nothing is bent into its bounds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from webui.errors import InvalidSetting
from webui.settings.declared import Declared, plain

CACHE_TYPES = {0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0", 20: "iq4_nl", 30: "bf16"}
"""GGML's numbers of types, as llama-cpp-python took them."""
SPLIT_MODES = {0: "none", 1: "layer", 2: "row"}
ROPE_SCALINGS = {-1: "model", 0: "none", 1: "linear", 2: "yarn"}
MIROSTATS = {0: "off", 1: "v1", 2: "v2"}
DTYPES = {
    "fp16": "float16",
    "half": "float16",
    "f16": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "float": "float32",
}
DEVICE_MAPS = {"cuda": "single", "cuda:0": "single", "gpu": "single", "mps": "single", "0": "single"}
MOST_LAYERS = 9999
ALL = frozenset(("all", "auto", "max", "full"))
MEMORY = re.compile(r"(?i)\s*(\d+(?:\.\d+)?)\s*(k|m|g|t)i?b?\s*")
MEMORY_UNITS = {"k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0 * 1024.0}


class Refused(Exception):
    """The value cannot become the setting's; the text says why."""


def convert(declared: Declared, value: Any) -> tuple[Any, str]:
    """`value` as JSON knows the setting's own, and what was done to it ("" where nothing). Raises `Refused`."""
    name = declared.spec.name
    translated = TRANSLATIONS[name](value) if name in TRANSLATIONS else value
    if isinstance(translated, dict | list) and declared.spec.kind != "list":
        raise Refused(f"it is {_kind(value)}, and must be {declared.allowed()}")
    try:
        checked = plain(declared.check(translated, "the older file"))
    except InvalidSetting:
        raise Refused(f"it must be {declared.allowed()}") from None
    same = checked == value and isinstance(checked, bool) == isinstance(value, bool)
    return checked, "" if same else f"read as {_words(checked)}"


def opposite(value: Any) -> bool:
    """The other of yes and no; raises `Refused` for anything else."""
    return not truth(value)


def truth(value: Any) -> bool:
    """Yes or no, also as a word or a number; raises `Refused` for anything else."""
    found = _truth(value)
    if found is None:
        raise Refused("it must be true or false")
    return found


def number(value: Any) -> float:
    """A number, also one that stands as text; raises `Refused` for anything else."""
    found = _number(value)
    if found is None:
        raise Refused("it must be a number")
    return int(found) if found == int(found) else found


def memory_in_mib(value: Any) -> tuple[int, str]:
    """An amount of memory in MiB, with what was made of it. Raises `Refused` for shares and nonsense."""
    if isinstance(value, str) and (match := MEMORY.fullmatch(value)):
        mib = round(float(match[1]) * MEMORY_UNITS[match[2].lower()])
        return mib, f"{value.strip()} is {mib} MiB"
    number = _number(value)
    if number is None or number < 0 or (isinstance(value, str) and value.strip().endswith("%")):
        raise Refused("it is no amount of memory")
    if 0 < number <= 100:
        raise Refused("a share of the memory is no bound; set limits.worker_memory_mib to one in MiB if you need it")
    return round(number), "taken as MiB" if number else "no bound"


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    return words.get(str(value).strip().lower())


def _layers(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() in ALL:
        return -1
    number = _number(value)
    return -1 if number is not None and number > MOST_LAYERS else value


def _threads(value: Any) -> Any:
    return 0 if _number(value) == -1 or (isinstance(value, str) and value.strip().lower() == "auto") else value


def _none_for_minus_one(value: Any) -> Any:
    """Engines took -1 for the model's own context, and for no bound of candidates; both are 0 here."""
    return 0 if _number(value) == -1 else value


def _switch(value: Any) -> Any:
    """`auto`, or on and off for what was yes and no."""
    found = _truth(value)
    return value if found is None else "on" if found else "off"


def _numbered(table: dict[int, str]) -> Callable[[Any], Any]:
    def look(value: Any) -> Any:
        number = _number(value)
        if number is not None and number in table:
            return table[int(number)]
        return value.strip().lower() if isinstance(value, str) else value

    return look


def _numa(value: Any) -> Any:
    found = _truth(value)
    return value if found is None else "distribute" if found else "off"


def _dtype(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    name = value.strip().lower().removeprefix("torch.")
    return DTYPES.get(name, name)


def _device_map(value: Any) -> Any:
    return DEVICE_MAPS.get(value.strip().lower(), value.strip().lower()) if isinstance(value, str) else value


def _joined(value: Any) -> Any:
    """A list of numbers as they are written with commas."""
    if isinstance(value, list) and all(_number(item) is not None for item in value):
        return ",".join(f"{_number(item):g}" for item in value)
    return value


def _memories(value: Any) -> Any:
    if isinstance(value, dict) and all(isinstance(item, str | int) for item in value.values()):
        return ", ".join(f"{device}={amount}" for device, amount in value.items())
    return value


def _lines(value: Any) -> Any:
    """Stop strings one a line, line breaks in them written as the preset writes them."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(item.replace("\n", "\\n") for item in value)
    return value


TRANSLATIONS: dict[str, Callable[[Any], Any]] = {
    "gpu_layers": _layers,
    "draft_gpu_layers": _layers,
    "context_size": _none_for_minus_one,
    "top_k": _none_for_minus_one,
    "threads": _threads,
    "threads_batch": _threads,
    "flash_attention": _switch,
    "cpu_repacking": _switch,
    "cache_type_k": _numbered(CACHE_TYPES),
    "cache_type_v": _numbered(CACHE_TYPES),
    "split_mode": _numbered(SPLIT_MODES),
    "rope_scaling": _numbered(ROPE_SCALINGS),
    "mirostat": _numbered(MIROSTATS),
    "numa": _numa,
    "dtype": _dtype,
    "device_map": _device_map,
    "tensor_split": _joined,
    "max_memory": _memories,
    "stop": _lines,
}


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else "an object"


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "nothing" if value in (None, "") else str(value) if len(str(value)) <= 60 else "that text"
