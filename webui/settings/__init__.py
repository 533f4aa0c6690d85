"""One frozen `Settings`, layered from files, environment and command line; every value knows where it came from.

groups           what can be set, declared
declared         the table of all keys, and the check of one value
layers           the places values come from, and what a wrong value does in each
backend_config   the form of backend_config.json
model            the merged settings
store            saving them, and what is remembered per model
"""

from webui.settings.declared import Declared
from webui.settings.groups import (
    GROUPS,
    BackendSettings,
    ChatSettings,
    ExtensionSettings,
    GeneralSettings,
    HardwareSettings,
    LimitSettings,
    ModelsSettings,
    ServerSettings,
)
from webui.settings.model import Backends, Settings
from webui.settings.store import ModelSettings, SettingsStore

__all__ = [
    "GROUPS",
    "BackendSettings",
    "Backends",
    "ChatSettings",
    "Declared",
    "ExtensionSettings",
    "GeneralSettings",
    "HardwareSettings",
    "LimitSettings",
    "ModelSettings",
    "ModelsSettings",
    "ServerSettings",
    "Settings",
    "SettingsStore",
]
