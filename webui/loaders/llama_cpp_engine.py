"""llama.cpp behind its low-level Python binding: one model, one context, one sequence whose tokens are known.

The binding's `Llama` class has no argument for several things the engine offers (weight repacking, automatic flash
attention, load progress, aborting a prompt), so this calls the same C functions it calls. What to generate, and when to
stop, is left to `llama_cpp_python`. Nothing here is thread-safe but `tokenize` and `piece`, which only read the
vocabulary.
"""

from __future__ import annotations

import atexit
import ctypes
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from webui.errors import AppError, Cancelled, EngineRefused, UnsupportedArchitecture
from webui.loaders.causes import explain_lines

if TYPE_CHECKING:
    from webui.loaders.llama_cpp_python import LlamaCppPythonParameters

TITLE = "llama-cpp-python"
LOG_LINES = 4000
STEP_LINES = 40
"""The last lines of the log that can be about one step of a computation."""

_DEBUG, _CONTINUED = 1, 5  # ggml_log_level
_ABORTED = 2  # llama_decode's answer when the abort callback said yes
_NO_ROOM = 1  # llama_decode's answer when the KV cache has no place for the batch
_SPLIT_MODES = {"none": 0, "layer": 1, "row": 2}
_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
_ROPE_SCALING = {"model": -1, "none": 0, "linear": 1, "yarn": 2}
_NUMA = {"off": 0, "distribute": 1, "isolate": 2, "numactl": 3}
_ALL_LAYERS = 0x7FFFFFFF
_BF16 = 30  # ggml's number of the type; the binding has no name for it


class EngineLog:
    """Receives llama.cpp's log: every line but debug goes to standard error, and the last ones are kept as evidence."""

    def __init__(self, library: Any) -> None:
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self._forwarding = False
        # The engine keeps the bare function pointer and may log at any time until the process ends, so the callback
        # is held until Python itself goes, and taken out of the engine just before.
        callback = library.llama_log_callback(self._receive)
        library.llama_log_set(callback, ctypes.c_void_p(0))
        atexit.register(_stop_logging, library, callback)

    def _receive(self, level: int, text: bytes, _user_data: Any) -> None:
        if level != _CONTINUED:
            self._forwarding = level > _DEBUG
        if not self._forwarding:
            return
        line = text.decode("utf-8", errors="replace")
        if line.strip(". \r\n"):
            self.lines.append(line)
            sys.stderr.write(line if line.endswith("\n") else line + "\n")


def _stop_logging(library: Any, callback: Any) -> None:
    """Give the engine back its own log; `callback` is an argument so that it lives until now."""
    library.llama_log_set(library.llama_log_callback(), ctypes.c_void_p(0))


class LlamaEngine:
    """A loaded model with its context. `held` are the tokens whose keys and values are in the cache, in order."""

    def __init__(self, library: Any, log: EngineLog) -> None:
        self._lib = library
        self._log = log
        self.model: Any = None
        self.vocab: Any = None
        self.context: Any = None
        self.held: list[int] = []
        self._adapter: Any = None
        self._stop = threading.Event()
        self._abort = library.ggml_abort_callback(lambda _data: self._stop.is_set())
        self._no_abort = library.ggml_abort_callback()

    @property
    def context_size(self) -> int:
        return int(self._lib.llama_n_ctx(self.context))

    @property
    def batch_size(self) -> int:
        return int(self._lib.llama_n_batch(self.context))

    def open(
        self,
        path: str,
        wanted: LlamaCppPythonParameters,
        *,
        threads: int,
        repack: bool,
        progress: Callable[[float], None],
    ) -> None:
        """Load the model and make its context. Raises what the engine's log proves (see `llama_log`)."""
        lib = self._lib
        lib.llama_backend_init()
        if wanted.numa != "off":
            lib.llama_numa_init(_NUMA[wanted.numa])
        parameters = self._model_parameters(wanted, repack)

        @lib.llama_progress_callback  # type: ignore[untyped-decorator]
        def report(share: float, _user_data: Any) -> bool:
            progress(share)
            return True

        parameters.progress_callback = report
        self._log.lines.clear()
        self.model = lib.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            raise self._refusal("load the model")
        if lib.llama_model_has_encoder(self.model):
            raise UnsupportedArchitecture("This loader does not run encoder-decoder models.")
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.context = lib.llama_init_from_model(self.model, self._context_parameters(wanted, threads))
        if not self.context:
            raise self._refusal("make a context for the model")
        if wanted.lora:
            self._apply_adapter(wanted.lora, wanted.lora_scale)

    def plan(self, path: str, wanted: LlamaCppPythonParameters, *, threads: int, repack: bool) -> None:
        """Make the plans of `open` and allocate nothing; what they are is in the log."""
        lib = self._lib
        lib.llama_backend_init()
        parameters = self._model_parameters(wanted, repack)
        parameters.no_alloc, parameters.load_mode = True, 0
        self._log.lines.clear()
        self.model = lib.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            raise self._refusal("plan the model")
        self.context = lib.llama_init_from_model(self.model, self._context_parameters(wanted, threads))
        if not self.context:
            raise self._refusal("plan a context for the model")

    def _model_parameters(self, wanted: LlamaCppPythonParameters, repack: bool) -> Any:
        lib = self._lib
        parameters = lib.llama_model_default_params()
        parameters.n_gpu_layers = _ALL_LAYERS if wanted.gpu_layers < 0 else wanted.gpu_layers
        parameters.split_mode = _SPLIT_MODES[wanted.split_mode]
        parameters.main_gpu = wanted.main_gpu
        shares = [float(share) for share in wanted.tensor_split.split(",") if share.strip()]
        if shares:
            self._shares = (ctypes.c_float * lib.llama_max_devices())(*shares[: lib.llama_max_devices()])
            parameters.tensor_split = self._shares
        # LLAMA_LOAD_MODE_*: 0 reads the file, +1 maps it, +2 locks it.
        parameters.load_mode = (1 if wanted.use_mmap else 0) + (2 if wanted.use_mlock else 0)
        parameters.check_tensors = wanted.check_tensors
        parameters.use_extra_bufts = repack
        parameters.no_host = wanted.no_host_buffer
        return parameters

    def _context_parameters(self, wanted: LlamaCppPythonParameters, threads: int) -> Any:
        lib = self._lib
        parameters = lib.llama_context_default_params()
        parameters.n_ctx = wanted.context_size
        parameters.n_batch = wanted.batch_size
        parameters.n_ubatch = min(wanted.micro_batch_size, wanted.batch_size)
        parameters.n_threads = threads
        parameters.n_threads_batch = wanted.threads_batch or threads
        parameters.flash_attn_type = _FLASH_ATTENTION[wanted.flash_attention]
        parameters.rope_scaling_type = _ROPE_SCALING[wanted.rope_scaling]
        parameters.rope_freq_base = wanted.rope_freq_base
        parameters.rope_freq_scale = wanted.rope_freq_scale
        parameters.yarn_ext_factor = wanted.yarn_ext_factor
        parameters.yarn_attn_factor = wanted.yarn_attn_factor
        parameters.yarn_beta_fast = wanted.yarn_beta_fast
        parameters.yarn_beta_slow = wanted.yarn_beta_slow
        parameters.yarn_orig_ctx = wanted.yarn_original_context
        parameters.type_k = getattr(lib, f"GGML_TYPE_{wanted.cache_type_k.upper()}", _BF16)
        parameters.type_v = getattr(lib, f"GGML_TYPE_{wanted.cache_type_v.upper()}", _BF16)
        parameters.offload_kqv = wanted.offload_kv_cache
        parameters.op_offload = wanted.offload_operations
        parameters.swa_full = wanted.full_window_cache
        parameters.n_outputs_max = parameters.n_outputs_max_per_seq = wanted.draft_tokens + 1
        parameters.no_perf = True
        return parameters

    def _apply_adapter(self, path: str, scale: float) -> None:
        self._adapter = self._lib.llama_adapter_lora_init(self.model, path.encode())
        if not self._adapter:
            raise self._refusal(f"read the LoRA adapter {path}")
        if self._lib.llama_set_adapter_lora(self.context, self._adapter, scale):
            raise self._refusal(f"apply the LoRA adapter {path}")

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        """Token ids, special tokens parsed; with `add_bos` the BOS token is added where the model wants one."""
        data = text.encode("utf-8", errors="replace")
        room = len(data) + 16
        while True:
            tokens = (ctypes.c_int32 * room)()
            count = self._lib.llama_tokenize(self.vocab, data, len(data), tokens, room, add_bos, True)
            if count >= 0:
                break
            room = -count
        # "Special" also adds an EOS token where the vocabulary asks for one; a text to be continued must not end.
        if add_bos and count and self._lib.llama_vocab_get_add_eos(self.vocab):
            count -= 1
        return tokens[:count]

    def piece(self, token: int) -> bytes:
        """The bytes `token` stands for; nothing for control tokens."""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = self._lib.llama_token_to_piece(self.vocab, token, buffer, room, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def ends(self, token: int) -> bool:
        """Whether `token` ends a reply (end of text, end of turn …)."""
        return bool(self._lib.llama_vocab_is_eog(self.vocab, token))

    def keep_prefix(self, tokens: Sequence[int]) -> int:
        """Drop from the cache what `tokens` does not begin with; returns how many of them remain there.

        The last token is never kept, because its logits are needed.
        """
        limit = min(len(tokens) - 1, len(self.held))
        common = next((place for place in range(limit) if self.held[place] != tokens[place]), limit)
        memory = self._lib.llama_get_memory(self.context)
        if common < len(self.held) and not self._can_return_to(memory, common):
            common = 0
        if common == 0:
            self._lib.llama_memory_clear(memory, True)
        elif common < len(self.held) and not self._lib.llama_memory_seq_rm(memory, 0, common, -1):
            # Recurrent models cannot take tokens back.
            self._lib.llama_memory_clear(memory, True)
            common = 0
        del self.held[common:]
        return common

    def _can_return_to(self, memory: Any, place: int) -> bool:
        """Sliding-window layers forget old tokens; the window before `place` has to be there still."""
        window = int(self._lib.llama_model_n_swa(self.model))
        return int(self._lib.llama_memory_seq_pos_min(memory, 0)) <= max(0, place - window) if window else True

    def read(self, tokens: Sequence[int], stop: threading.Event) -> None:
        """Decode `tokens` after those held, in batches; raises `Cancelled` soon after `stop` is set."""
        self._stop = stop
        self._lib.llama_set_abort_callback(self.context, self._abort, None)
        try:
            for start in range(0, len(tokens), self.batch_size):
                if stop.is_set():
                    raise Cancelled("The prompt was cancelled.")
                part = tokens[start : start + self.batch_size]
                data = (ctypes.c_int32 * len(part))(*part)
                self._decode(self._lib.llama_batch_get_one(data, len(part)), part)
        finally:
            # The callback runs at every node of the graph; for single tokens that would cost more than it saves.
            self._lib.llama_set_abort_callback(self.context, self._no_abort, None)

    def step(self, token: int) -> None:
        """Decode one token after those held."""
        data = (ctypes.c_int32 * 1)(token)
        self._decode(self._lib.llama_batch_get_one(data, 1), (token,))

    def step_with_draft(self, tokens: Sequence[int]) -> None:
        """Decode `tokens` with logits for each of them, so that guesses can be checked in one pass."""
        batch = self._lib.llama_batch_init(len(tokens), 0, 1)
        try:
            batch.n_tokens = len(tokens)
            for place, token in enumerate(tokens):
                batch.token[place] = token
                batch.pos[place] = len(self.held) + place
                batch.n_seq_id[place] = 1
                batch.seq_id[place][0] = 0
                batch.logits[place] = 1
            self._decode(batch, tokens)
        finally:
            self._lib.llama_batch_free(batch)

    def take_back(self, count: int) -> None:
        """Remove the last `count` tokens held."""
        if count:
            self._lib.llama_memory_seq_rm(self._lib.llama_get_memory(self.context), 0, len(self.held) - count, -1)
            del self.held[-count:]

    def can_take_back(self) -> bool:
        """Whether tokens can be removed singly: not with recurrent layers."""
        return not (self._lib.llama_model_is_recurrent(self.model) or self._lib.llama_model_is_hybrid(self.model))

    def _decode(self, batch: Any, tokens: Sequence[int]) -> None:
        status = self._lib.llama_decode(self.context, batch)
        if status == 0:
            self.held.extend(tokens)
            return
        # Part of the batch may be in the cache; forgetting everything is the one state that is surely known.
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self.context), True)
        self.held.clear()
        if status == _ABORTED:
            raise Cancelled("The prompt was cancelled.")
        if status == _NO_ROOM:
            raise EngineRefused(
                "The engine found no room in the context for this text.", evidence=list(self._log.lines)
            )
        raise self._refusal(f"compute the next token (status {status})", last=STEP_LINES)

    def _refusal(self, doing: str, last: int | None = None) -> AppError:
        lines = list(self._log.lines)
        return explain_lines(TITLE, doing, lines[-last:] if last else lines)

    def close(self) -> None:
        """Free context and model. May be called twice."""
        if self.context:
            self._lib.llama_free(self.context)
            self.context = None
        if self.model:
            self._lib.llama_model_free(self.model)  # frees its adapters too
            self.model = self.vocab = None
