"""llama.cpp in the worker process, through the llama-cpp-python package.

For people who have that package already, perhaps compiled for their own GPU. One generation at a time; the cache keeps
the tokens of the previous one, so that a conversation's next turn only pays for what is new.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from webui.loaders.causes import import_failure
from webui.loaders.contract import (
    Chunk,
    Finished,
    GenerationRequest,
    LoadedModel,
    Loader,
    LoaderSpec,
    ReportProgress,
)
from webui.loaders.llama_cpp_engine import TITLE, EngineLog, LlamaEngine
from webui.loaders.llama_cpp_sampling import SamplerChain
from webui.loaders.llama_files import judge_gguf
from webui.loaders.llama_log import read_device
from webui.loaders.parameters import Control, Parameters
from webui.loaders.reply import PromptCount, check_fits, stream_reply
from webui.loaders.shared import (
    BatchSize,
    CacheTypeK,
    CacheTypeV,
    ContextSize,
    FlashAttention,
    GpuLayers,
    GuessedTokens,
    Lora,
    LoraScale,
    MainGpu,
    MicroBatchSize,
    Numa,
    RopeFreqBase,
    RopeFreqScale,
    RopeScaling,
    SplitMode,
    TensorSplit,
    Threads,
    ThreadsBatch,
    UseMlock,
    UseMmap,
)
from webui.loaders.threads import choose_threads
from webui.models.facts import ModelFormat


class LlamaCppPythonParameters(Parameters):
    """What llama.cpp offers through its Python binding for one model and one sequence."""

    context_size: ContextSize = 4096
    gpu_layers: GpuLayers = -1
    threads: Threads = 0
    flash_attention: FlashAttention = "auto"
    cache_type_k: CacheTypeK = "f16"
    cache_type_v: CacheTypeV = "f16"
    full_window_cache: Annotated[
        bool,
        Control(
            "Full sliding-window cache",
            "Keeps all tokens for layers that look at a window only. Needs more memory; a conversation that is "
            "edited is then read again from the edit on, not from its beginning.",
            section="Context",
        ),
    ] = False
    threads_batch: ThreadsBatch = 0
    batch_size: BatchSize = 2048
    micro_batch_size: MicroBatchSize = 512
    numa: Numa = "off"
    cpu_repacking: Annotated[
        Literal["auto", "on", "off"],
        Control(
            "Weight repacking",
            "Rearranges weights for this CPU's fast instructions. auto leaves it off on CPUs with AMX, where the "
            "engine is known to crash with it.",
            section="Processor",
        ),
    ] = "auto"
    split_mode: SplitMode = "layer"
    main_gpu: MainGpu = 0
    tensor_split: TensorSplit = ""
    offload_kv_cache: Annotated[
        bool,
        Control("KV cache on the GPU", "Off keeps the KV cache in the machine's memory.", section="Devices"),
    ] = True
    offload_operations: Annotated[
        bool,
        Control(
            "Prompt work on the GPU",
            "Lets the GPU compute large prompt batches of layers that stay in the machine's memory.",
            section="Devices",
        ),
    ] = True
    no_host_buffer: Annotated[
        bool,
        Control(
            "Bypass the host buffer",
            "Lets repacked weights be used for layers on the CPU while a GPU is in use.",
            section="Memory",
        ),
    ] = False
    use_mmap: UseMmap = True
    use_mlock: UseMlock = False
    check_tensors: Annotated[
        bool,
        Control("Check the weights", "Looks for invalid numbers while loading. Slower.", section="Memory"),
    ] = False
    rope_scaling: RopeScaling = "model"
    rope_freq_base: RopeFreqBase = 0.0
    rope_freq_scale: RopeFreqScale = 0.0
    yarn_original_context: Annotated[
        int,
        Field(ge=0, le=16_777_216),
        Control(
            "YaRN original context",
            "The context the model was trained for. 0 takes the file's.",
            unit="tokens",
            section="RoPE",
            suggested_max=131_072,
        ),
    ] = 0
    yarn_ext_factor: Annotated[
        float,
        Field(ge=-1, le=10),
        Control("YaRN extrapolation", "How much is extrapolated. -1 takes the model's own.", section="RoPE", step=0.1),
    ] = -1.0
    yarn_attn_factor: Annotated[
        float,
        Field(ge=-1, le=10),
        Control("YaRN attention factor", "Scales the attention. -1 takes the model's own.", section="RoPE", step=0.1),
    ] = -1.0
    yarn_beta_fast: Annotated[
        float,
        Field(ge=-1, le=1024),
        Control("YaRN beta fast", "Low correction dimension. -1 takes the model's own.", section="RoPE", step=1),
    ] = -1.0
    yarn_beta_slow: Annotated[
        float,
        Field(ge=-1, le=1024),
        Control("YaRN beta slow", "High correction dimension. -1 takes the model's own.", section="RoPE", step=1),
    ] = -1.0
    draft_tokens: GuessedTokens = 0
    draft_ngram: Annotated[
        int,
        Field(ge=1, le=16),
        Control(
            "Guessing window",
            "How many of the last tokens have to occur earlier for a guess.",
            unit="tokens",
            section="Speculation",
            step=1,
        ),
    ] = 2
    lora: Lora = ""
    lora_scale: LoraScale = 1.0


class LlamaCppPythonLoader(Loader[LlamaCppPythonParameters]):
    """One model, one sequence."""

    _engine: LlamaEngine
    _lib: Any

    def load(self, progress: ReportProgress) -> LoadedModel:
        progress("Importing llama-cpp-python", None)
        self._lib = _import_engine()
        log = EngineLog(self._lib)
        notes: list[str] = []
        repack = self._decide_repacking(notes)
        self._engine = LlamaEngine(self._lib, log)
        self._engine.open(
            str(self.facts.path),
            self.parameters,
            threads=choose_threads(self.parameters.threads),
            repack=repack,
            progress=lambda share: progress("Loading the weights", share),
        )
        device = read_device(log.lines)
        if not self._lib.llama_supports_gpu_offload() and self.parameters.gpu_layers > 0:
            notes.append("The installed llama-cpp-python was built without GPU support; the model is on the CPU.")
        self._guess = self._make_guesser(notes)
        return LoadedModel(
            context_size=self._engine.context_size,
            device=device.text,
            device_kind=device.kind,
            engine="llama-cpp-python",
            engine_version=str(self._lib.__version__),
            gpu_layers=device.layers,
            notes=tuple(notes),
        )

    def dry_run(self) -> None:
        self._lib = _import_engine()
        engine = LlamaEngine(self._lib, EngineLog(self._lib))
        engine.plan(
            str(self.facts.path),
            self.parameters,
            threads=choose_threads(self.parameters.threads),
            repack=self._decide_repacking([]),
        )

    def _decide_repacking(self, notes: list[str]) -> bool:
        """Whether weights are repacked. Builds with AMX crash at the first prompt with repacked Q4_1 and Q8_0."""
        if self.parameters.cpu_repacking != "auto":
            return self.parameters.cpu_repacking == "on"
        if b"AMX_INT8 = 1" not in self._lib.llama_print_system_info():
            return True
        notes.append("Weight repacking is off, because the engine is known to crash with it on CPUs with AMX.")
        return False

    def _make_guesser(self, notes: list[str]) -> Any:
        """The binding's prompt-lookup guesser, or None where it is off or the model cannot take tokens back."""
        if not self.parameters.draft_tokens:
            return None
        if not self._engine.can_take_back():
            notes.append("Guessed tokens are off, because this architecture cannot take tokens back.")
            return None
        from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

        return LlamaPromptLookupDecoding(self.parameters.draft_ngram, self.parameters.draft_tokens)

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        return self._engine.tokenize(text, add_bos=add_bos)

    def generate(self, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        engine = self._engine
        prompt = engine.tokenize(request.prompt, add_bos=True)
        check_fits(len(prompt), engine.context_size)
        count = PromptCount(len(prompt), engine.keep_prefix(prompt), engine.context_size - len(prompt))
        yield from stream_reply(self._tokens(prompt, request, cancelled), request, count, cancelled)

    def _tokens(
        self, prompt: Sequence[int], request: GenerationRequest, cancelled: threading.Event
    ) -> Generator[bytes | None, None, None]:
        """What each new token says; None for the one that ends the reply."""
        engine = self._engine
        chain = SamplerChain(self._lib, engine.vocab, engine.context_size, request.sampling)
        try:
            if chain.looks_back:
                chain.remember(prompt[-chain.looks_back :])
            engine.read(prompt[len(engine.held) :], cancelled)
            token = chain.sample(engine.context)
            while not engine.ends(token):
                yield engine.piece(token)
                guessed = self._guess_after(token)
                if guessed:
                    token = yield from self._check_guesses(chain, token, guessed)
                else:
                    engine.step(token)
                    token = chain.sample(engine.context)
            yield None
        finally:
            chain.close()

    def _guess_after(self, token: int) -> list[int]:
        if self._guess is None:
            return []
        import numpy

        room = self._engine.context_size - len(self._engine.held) - 1
        seen = numpy.array([*self._engine.held, token], dtype=numpy.intc)
        return [int(guess) for guess in self._guess(seen)[: max(0, min(room, self._engine.batch_size - 1))]]

    def _check_guesses(
        self, chain: SamplerChain, token: int, guessed: Sequence[int]
    ) -> Generator[bytes | None, None, int]:
        """Decode `token` and the guesses in one pass and say those that the sampler agrees with.

        Returns the first token that was not guessed. Each choice is made from the logits that follow the tokens said
        before it, so the reply is distributed as without guessing.
        """
        engine = self._engine
        engine.step_with_draft([token, *guessed])
        agreed = 0
        while True:
            chosen = chain.sample(engine.context, agreed)
            if agreed == len(guessed) or chosen != guessed[agreed] or engine.ends(chosen):
                break
            agreed += 1
            yield engine.piece(chosen)
        engine.take_back(len(guessed) - agreed)
        return chosen

    def close(self) -> None:
        if hasattr(self, "_engine"):
            self._engine.close()


def _import_engine() -> Any:
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise import_failure(TITLE, error) from error
    return llama_cpp


SPEC = LoaderSpec(
    name="llama-cpp-python",
    title=TITLE,
    summary="llama.cpp through its Python package, for those who have it installed or compiled for their GPU.",
    parameters=LlamaCppPythonParameters,
    loader=LlamaCppPythonLoader,
    formats=frozenset({ModelFormat.GGUF}),
    devices=("cpu", "cuda", "rocm", "vulkan", "metal", "xpu"),
    samplers=LoaderSpec.ALL_SAMPLERS,
    can_open=judge_gguf,
    distributions=("llama-cpp-python",),
    requirements="llama-cpp-python.txt",
    safe_steps=({"cpu_repacking": "off"}, {"flash_attention": "off", "use_mmap": False}),
    cpu_parameters={"gpu_layers": 0},
    logits_of_all=False,
    engine_bytes=32 * 1024 * 1024,
)
