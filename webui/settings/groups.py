"""The settings, declared: name, meaning, unit, bounds and default of each.

`settings.yaml`, the environment variables, the page and docs/settings.md are all drawn from here. A loader's own
parameters are not here; they are declared in that loader's file and set under `loaders.<name>`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from webui.loaders.parameters import Control, Group, Parameters
from webui.settings.indexes import checked_indexes
from webui.settings.profiles import BUILT_IN, Profile, checked_profiles, read_profile


class Secret:
    """Marks a field whose value is never shown: not in a message, a log, a `repr` or the page."""


class Protects:
    """Marks a field that keeps strangers out. The app does not start with a wrong value of one left aside."""


class Effect(StrEnum):
    """Marks a field with the moment from which a change of it holds."""

    NOW = "now"
    NEXT_LOAD = "next load"
    RESTART = "restart"


def split_commas(value: Any) -> Any:
    """A list may also be written as one text with commas, which is how the environment and a text box give it."""
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


def empty_is_none(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


Names = Annotated[tuple[str, ...], BeforeValidator(split_commas)]
Indexes = Annotated[tuple[str, ...], BeforeValidator(split_commas), AfterValidator(checked_indexes)]
Profiles = Annotated[tuple[str, ...], BeforeValidator(split_commas), AfterValidator(checked_profiles)]
Folder = Annotated[Path | None, BeforeValidator(empty_is_none)]
OptionalText = Annotated[str | None, BeforeValidator(empty_is_none)]


class GeneralSettings(Parameters):
    """Stand at the top of the file, in no section."""

    debug: Annotated[
        bool,
        Effect.NOW,
        Control("Debug", "Logs every step and prints tracebacks of unexpected errors.", group=Group.BASIC),
    ] = False


class ServerSettings(Parameters):
    host: Annotated[
        str,
        Field(min_length=1, max_length=255),
        Protects(),
        Effect.RESTART,
        Control(
            "Host",
            "The address the server listens on. Anything beyond this machine needs auth and api_key.",
            group=Group.BASIC,
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Field(ge=0, le=65_535),
        Effect.RESTART,
        Control("Port", "The port the server listens on. 0 takes any free one.", group=Group.BASIC),
    ] = 7860
    share: Annotated[
        bool,
        Protects(),
        Effect.RESTART,
        Control("Share", "Asks Gradio for a public address. Needs auth and api_key, and the network."),
    ] = False
    auth: Annotated[
        str,
        Field(repr=False, pattern=r"^$|^[^:]+:.+$"),
        Secret(),
        Protects(),
        Effect.RESTART,
        Control("Login", "Name and password for the page, as user:password. Empty asks for none."),
    ] = ""
    api_key: Annotated[
        str,
        Field(repr=False),
        Secret(),
        Protects(),
        Effect.RESTART,
        Control("API key", "Clients of the API send it as a bearer token. Empty asks for none."),
    ] = ""
    allowed_hosts: Annotated[
        Names,
        Protects(),
        Effect.RESTART,
        Control(
            "Allowed hosts",
            "Host names the server answers to besides its own; others are refused, which stops DNS rebinding.",
        ),
    ] = ()
    open_browser: Annotated[
        bool,
        Effect.RESTART,
        Control(
            "Open the browser",
            "Opens the page once the server answers, when it is started from a terminal on this machine's own screen.",
            group=Group.BASIC,
        ),
    ] = True


class BackendSettings(Parameters):
    preferred_backend: Annotated[
        str,
        Field(min_length=1),
        Effect.NEXT_LOAD,
        Control(
            "Preferred backend",
            "auto chooses for each model; a backend's name always takes that one.",
            group=Group.BASIC,
        ),
    ] = "auto"
    gpu_enabled: Annotated[
        bool,
        Effect.NEXT_LOAD,
        Control("Use the GPU", "false keeps every model on the CPU.", group=Group.BASIC),
    ] = True
    fallback_enabled: Annotated[
        bool,
        Effect.NEXT_LOAD,
        Control("Fall back", "Tries the next suitable backend when one fails to load a model.", group=Group.BASIC),
    ] = True
    fallback_order: Annotated[
        Names,
        Effect.NEXT_LOAD,
        Control("Order", "Backends in the order they are tried. Those not named come after, in the usual order."),
    ] = ()
    disabled: Annotated[
        Names,
        Effect.NEXT_LOAD,
        Control("Switched off", "Backends that are never chosen automatically."),
    ] = ()


class HardwareSettings(Parameters):
    gpus: Annotated[
        Names,
        Effect.NEXT_LOAD,
        Control(
            "GPUs",
            "GPUs that models may use: by uuid, place on the bus, vendor and number as nvidia:0, or number alone. "
            "Empty is all of them.",
            group=Group.BASIC,
        ),
    ] = ()
    profiles: Annotated[
        Profiles,
        Effect.NEXT_LOAD,
        Control(
            "Hardware profiles",
            "Named choices, each as NAME = all, cpu or GPUs with spaces between them (the first is the main GPU), then "
            "perhaps split 3:1, the share of each GPU.",
        ),
    ] = ()
    profile: Annotated[
        str,
        Effect.NEXT_LOAD,
        Control(
            "Hardware profile in use",
            "all, quiet (the processor alone) or a name from profiles. Empty follows the GPUs named above.",
            group=Group.BASIC,
        ),
    ] = ""

    def known(self) -> tuple[Profile, ...]:
        """The profiles that there always are, and the user's own."""
        return (*BUILT_IN, *(read_profile(line) for line in self.profiles))

    def in_use(self) -> Profile:
        """The chosen profile; without one, or with one that is not there any more, the GPUs named in `gpus`."""
        named = Profile("", self.gpus)
        return next((one for one in self.known() if one.name == self.profile), named)


class ModelsSettings(Parameters):
    directory: Annotated[
        Folder,
        Effect.NOW,
        Control(
            "Models folder",
            "The folder whose models are listed. Empty is the folder models in the app's home.",
            group=Group.BASIC,
            local=True,
        ),
    ] = None
    files: Annotated[
        Names,
        Effect.NOW,
        Control("Further models", "Paths of models outside the models folder that are listed as well."),
    ] = ()
    default_model: Annotated[
        OptionalText,
        Effect.RESTART,
        Control("Model at start", "Name or path of the model that is loaded at start.", group=Group.BASIC, local=True),
    ] = None
    starter: Annotated[
        bool,
        Effect.RESTART,
        Control("Starter model", "Fetches a small model on the first start, so that there is one to talk to."),
    ] = True


class LimitSettings(Parameters):
    queue_length: Annotated[
        int,
        Field(ge=1, le=10_000),
        Effect.NEXT_LOAD,
        Control("Queue length", "Generations that may wait; further ones are asked to come again.", unit="jobs"),
    ] = 32
    start_timeout_seconds: Annotated[
        float,
        Field(ge=1, le=3600),
        Effect.NEXT_LOAD,
        Control("Start time-out", "How long a worker process may take until it answers.", unit="s"),
    ] = 120
    silence_timeout_seconds: Annotated[
        float,
        Field(ge=1, le=86_400),
        Effect.NEXT_LOAD,
        Control("Silence time-out", "How long an engine may produce nothing while it generates.", unit="s"),
    ] = 120
    load_timeout_seconds: Annotated[
        float,
        Field(ge=1, le=86_400),
        Effect.NEXT_LOAD,
        Control("Load time-out", "How long loading a model may take.", unit="s"),
    ] = 600
    worker_memory_mib: Annotated[
        int,
        Field(ge=0, le=16_777_216),
        Effect.NEXT_LOAD,
        Control(
            "Worker memory",
            "How much each process of an engine may take for caches, buffers and unpacked weights, on Linux. Weights "
            "that are mapped from their file do not count. 0 sets no limit.",
            unit="MiB",
        ),
    ] = 0


class ChatSettings(Parameters):
    default_preset: Annotated[
        str,
        Field(min_length=1),
        Effect.NOW,
        Control("Preset", "Sampling preset of new conversations; see presets/.", group=Group.BASIC),
    ] = "balanced"
    system_prompt: Annotated[
        str,
        Effect.NOW,
        Control("System prompt", "What new conversations tell the model first.", group=Group.BASIC, lines=4),
    ] = ""
    updates_per_second: Annotated[
        float,
        Field(ge=1, le=60),
        Effect.NOW,
        Control("Updates", "How often a reply is redrawn while it grows. More makes the browser slower.", unit="1/s"),
    ] = 20
    shown_messages: Annotated[
        int,
        Field(ge=2, le=1000),
        Effect.NOW,
        Control("Shown messages", "Latest messages of a conversation on the page; earlier ones are a click away."),
    ] = 40


class SetupSettings(Parameters):
    wheels: Annotated[
        Folder,
        Effect.NOW,
        Control(
            "Folder of wheels",
            "Backends are installed from the wheels in this folder alone, without a network. Empty uses the package "
            "index that pip is set to.",
            local=True,
        ),
    ] = None
    indexes: Annotated[
        Indexes,
        Effect.NOW,
        Control(
            "Makers' indexes",
            "Where builds for GPUs come from, as PACKAGE=ADDRESS; {build} in it becomes the build's name, as cu126. "
            "Packages that are installed name their own.",
            local=True,
        ),
    ] = ()


class ExtensionSettings(Parameters):
    enabled: Annotated[
        bool,
        Effect.RESTART,
        Control("Extensions", "false starts without any extension.", group=Group.BASIC),
    ] = True
    disabled: Annotated[
        Names,
        Effect.RESTART,
        Control("Switched off", "Extensions that are found and not loaded."),
    ] = ()


GROUPS: dict[str, type[Parameters]] = {
    "server": ServerSettings,
    "backends": BackendSettings,
    "hardware": HardwareSettings,
    "models": ModelsSettings,
    "limits": LimitSettings,
    "chat": ChatSettings,
    "setup": SetupSettings,
    "extensions": ExtensionSettings,
}
"""Section of the file → its declaration, in the order they are written."""
