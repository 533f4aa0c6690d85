"""Everything that can go wrong, as one tree.

    AppError
    ├── InstallationError     something is not installed, or not properly
    │   ├── MissingPackage        a backend's package or executable is absent
    │   ├── BrokenPackage         it is there, and does not import or start
    │   ├── IncompatibleDriver    the GPU driver is older than the engine needs
    │   └── SetupFailed           an installation or download did not finish
    │       ├── NoSpace               the disk has too little room for it
    │       ├── NoNetwork             the package index cannot be reached
    │       ├── DamagedDownload       what was fetched is not the expected file, or not whole
    │       ├── NoWheel               there is no build of it for this Python and system
    │       ├── NoCompiler            it has to be compiled, and a tool for that is missing
    │       ├── CompilationFailed
    │       ├── PackageConflict       packages that are asked for exclude each other
    │       ├── NotPermitted          the environment's folder may not be written to
    │       ├── UnsuitedPython        this Python is too new, too old, or not one pip may change
    │       ├── PipMissing
    │       └── ValidationFailed      it was installed and could not run a model; the version before is back
    ├── HardwareError         the machine cannot do what was asked, or stopped doing it
    │   ├── DeviceOutOfMemory     a GPU's memory does not suffice
    │   ├── HostOutOfMemory       the machine's memory does not suffice
    │   ├── EngineCrashed         the worker process died (exit status or signal is in the facts)
    │   ├── EngineGarbled         the worker answers what is not its protocol; it was ended
    │   ├── EngineHung            the worker is alive and silent for too long
    │   ├── PortTaken             somebody else listens on the port
    │   ├── StorageFailed         a disk is full, read-only or unreadable, or no more files can be opened
    │   └── TimedOut              a bounded step took longer than its bound
    ├── ModelError            this file, or what was asked of it
    │   ├── ModelNotFound
    │   ├── CorruptFile           the header or the tensors contradict the file
    │   ├── UnsupportedFormat     no known model format, or not one this loader opens
    │   ├── UnsupportedArchitecture
    │   ├── UnsupportedTokenizer
    │   ├── UnsupportedQuantization
    │   ├── EngineRefused         the engine said no, and its reason is none of the above
    │   ├── ContextTooLong        prompt and reply do not fit the context
    │   ├── NotLoaded             a job was asked for and no model is loaded
    │   └── TemplateFailed        the chat template does not render these messages
    └── ConfigurationError    a setting, a request or a file of ours is wrong
        ├── InvalidSetting        a value outside what its declaration allows
        ├── InvalidRequest        a request to the API that cannot be understood
        ├── NotFound              a preset, conversation, job … of that name does not exist
        ├── AccessDenied          host, key or login missing or wrong
        ├── Busy                  the queue is full; try again later
        └── Cancelled             somebody asked for it to stop

Each error carries one sentence for a person (`message`), why (`cause`), what to do next (`hint`), the lines that prove
it (`evidence`) and machine-readable `facts`. It is mapped once at each edge: the page, the API, the exit status.
It crosses the process boundary as a dictionary (`to_dict`, `from_dict`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from webui.remedies import REMEDIES, hint_of

EVIDENCE_LINES = 40
"""How many of the last lines are kept: enough for an engine's own account, small enough for a page."""


LONGEST_SENTENCE = 600
LONGEST_LINE = 4000


def _shown(text: str, longest: int) -> str:
    """`text` as one line that any terminal and page can show: it may quote a file, a program or a stranger."""
    line = "".join(sign if sign.isprintable() or sign == "\t" else " " for sign in text[: longest + 1])
    return line if len(line) <= longest else line[: longest - 1] + "…"


class AppError(Exception):
    """Root of the tree. `code` is the class's stable name for programs, `category` its branch.

    `default_hint` comes from the table of remedies; a class declared in another room, which has no entry there, may
    give its own.
    """

    category: ClassVar[str] = "application"
    code: ClassVar[str] = "application_error"
    default_hint: ClassVar[str] = hint_of(code)
    _by_code: ClassVar[dict[str, type[AppError]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" in vars(cls):
            AppError._by_code[cls.code] = cls
        if "default_hint" not in vars(cls) and cls.code in REMEDIES:
            cls.default_hint = hint_of(cls.code)

    def __init__(
        self,
        message: str,
        *,
        cause: str = "",
        hint: str = "",
        evidence: Iterable[str] = (),
        **facts: Any,
    ) -> None:
        self.message = _shown(message, LONGEST_SENTENCE)
        super().__init__(self.message)
        self.cause = _shown(cause, LONGEST_LINE)
        self.hint = hint or self.default_hint
        self.evidence = tuple(_shown(line, LONGEST_LINE) for line in tuple(evidence)[-EVIDENCE_LINES:])
        self.facts: dict[str, Any] = facts

    def concerning(self, backend: str) -> Self:
        """The same error; where its hint leaves the name of the backend open, it is this one."""
        self.hint = self.hint.replace("setup NAME", f"setup {backend}")
        return self

    def to_dict(self) -> dict[str, Any]:
        """The error as plain JSON types; `from_dict` is the inverse."""
        return {
            "code": self.code,
            "category": self.category,
            "message": self.message,
            "cause": self.cause,
            "hint": self.hint,
            "evidence": list(self.evidence),
            "facts": self.facts,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> AppError:
        """Rebuild an error from `to_dict`; a code unknown here becomes a plain `AppError`."""
        kind = AppError._by_code.get(str(data.get("code")), AppError)
        error = kind(
            str(data.get("message", "")),
            cause=str(data.get("cause", "")),
            hint=str(data.get("hint", "")),
            evidence=[str(line) for line in data.get("evidence", ())],
        )
        error.facts = dict(data.get("facts", {}))
        return error


class InstallationError(AppError):
    category = "installation"
    code = "installation_error"


class MissingPackage(InstallationError):
    code = "missing_package"


class BrokenPackage(InstallationError):
    code = "broken_package"


class IncompatibleDriver(InstallationError):
    code = "incompatible_driver"


class SetupFailed(InstallationError):
    code = "setup_failed"


class NoSpace(SetupFailed):
    code = "no_space"


class NoNetwork(SetupFailed):
    code = "no_network"


class DamagedDownload(SetupFailed):
    code = "damaged_download"


class NoWheel(SetupFailed):
    code = "no_wheel"


class NoCompiler(SetupFailed):
    code = "no_compiler"


class CompilationFailed(SetupFailed):
    code = "compilation_failed"


class PackageConflict(SetupFailed):
    code = "package_conflict"


class NotPermitted(SetupFailed):
    code = "not_permitted"


class UnsuitedPython(SetupFailed):
    code = "unsuited_python"


class PipMissing(SetupFailed):
    code = "pip_missing"


class ValidationFailed(SetupFailed):
    code = "validation_failed"


class HardwareError(AppError):
    category = "hardware"
    code = "hardware_error"


class DeviceOutOfMemory(HardwareError):
    code = "device_out_of_memory"


class HostOutOfMemory(HardwareError):
    code = "host_out_of_memory"


class EngineCrashed(HardwareError):
    code = "engine_crashed"


class EngineGarbled(HardwareError):
    code = "engine_garbled"


class EngineHung(HardwareError):
    code = "engine_hung"


class PortTaken(HardwareError):
    code = "port_taken"


class StorageFailed(HardwareError):
    code = "storage_failed"


class TimedOut(HardwareError):
    code = "timed_out"


class ModelError(AppError):
    category = "model"
    code = "model_error"


class ModelNotFound(ModelError):
    code = "model_not_found"


class CorruptFile(ModelError):
    code = "corrupt_file"


class UnsupportedFormat(ModelError):
    code = "unsupported_format"


class UnsupportedArchitecture(ModelError):
    code = "unsupported_architecture"


class UnsupportedTokenizer(ModelError):
    code = "unsupported_tokenizer"


class UnsupportedQuantization(ModelError):
    code = "unsupported_quantization"


class EngineRefused(ModelError):
    code = "engine_refused"


class ContextTooLong(ModelError):
    code = "context_too_long"


class NotLoaded(ModelError):
    code = "not_loaded"


class TemplateFailed(ModelError):
    code = "template_failed"


class ConfigurationError(AppError):
    category = "configuration"
    code = "configuration_error"


class InvalidSetting(ConfigurationError):
    code = "invalid_setting"


class InvalidRequest(ConfigurationError):
    code = "invalid_request"


class NotFound(ConfigurationError):
    code = "not_found"


class AccessDenied(ConfigurationError):
    code = "access_denied"


class Busy(ConfigurationError):
    code = "busy"


class Cancelled(ConfigurationError):
    code = "cancelled"


def tree() -> tuple[type[AppError], ...]:
    """Every class of the tree as it is drawn above, each before those beneath it."""
    return tuple(kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, AppError))
