"""Which of the older forms a file has: told by its keys, since people mix, cut and rename files.

Every key is read by what it is, whatever the form; the form is what the plan calls the file, and decides whether
`backend_config.json` in the app's home is an older one that is written anew, or the app's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from webui.settings.backend_config import TOP_KEYS


class Form(StrEnum):
    """What a file is called in the plan."""

    APP = "settings of the app"
    BACKEND_SET = "set of backends"
    FLAT = "flat settings"
    PRESENT = "backends in the present form"
    CHATS = "chats"
    MODELS = "list of models"
    SPEEDS = "measured speeds"
    UNKNOWN = "unknown"


APP_KEYS = frozenset(
    [
        "theme",
        "window_size",
        "window_position",
        "window_maximized",
        "default_model_dir",
        "recent_models",
        "max_recent_models",
        "log_level",
        "use_hardware_acceleration",
        "max_memory_usage",
        "default_temperature",
        "default_max_tokens",
        "default_system_prompt",
        "ai_settings",
        "backend_config_path",
        "auto_optimize_backends",
        "backend_switching_mode",
        "addon_dir",
    ]
)
SET_KEYS = frozenset(("preferences", "backend_configs", "hardware_overrides", "custom_fallback_order"))
OLDER_IN_ENTRY = frozenset(("name", "custom_args", "gpu_enabled"))
"""What a backend had in the older set and has no more."""
FLAT_KEYS = frozenset(
    [
        "model_path",
        "n_gpu_layers",
        "n_ctx",
        "n_batch",
        "n_threads",
        "use_mlock",
        "use_mmap",
        "use_gpu",
        "args",
        "custom_args",
        "backend",
        "gpu_layers",
        "context_size",
        "batch_size",
        "threads",
        "backend_preference",
        "model_directory",
        "addon_settings",
    ]
)


def form_of(content: Any) -> Form:
    """The form of a configuration; `UNKNOWN` where none of its keys is known."""
    if not isinstance(content, dict):
        return Form.UNKNOWN
    keys = {plain_name(key) for key in content}
    if keys & SET_KEYS or (not keys & APP_KEYS and _older_entries(content)):
        return Form.BACKEND_SET
    if keys & APP_KEYS:
        return Form.APP
    if keys & FLAT_KEYS:
        return Form.FLAT
    if keys & set(TOP_KEYS) or isinstance(content.get("backends"), dict):
        return Form.PRESENT
    return Form.UNKNOWN


def version_of(content: Any) -> str:
    """The version a file gives itself, "" where it gives none."""
    version = content.get("version") if isinstance(content, dict) else None
    return version if isinstance(version, str) and len(version) <= 20 else ""


def is_older(content: Any) -> bool:
    """Whether `content`, found at the place of the app's own `backend_config.json`, is one of an older form."""
    return form_of(content) not in (Form.PRESENT, Form.UNKNOWN)


def present_part(content: Mapping[str, Any]) -> dict[str, Any]:
    """What in an older `backend_config.json` is of the present form: the app itself has written it there since.

    Backends under `backends` are so only where the older set keeps its own under `backend_configs`.
    """
    part = {key: content[key] for key in TOP_KEYS if key in content}
    if "backend_configs" in content or not _older_entries(content):
        part |= {key: content[key] for key in ("backends",) if isinstance(content.get(key), dict)}
    return part


def plain_name(name: Any) -> str:
    """A key as it is looked up: lower case, with underscores."""
    return str(name).strip().lower().lstrip("-").replace("-", "_").replace(" ", "_")


def _older_entries(content: Mapping[str, Any]) -> bool:
    backends = content.get("backends")
    if isinstance(content.get("backend_configs"), dict):
        return True
    if not isinstance(backends, dict):
        return False
    return any(OLDER_IN_ENTRY & set(entry) for entry in backends.values() if isinstance(entry, dict))
