"""The ctransformers package (September 2023): GGUF files of the llama family of that time, and the GGML files before.

The one backend that opens pre-GGUF files. Its Python layer overruns a buffer on multi-byte text, does not check the
context and seeds every token alike, so this module calls the package's C functions itself. The engine aborts the
process on files it does not know; `can_open` therefore judges the header first.
"""

from __future__ import annotations

import ctypes
import random
import secrets
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from webui.errors import BrokenPackage, Cancelled, EngineRefused, UnsupportedArchitecture
from webui.loaders.causes import import_failure, typed
from webui.loaders.contract import (
    Chunk,
    Finished,
    GenerationRequest,
    LoadedModel,
    Loader,
    LoaderSpec,
    ReportProgress,
)
from webui.loaders.ctransformers_files import GGML_TYPES, GgmlType, judge
from webui.loaders.cuda_driver import nvidia_gpus
from webui.loaders.parameters import Control, Group, Parameters
from webui.loaders.reply import PromptCount, check_fits, ignored_sampling, stream_reply
from webui.loaders.sampling import SamplingParameters
from webui.loaders.shared import (
    BatchSize,
    ContextSize,
    GpuLayers,
    Threads,
    UseMlock,
    UseMmap,
)
from webui.loaders.special_tokens import SpecialTokens, read_special_tokens
from webui.loaders.threads import choose_threads
from webui.models.facts import ModelFormat
from webui.models.gguf_facts import gguf_facts

TITLE = "ctransformers"
MOST_BATCH = 512  # the engine sizes its scratch memory for this
ALL_LAYERS = 1000  # the engine takes -1 for "no GPU", and any number beyond the last layer for all
FALLBACK_CONTEXT = 2048
SEED_BITS = 31  # the engine takes a signed 32-bit seed and replaces negative ones by the time of day
SAMPLERS = frozenset({"max_tokens", "temperature", "top_k", "top_p", "repeat_penalty", "repeat_last_n", "seed", "stop"})


class CtransformersParameters(Parameters):
    """All that the package's engine takes when it loads a model."""

    context_size: ContextSize = 4096
    gpu_layers: GpuLayers = -1
    threads: Threads = 0
    model_type: Annotated[
        GgmlType,
        Control(
            "Model type",
            "Architecture of an old GGML file, which does not name it itself. GGUF files do.",
            group=Group.BASIC,
            section="File",
        ),
    ] = "auto"
    batch_size: BatchSize = 64
    library: Annotated[
        Literal["auto", "basic", "avx", "avx2", "cuda"],
        Control(
            "Engine build",
            "Which of the package's compiled engines is used. auto takes CUDA for GPU layers where there is an NVIDIA "
            "GPU, else the fastest that this CPU can run.",
            section="Processor",
        ),
    ] = "auto"
    use_mmap: UseMmap = True
    use_mlock: UseMlock = False


class CtransformersLoader(Loader[CtransformersParameters]):
    """One model, one generation at a time; `_held` are the tokens whose keys and values the engine has, in order."""

    def __init__(self, facts: Any, parameters: CtransformersParameters) -> None:
        super().__init__(facts, parameters)
        self._lib: Any = None
        self._llm: Any = None  # the package's object; it frees the engine when it goes
        self._handle: Any = None
        self._held: list[int] = []
        self._special = SpecialTokens({})
        # The engine shares buffers between all its calls, so even a tokenisation has to wait for a token.
        self._lock = threading.Lock()

    def load(self, progress: ReportProgress) -> LoadedModel:
        verdict = judge(self.facts)
        if not verdict.ok:
            raise verdict.error("ctransformers cannot open this file.", cause=verdict.reason)
        if self.facts.format is ModelFormat.GGUF:
            # The engine maps the file without measuring it, and dies when it reads beyond its end.
            gguf_facts(self.facts.path)
        progress("Importing ctransformers", None)
        package = _import_engine()
        notes: list[str] = []
        library, gpus = self._choose_library(notes)
        gpu_layers = self._gpu_layers() if library == "cuda" else 0
        context_size = self._wanted_context()
        progress("Loading the weights", None)
        self._open(package, library, context_size, gpu_layers)
        if self.facts.format is ModelFormat.GGUF:
            self._special = read_special_tokens(self.facts.path)
        self._context_size = int(self._lib.ctransformers_llm_context_length(self._handle))
        if self._context_size <= 0:  # old architectures do not tell
            self._context_size = context_size
        if self.parameters.batch_size > MOST_BATCH:
            notes.append(f"The batch size is {MOST_BATCH}, the most this engine takes.")
        on_gpu = min(gpu_layers, self.facts.block_count + 1) if self.facts.block_count else gpu_layers
        return LoadedModel(
            context_size=self._context_size,
            device=f"{gpus[0]}, {on_gpu} layers" if gpu_layers else "CPU",
            device_kind="cuda" if gpu_layers else "cpu",
            engine="ctransformers",
            engine_version=_version(),
            gpu_layers=on_gpu,
            notes=tuple(notes),
        )

    def _open(self, package: Any, library: str | None, context_size: int, gpu_layers: int) -> None:
        config = package.Config(
            context_length=context_size,
            gpu_layers=gpu_layers,
            mmap=self.parameters.use_mmap,
            mlock=self.parameters.use_mlock,
        )
        try:
            self._llm = package.LLM(str(self.facts.path), self._model_type(), config=config, lib=library)
        except OSError as error:
            raise typed(TITLE, str(error).splitlines()) or BrokenPackage(
                f"The {library or 'chosen'} build of ctransformers does not start.",
                cause="Precompiled engines exist for x86 Linux and Windows, and for macOS without a GPU.",
                hint="Choose another engine build, or another loader.",
                evidence=[str(error)],
            ) from error
        except RuntimeError as error:
            raise EngineRefused(
                "ctransformers refused the file and gives no reason.",
                cause="It opens files as they were written until about October 2023.",
                hint="Load the file with a loader based on llama.cpp.",
                unknown=True,
            ) from error
        self._lib, self._handle = self._llm._lib, self._llm._llm

    def _model_type(self) -> str:
        """What the engine calls the file's architecture; for GGUF files it looks itself."""
        if self.facts.format is ModelFormat.GGUF:
            return "gguf"
        if self.parameters.model_type != "auto":
            return str(self.parameters.model_type)
        if self.facts.architecture in GGML_TYPES:
            return str(self.facts.architecture)
        raise UnsupportedArchitecture(
            "This GGML file does not say which architecture it holds.",
            hint="Choose the model type among the loader's controls; the file's name or source usually tells.",
        )

    def _wanted_context(self) -> int:
        trained = self.facts.context_length
        return self.parameters.context_size or trained or FALLBACK_CONTEXT

    def _gpu_layers(self) -> int:
        return ALL_LAYERS if self.parameters.gpu_layers < 0 else self.parameters.gpu_layers

    def _choose_library(self, notes: list[str]) -> tuple[str | None, tuple[str, ...]]:
        """The engine build to load (None leaves it to the package), and the GPUs it will use."""
        wanted = self.parameters.library
        if wanted not in ("auto", "cuda"):
            return wanted, ()
        gpus = nvidia_gpus() if self.parameters.gpu_layers else ()
        if gpus and _cuda_build_starts():
            return "cuda", gpus
        if gpus:
            notes.append(
                "The GPU is not used: the CUDA 12 runtime of ctransformers is missing (ctransformers[cuda] brings it)."
            )
        elif wanted == "cuda":
            notes.append("There is no NVIDIA GPU, or no layer was to go there; the model is on the CPU.")
        return _cpu_library(), ()

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        tokens: list[int] = []
        if add_bos and self._wants_bos():
            tokens.append(int(self._lib.ctransformers_llm_bos_token_id(self._handle)))
        for piece in self._special.cut(text):
            tokens.extend([piece] if isinstance(piece, int) else self._tokenize_plain(piece))
        return tokens

    def _wants_bos(self) -> bool:
        """As the file says; else as was usual: llama models have one, the others do not."""
        if self.facts.add_bos_token is not None:
            return self.facts.add_bos_token
        architecture = self.facts.architecture or self.parameters.model_type
        return architecture == "llama" if self.facts.format is ModelFormat.GGML else self.facts.tokenizer == "llama"

    def _tokenize_plain(self, text: str) -> list[int]:
        # A token stands for at least one byte, and the engine adds a space and perhaps a BOS token of its own.
        data = text.replace("\0", "\ufffd").encode("utf-8", errors="replace")
        tokens = (ctypes.c_int * (len(data) + 8))()
        with self._lock:
            count = self._lib.ctransformers_llm_tokenize(self._handle, data, False, tokens)
        if not 0 <= count <= len(tokens):
            raise EngineRefused("The engine could not tokenise the text.", cause=f"its answer was {count}")
        return tokens[:count]

    def generate(self, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        prompt = self.tokenize(request.prompt, add_bos=True)
        check_fits(len(prompt), self._context_size)
        count = PromptCount(len(prompt), self._keep_prefix(prompt), self._context_size - len(prompt))
        ignored = ignored_sampling(request.sampling, SAMPLERS)
        yield from stream_reply(self._tokens(prompt, request.sampling, cancelled), request, count, cancelled, ignored)

    def _keep_prefix(self, tokens: Sequence[int]) -> int:
        """How many tokens of the prompt the engine has already; positions are explicit, so the rest is overwritten."""
        limit = min(len(tokens) - 1, len(self._held))
        common = next((place for place in range(limit) if self._held[place] != tokens[place]), limit)
        del self._held[common:]
        return common

    def _tokens(
        self, prompt: Sequence[int], sampling: SamplingParameters, cancelled: threading.Event
    ) -> Generator[bytes | None, None, None]:
        """What each new token says; None for the one that ends the reply."""
        seeds = random.Random(sampling.seed if sampling.seed >= 0 else secrets.randbits(64))
        batch = min(self.parameters.batch_size, MOST_BATCH)
        threads = choose_threads(self.parameters.threads)
        for start in range(len(self._held), len(prompt), batch):
            if cancelled.is_set():
                raise Cancelled("The prompt was cancelled.")
            self._evaluate(prompt[start : start + batch], batch, threads)
        while True:
            token = self._sample(sampling, seeds.getrandbits(SEED_BITS))
            if self._ends(token):
                break
            yield self._piece(token)
            self._evaluate([token], batch, threads)
        yield None

    def _evaluate(self, tokens: Sequence[int], batch: int, threads: int) -> None:
        data = (ctypes.c_int * len(tokens))(*tokens)
        with self._lock:
            done = self._lib.ctransformers_llm_batch_eval(
                self._handle, data, len(tokens), len(self._held), batch, threads
            )
        if not done:
            self._held.clear()
            raise EngineRefused("ctransformers failed while computing and gives no reason.", unknown=True)
        self._held.extend(tokens)

    def _sample(self, wanted: SamplingParameters, seed: int) -> int:
        """Choose from the last logits. The engine starts its generator anew on each call, hence a seed for each."""
        window = len(self._held) if wanted.repeat_last_n < 0 else wanted.repeat_last_n
        recent = self._held[-window:] if window else []
        greedy = wanted.temperature <= 0
        with self._lock:
            return int(
                self._lib.ctransformers_llm_sample(
                    self._handle,
                    (ctypes.c_int * len(recent))(*recent),
                    len(recent),
                    1 if greedy else wanted.top_k or self._lib.ctransformers_llm_vocab_size(self._handle),
                    1.0 if greedy else wanted.top_p,
                    1.0 if greedy else wanted.temperature,
                    wanted.repeat_penalty,
                    seed,
                )
            )

    def _ends(self, token: int) -> bool:
        with self._lock:
            final = bool(self._lib.ctransformers_llm_is_eos_token(self._handle, token))
        return final or token in self._special.turn_ends

    def _piece(self, token: int) -> bytes:
        if token in self._special.shown:
            return self._special.shown[token].encode()
        with self._lock:
            return bytes(self._lib.ctransformers_llm_detokenize(self._handle, token))

    def close(self) -> None:
        with self._lock:
            self._llm = self._handle = None


def _import_engine() -> Any:
    try:
        from ctransformers import llm
    except (ImportError, OSError, RuntimeError) as error:
        raise import_failure(TITLE, error) from error
    return llm


def _version() -> str:
    from importlib import metadata

    return metadata.version("ctransformers")


def _cuda_build_starts() -> bool:
    """Whether the package's CUDA engine finds the CUDA runtime."""
    from ctransformers.lib import find_library, load_cuda

    try:
        path = find_library("cuda", gpu=True)
        load_cuda()
        ctypes.CDLL(path)
    except OSError:
        return False
    return True


def _cpu_library() -> str | None:
    """The build for this CPU. On Linux the kernel tells; elsewhere the package looks itself, which takes a second."""
    if sys.platform != "linux":
        return None
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    if "avx2" in flags and "fma" in flags and "f16c" in flags:
        return "avx2"
    if "avx" in flags and "f16c" in flags:
        return "avx"
    return "basic" if flags else None


SPEC = LoaderSpec(
    name="ctransformers",
    title=TITLE,
    summary="Opens llama models of 2023, as GGUF and in the older GGML formats; small, with nothing to compile.",
    parameters=CtransformersParameters,
    loader=CtransformersLoader,
    formats=frozenset({ModelFormat.GGUF, ModelFormat.GGML}),
    devices=("cpu", "cuda"),
    samplers=SAMPLERS,
    can_open=judge,
    distributions=("ctransformers",),
    requirements="ctransformers.txt",
    safe_steps=({"gpu_layers": 0, "library": "basic"}, {"use_mmap": False}),
    cpu_parameters={"gpu_layers": 0},
)
