"""One frozen `Settings`, layered from files, environment and command line; every value knows where it came from.

groups           what can be set, declared
declared         the table of all keys, and the check of one value
layers           the places values come from, and what a wrong value does in each
reading          the text of a file, and what YAML makes of it
backend_config   the form of backend_config.json
last_good        the last good copy of each file, and what becomes of a broken one
model            the merged settings
store            saving them, and what is remembered per model
watch            noticing that somebody else saved
"""

from webui.settings.declared import Declared
from webui.settings.groups import (
    GROUPS,
    BackendSettings,
    ChatSettings,
    Effect,
    ExtensionSettings,
    GeneralSettings,
    HardwareSettings,
    LimitSettings,
    ModelsSettings,
    ServerSettings,
    SetupSettings,
)
from webui.settings.model import Backends, Settings
from webui.settings.store import ModelSettings, SettingsStore, restore_last_good

__all__ = [
    "GROUPS",
    "BackendSettings",
    "Backends",
    "ChatSettings",
    "Declared",
    "Effect",
    "ExtensionSettings",
    "GeneralSettings",
    "HardwareSettings",
    "LimitSettings",
    "ModelSettings",
    "ModelsSettings",
    "ServerSettings",
    "Settings",
    "SettingsStore",
    "SetupSettings",
    "restore_last_good",
]
