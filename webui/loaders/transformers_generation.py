"""One generation with transformers: `generate` in a thread of its own, its tokens through a queue, its KV cache kept.

transformers' own text streamer never learns of an exception in `generate`; here whatever happens in the thread arrives
at the consumer, and the thread has always ended when a generation has. Imported in the worker only.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from webui.errors import Cancelled
from webui.loaders.sampling import SamplingParameters
from webui.loaders.transformers_model import OpenModel
from webui.loaders.transformers_parameters import TransformersParameters
from webui.loaders.transformers_sampling import plant_seed, processors

CONTEXT_TOKENS = 6  # tokens before a new one that decide how it is written (spaces, split characters)


class _Stopped(Exception):
    """Leaves a forward pass of the model in the middle."""


class _Tokens(BaseStreamer):  # type: ignore[misc]
    """Hands each new token over; the first call brings the prompt."""

    def __init__(self, inbox: queue.SimpleQueue[Any]) -> None:
        self._inbox = inbox
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.flatten().tolist():
            self._inbox.put(int(token))

    def end(self) -> None:
        """The thread's end is told by the thread itself, which also ends when this is not called."""


class _StopWhenAsked(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        return torch.full((input_ids.shape[0],), self._stop.is_set(), device=input_ids.device, dtype=torch.bool)


class TokenText:
    """Text of a growing sequence of tokens; holds back what may still change (characters split over tokens)."""

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(prompt[-CONTEXT_TOKENS:])
        self._start = 0
        self._read = len(self._ids)

    def add(self, token: int) -> str:
        self._ids.append(token)
        new = self._new()
        if not new or new.endswith("\ufffd"):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return new

    def rest(self) -> str:
        """What was held back, once no token follows."""
        return self._new()

    def _new(self) -> str:
        return self._decode(self._start, len(self._ids))[len(self._decode(self._start, self._read)) :]

    def _decode(self, start: int, end: int) -> str:
        return str(
            self._tokenizer.decode(self._ids[start:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )


class Conversation:
    """The model's side of successive generations: keeps the KV cache where it can be continued."""

    def __init__(self, opened: OpenModel, wanted: TransformersParameters) -> None:
        self._opened = opened
        self._wanted = wanted
        self._cache: Any = None
        self._held: list[int] = []
        self._stop = threading.Event()
        speculative = bool(opened.assistant or wanted.draft_tokens)
        # Speculation crops the cache in its own ways, and the other kinds of cache cannot be continued.
        self._reuse = (
            opened.cache == "dynamic" and not speculative and bool(opened.model._supports_default_dynamic_cache())
        )
        if not wanted.compile:
            self._watch_layers()

    def _watch_layers(self) -> None:
        """Let a cancel end a long prompt between two layers instead of after the last."""

        def check(module: Any, arguments: Any) -> None:
            if self._stop.is_set():
                raise _Stopped

        names = set(self._opened.model._no_split_modules or ())
        for module in self._opened.model.modules():
            if type(module).__name__ in names:
                module.register_forward_pre_hook(check)

    def keep_prefix(self, prompt: Sequence[int]) -> int:
        """Shape the cache for `prompt`; returns how many of its tokens need not be computed again."""
        if not self._reuse:
            return 0
        held = self._cache.get_seq_length() if self._cache is not None else 0
        limit = min(held, len(self._held), len(prompt) - 1)
        common = next((place for place in range(limit) if self._held[place] != prompt[place]), limit)
        surplus = held - common
        if common == 0 or (surplus and not self._cache.is_croppable):
            self._cache = DynamicCache(config=self._opened.model.config.get_text_config(decoder=True))
            return 0
        if surplus:
            self._cache.crop(-surplus)
        return common

    def tokens(
        self, prompt: Sequence[int], sampling: SamplingParameters, most: int, cancelled: threading.Event
    ) -> Generator[int | None, None, None]:
        """The ids of the reply's tokens, at most `most`; None in place of the one that ends it.

        Raises `Cancelled` when `cancelled` ended it, and whatever `generate` raised. When the generator is closed, the
        thread behind it has ended.
        """
        inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stop = stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(prompt, sampling, most, stop, inbox), daemon=True)
        self._held = list(prompt)
        with self._joined(thread, stop, cancelled):
            while True:
                item = inbox.get()
                if item is None:
                    break
                if isinstance(item, BaseException):
                    self._cache = None
                    if isinstance(item, _Stopped):
                        raise Cancelled("The prompt was cancelled.")
                    raise item
                if item in self._opened.ends:
                    yield None
                    return
                self._held.append(item)
                yield item
            if cancelled.is_set():
                raise Cancelled("The generation was cancelled.")
            yield None

    @contextmanager
    def _joined(self, thread: threading.Thread, stop: threading.Event, cancelled: threading.Event) -> Iterator[None]:
        """Run `thread` for the block and end it with the block; a cancel is passed on while the block waits."""
        done = threading.Event()

        def pass_on() -> None:
            while not done.is_set():
                if cancelled.wait(0.05):
                    stop.set()
                    return

        watcher = threading.Thread(target=pass_on, daemon=True)
        thread.start()
        watcher.start()
        try:
            yield
        finally:
            done.set()
            stop.set()
            thread.join()
            watcher.join()

    def _run(
        self,
        prompt: Sequence[int],
        sampling: SamplingParameters,
        most: int,
        stop: threading.Event,
        inbox: queue.SimpleQueue[Any],
    ) -> None:
        """The thread: generate, and put the end or the exception into the inbox, whatever happens."""
        try:
            plant_seed(sampling)
            model = self._opened.model
            ids = torch.tensor([list(prompt)], dtype=torch.long, device=model.device)
            with torch.inference_mode():
                model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=most,
                    do_sample=sampling.temperature > 0,
                    top_k=0,
                    top_p=1.0,
                    logits_processor=processors(sampling),
                    stopping_criteria=StoppingCriteriaList([_StopWhenAsked(stop)]),
                    streamer=_Tokens(inbox),
                    **self._cache_options(len(prompt)),
                    **self._speculation_options(),
                )
            inbox.put(None)
        except BaseException as error:  # noqa: BLE001 - carried over to the consumer, which raises it
            inbox.put(error)

    def _cache_options(self, prompt_length: int) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self._reuse:
            options["past_key_values"] = self._cache
        elif self._opened.cache != "dynamic":
            options["cache_implementation"] = self._opened.cache
        if self._reuse and prompt_length > self._wanted.batch_size:
            options["prefill_chunk_size"] = self._wanted.batch_size
        return options

    def _speculation_options(self) -> dict[str, Any]:
        if self._opened.assistant is not None:
            return {"assistant_model": self._opened.assistant}
        if self._wanted.draft_tokens:
            return {"prompt_lookup_num_tokens": self._wanted.draft_tokens}
        return {}
