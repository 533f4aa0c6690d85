"""What a loader is: the specification the app reads and the class the worker process runs.

A backend is one file in `webui/loaders/` that defines three things and one line in `webui/loaders/__init__.py`:

    class ToyParameters(Parameters): ...          the controls
    class ToyLoader(Loader[ToyParameters]): ...   the engine; imported engine libraries only inside its methods
    SPEC = LoaderSpec(name="toy", …)              what it can open and what it needs

The parent process imports the file for its `SPEC` and never calls the `Loader`; the worker does nothing else.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Literal, TypeVar

from webui.errors import AppError, InvalidRequest, UnsupportedFormat
from webui.loaders.parameters import Parameters
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import ModelFacts, ModelFormat

P = TypeVar("P", bound=Parameters)

FinishReason = Literal["stop", "length", "cancelled"]
ReportProgress = Callable[[str, "float | None"], None]
"""Called with (what is happening, share done 0 … 1 or None where it is not known)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something can be done, and one sentence why or why not.

    `converts` is true when the loader opens the file only by rewriting it in memory (slower, larger); such a loader is
    ranked behind those that open it as it is. `error` is what a refusal of the file counts as.
    """

    ok: bool
    reason: str
    converts: bool = False
    error: type[AppError] = UnsupportedFormat


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether the backend's parts are on this machine. `version` is that of its main package or executable. `hint` says
    how to get them where the app cannot install them.
    """

    ok: bool
    reason: str
    version: str | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What the engine says of the model it loaded.

    `device` is what a person reads ("CPU", "NVIDIA RTX 4090, 33/33 layers"); `device_kind` is one of cpu, cuda, rocm,
    vulkan, metal, mps, xpu, other. `slots` is how many jobs run at once. `notes` are things done differently from what
    was asked, one sentence each (shown on the page).
    """

    context_size: int
    device: str
    device_kind: str
    engine: str
    engine_version: str
    slots: int = 1
    gpu_layers: int | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LoadedModel:
        return cls(**{**data, "notes": tuple(data.get("notes", ()))})


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One text to continue.

    `prompt` is the final text: the template is already rendered, special tokens stand in it as text and are parsed as
    such, and it never begins with the BOS token, which the loader's tokenizer adds where the model wants one.
    `cache_key` names the conversation, so that an engine with several slots can return to the one that knows its
    prefix.
    """

    prompt: str
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    stop: tuple[str, ...] = ()
    cache_key: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Text that one or more new tokens add; it may be empty while a character or a stop string is incomplete."""

    text: str
    tokens: int = 1


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a generation, always the last event. Times are seconds, measured in the worker.

    `prompt_seconds` runs from the engine's start on the prompt to its first token. `cached_tokens` of the
    `prompt_tokens` came from the engine's prompt cache.
    """

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    prompt_seconds: float
    generation_seconds: float
    cached_tokens: int = 0
    stop_string: str | None = None
    ignored_sampling: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Loader(ABC, Generic[P]):
    """One engine holding at most one model. Lives in a worker process.

    `load` is called once, before anything else; `generate` and `tokenize` only after it. `generate` is called from as
    many threads at once as `LoadedModel.slots` says, and no more; `tokenize` may be called at any time. Methods raise
    errors of `webui.errors`; anything else that escapes is read with the table of symptoms (`webui.loaders.causes`).
    """

    died: Callable[[AppError], None] = staticmethod(lambda error: None)
    """To be called when the engine has ended by itself (a child process of it): the worker tells it and ends too."""

    def __init__(self, facts: ModelFacts, parameters: P) -> None:
        self.facts = facts
        self.parameters = parameters

    @abstractmethod
    def load(self, progress: ReportProgress) -> LoadedModel:
        """Open the model. Called once."""

    @abstractmethod
    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        """Token ids of `text`, special tokens parsed. `add_bos` adds the BOS token if the model wants one."""

    @abstractmethod
    def generate(self, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        """Continue `request.prompt`: chunks as they come, then one `Finished`.

        Checks first that the prompt fits the context and raises `ContextTooLong` otherwise (facts: `prompt_tokens`,
        `context_size`). Ends within a token's time of `cancelled` being set, with reason `cancelled`. Stop strings are
        not part of the text.
        """

    def dry_run(self) -> None:
        """Let the engine plan the load without doing it, and print its log; instead of `load`, in a process of its own.

        For `webui.loaders.dry_run`. A loader that does not define it has no dry run.
        """
        raise InvalidRequest("This loader cannot plan a load without making it.")

    def close(self) -> None:
        """Let go of what the process's end would not: child processes, temporary files. May be called twice."""


def one_job(parameters: Any) -> int:
    """For engines that run one generation at a time."""
    return 1


@dataclass(frozen=True)
class LoaderSpec:
    """What the app knows of a backend without importing its engine.

    `distributions` are the installable packages it needs, the main one first; `requirements` is the file under
    `requirements/` that `setup` installs (empty when there is nothing to install). `devices` are the device kinds
    the engine has builds for. `samplers` are the fields of `SamplingParameters` the engine honours. `can_open` judges a
    file by its facts; `find` says whether the backend is there (given the file, since a llamafile brings its own
    engine, and the parameters, which may name an executable). `slots` is how many jobs the engine will run at once
    under given parameters.
    """

    name: str
    title: str
    summary: str
    parameters: type[Parameters]
    loader: type[Loader[Any]]
    formats: frozenset[ModelFormat]
    devices: tuple[str, ...]
    samplers: frozenset[str]
    can_open: Callable[[ModelFacts], Verdict]
    distributions: tuple[str, ...] = ()
    requirements: str = ""
    find: Callable[[LoaderSpec, ModelFacts | None, Mapping[str, Any]], Availability] | None = None
    slots: Callable[[Any], int] = one_job
    safe_steps: tuple[Mapping[str, Any], ...] = ()
    """What to change after a native crash, one step after the other, each on top of those before it: the likeliest cure
    first, so that nothing is given up for nothing. Slower, and known not to crash."""
    cpu_parameters: Mapping[str, Any] = field(default_factory=dict)
    """What to set so that no GPU is used; empty where the engine has none."""
    cache_grows: bool = False
    """The KV cache takes memory as a conversation grows, not all of it at once."""
    logits_of_all: bool = True
    """While it reads a prompt, the engine has room for the logits of every token of a batch, not of the last alone."""
    engine_bytes: int = 48 * 1024 * 1024
    """What the worker process and the engine's libraries take before there is a model."""
    token_bytes: int = 180
    """What its tables take for each token of a vocabulary, and as much again for each merge of a byte-pair one."""
    weight_bytes: Callable[[ModelFacts, Mapping[str, Any], bool], int | None] | None = None
    """For an engine that does not hold weights as they are stored: bytes of them in memory, given the parameters and
    whether there is a GPU; `None` where the file does not tell."""

    @property
    def has_dry_run(self) -> bool:
        """Whether the engine can plan a load without doing it."""
        return self.loader.dry_run is not Loader.dry_run

    ALL_SAMPLERS: ClassVar[frozenset[str]] = frozenset(SamplingParameters.model_fields)

    @property
    def safe_parameters(self) -> dict[str, Any]:
        """All the safe steps together."""
        return {name: value for step in self.safe_steps for name, value in step.items()}

    def availability(
        self, facts: ModelFacts | None = None, parameters: Mapping[str, Any] = MappingProxyType({})
    ) -> Availability:
        """Whether this backend could run `facts` (or anything) here with `parameters`, without importing its engine."""
        if self.find is not None:
            return self.find(self, facts, parameters)
        return installed(self)


def installed(spec: LoaderSpec) -> Availability:
    """Look the packages of `spec` up among the installed distributions. Cheap, and sees new installs at once."""
    version = None
    for distribution in spec.distributions:
        try:
            found = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            return Availability(False, f"{distribution} is not installed")
        version = version or found
    return Availability(True, "installed", version)
