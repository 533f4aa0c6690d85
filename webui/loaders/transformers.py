"""Hugging Face transformers: model directories as they are, GGUF files by unpacking their weights.

The widest choice of architectures and of ways to hold weights. This file is what the app sees of it; opening, sampling
and generating are in the `transformers_*` modules, which import torch and are imported in the worker only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from webui.errors import AppError, ModelNotFound, UnsupportedFormat
from webui.loaders.causes import explain_exception, import_failure
from webui.loaders.contract import (
    Chunk,
    Finished,
    GenerationRequest,
    LoadedModel,
    Loader,
    LoaderSpec,
    ReportProgress,
)
from webui.loaders.reply import PromptCount, check_fits, ignored_sampling, stream_reply
from webui.loaders.threads import choose_threads
from webui.loaders.transformers_files import judge, only_pickled, weight_bytes
from webui.loaders.transformers_parameters import TransformersParameters
from webui.models.facts import ModelFormat
from webui.paths import Paths

TITLE = "Transformers"
FALLBACK_CONTEXT = 2048
SAMPLERS = frozenset(
    {
        "max_tokens",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "repeat_penalty",
        "repeat_last_n",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "stop",
    }
)


class TransformersLoader(Loader[TransformersParameters]):
    """One model, one generation at a time."""

    _opened: Any
    _conversation: Any

    def load(self, progress: ReportProgress) -> LoadedModel:
        if only_pickled(self.facts) and not self.parameters.allow_pickle:
            raise UnsupportedFormat(
                "The model's weights are pickle files, which can run code when they are opened.",
                hint="Get the model as safetensors, or allow pickled weights among the controls if you trust it.",
            )
        if not self.facts.path.exists():  # transformers would take the path for the name of a model on a hub
            raise ModelNotFound(f"{self.facts.path} is not there any more.", cause="it was there when it was looked at")
        progress("Importing torch and transformers", None)
        _prepare_environment()
        torch, transformers = _import_engine()
        torch.set_num_threads(choose_threads(self.parameters.threads))
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        from webui.loaders.transformers_generation import Conversation
        from webui.loaders.transformers_model import open_model

        progress("Loading the weights", None)
        try:
            self._opened = open_model(self.facts, self.parameters)
        except AppError:
            raise
        except Exception as error:
            raise explain_exception(TITLE, "load the model", error) from error
        self._conversation = Conversation(self._opened, self.parameters)
        self._bos = self._find_bos()
        self._context_size = self._decide_context()
        notes = list(self._opened.notes)
        if self.facts.format is ModelFormat.GGUF:
            held = str(self._opened.model.dtype).removeprefix("torch.")
            notes.append(f"The GGUF file's weights were unpacked to {held}.")
        return LoadedModel(
            context_size=self._context_size,
            device=self._opened.device,
            device_kind=self._opened.device_kind,
            engine="transformers",
            engine_version=f"{transformers.__version__} (torch {torch.__version__})",
            notes=tuple(notes),
        )

    def _decide_context(self) -> int:
        """What was asked for, bounded by nothing but itself; else what the model was trained for."""
        config = self._opened.model.config.get_text_config(decoder=True)
        trained = getattr(config, "max_position_embeddings", None) or self.facts.context_length
        return self.parameters.context_size or trained or FALLBACK_CONTEXT

    def _find_bos(self) -> int | None:
        """The BOS token if this model's texts begin with it: as the file says, else as the tokenizer does it."""
        tokenizer = self._opened.tokenizer
        begins = tokenizer("a", add_special_tokens=True)["input_ids"][:1] == [tokenizer.bos_token_id]
        wanted = begins if self.facts.add_bos_token is None else self.facts.add_bos_token
        return tokenizer.bos_token_id if wanted else None

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        ids = [int(token) for token in self._opened.tokenizer(text, add_special_tokens=False)["input_ids"]]
        return [self._bos, *ids] if add_bos and self._bos is not None else ids

    def generate(self, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        from webui.loaders.transformers_generation import TokenText

        prompt = self.tokenize(request.prompt, add_bos=True)
        check_fits(len(prompt), self._context_size)
        count = PromptCount(len(prompt), self._conversation.keep_prefix(prompt), self._context_size - len(prompt))
        text = TokenText(self._opened.tokenizer, prompt)
        pieces = self._pieces(prompt, request, text, count.room, cancelled)
        yield from stream_reply(
            pieces, request, count, cancelled, ignored_sampling(request.sampling, SAMPLERS), leftover=text.rest
        )

    def _pieces(
        self, prompt: Sequence[int], request: GenerationRequest, text: Any, room: int, cancelled: threading.Event
    ) -> Generator[bytes | None, None, None]:
        """What each new token adds to the text; None for the one that ends the reply."""
        asked = request.sampling.max_tokens
        most = room if asked < 0 else min(asked, room)
        tokens = self._conversation.tokens(prompt, request.sampling, most, cancelled)
        try:
            for token in tokens:
                yield None if token is None else text.add(token).encode()
        except AppError:
            raise
        except Exception as error:
            raise explain_exception(TITLE, "generate", error) from error
        finally:
            tokens.close()


def _prepare_environment() -> None:
    """Nothing is fetched while loading: a model is a local folder, and its parts are there or it is incomplete."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TQDM_DISABLE"] = "1"  # its bars would fill the log that is kept as evidence
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # torch makes this folder when it is imported, and would leave one among the temporary files.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Paths.from_environment().cache / "torch"))


def _import_engine() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except (ImportError, OSError, RuntimeError) as error:
        raise import_failure(TITLE, error) from error
    return torch, transformers


SPEC = LoaderSpec(
    name="transformers",
    title=TITLE,
    summary="Opens nearly every model directory, and many GGUF files by unpacking them. Needs torch.",
    parameters=TransformersParameters,
    loader=TransformersLoader,
    formats=frozenset({ModelFormat.TRANSFORMERS, ModelFormat.GGUF}),
    devices=("cpu", "cuda", "rocm", "mps", "xpu"),
    samplers=SAMPLERS,
    can_open=judge,
    distributions=("transformers", "torch", "accelerate"),
    requirements="transformers.txt",
    safe_steps=({"attention": "eager", "compile": False, "cache": "dynamic"}, {"quantization": "none"}),
    cpu_parameters={"device_map": "cpu"},
    cache_grows=True,
    logits_of_all=False,
    engine_bytes=300 * 1024 * 1024,
    weight_bytes=weight_bytes,
)
