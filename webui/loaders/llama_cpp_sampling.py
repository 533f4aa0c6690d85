"""llama.cpp's samplers, chained for one generation through the low-level binding.

The order is that of llama.cpp's own programs (penalties, DRY, top-k, typical-p, top-p, min-p, XTC, temperature), so
that the same settings choose the same tokens as its server does.
"""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Iterable
from typing import Any

from webui.loaders.sampling import SamplingParameters

SEED_BITS = 32
_MIROSTAT_V1_TOKENS = 100  # how many candidates version 1 estimates from; the value of its paper and of llama.cpp
_DRY_BREAKERS = (b"\n", b":", b'"', b"*")  # llama.cpp's own sequence breakers


class SamplerChain:
    """The samplers of one generation. Call `close` at its end; `sample` also tells the chain what was chosen."""

    def __init__(self, library: Any, vocab: Any, context_size: int, wanted: SamplingParameters) -> None:
        self._lib = library
        self._vocab = vocab
        self._chain = library.llama_sampler_chain_init(library.llama_sampler_chain_default_params())
        self.looks_back = self._add_penalties(wanted, context_size)
        if wanted.temperature <= 0:
            self._add(library.llama_sampler_init_greedy())
        else:
            seed = wanted.seed if wanted.seed >= 0 else secrets.randbits(SEED_BITS)
            self._add_choice(wanted, seed)

    def _add(self, sampler: Any) -> None:
        self._lib.llama_sampler_chain_add(self._chain, sampler)

    def _add_penalties(self, wanted: SamplingParameters, context_size: int) -> int:
        """Add what depends on earlier tokens; returns how many of them it wants to see."""
        window = context_size if wanted.repeat_last_n < 0 else wanted.repeat_last_n
        repeats = (wanted.repeat_penalty, wanted.frequency_penalty, wanted.presence_penalty) != (1.0, 0.0, 0.0)
        looks_back = 0
        if repeats and window:
            vocabulary = self._lib.llama_vocab_n_tokens(self._vocab)
            self._add(
                self._lib.llama_sampler_init_penalties(
                    vocabulary, window, wanted.repeat_penalty, wanted.frequency_penalty, wanted.presence_penalty
                )
            )
            looks_back = window
        if wanted.dry_multiplier > 0:
            breakers = (ctypes.c_char_p * len(_DRY_BREAKERS))(*_DRY_BREAKERS)
            self._add(
                self._lib.llama_sampler_init_dry(
                    self._vocab,
                    wanted.dry_multiplier,
                    wanted.dry_base,
                    wanted.dry_allowed_length,
                    context_size,
                    breakers,
                    len(_DRY_BREAKERS),
                )
            )
            looks_back = context_size
        return looks_back

    def _add_choice(self, wanted: SamplingParameters, seed: int) -> None:
        lib = self._lib
        if wanted.mirostat != "off":
            self._add(lib.llama_sampler_init_temp(wanted.temperature))
            if wanted.mirostat == "v1":
                vocabulary = lib.llama_vocab_n_tokens(self._vocab)
                self._add(
                    lib.llama_sampler_init_mirostat(
                        vocabulary, seed, wanted.mirostat_tau, wanted.mirostat_eta, _MIROSTAT_V1_TOKENS
                    )
                )
            else:
                self._add(lib.llama_sampler_init_mirostat_v2(seed, wanted.mirostat_tau, wanted.mirostat_eta))
            return
        self._add(lib.llama_sampler_init_top_k(wanted.top_k))
        self._add(lib.llama_sampler_init_typical(wanted.typical_p, 1))
        self._add(lib.llama_sampler_init_top_p(wanted.top_p, 1))
        self._add(lib.llama_sampler_init_min_p(wanted.min_p, 1))
        self._add(lib.llama_sampler_init_xtc(wanted.xtc_probability, wanted.xtc_threshold, 1, seed))
        self._add(lib.llama_sampler_init_temp_ext(wanted.temperature, wanted.dynatemp_range, wanted.dynatemp_exponent))
        self._add(lib.llama_sampler_init_dist(seed))

    def remember(self, tokens: Iterable[int]) -> None:
        """Show the chain tokens it did not choose: the end of the prompt, for the penalties."""
        for token in tokens:
            self._lib.llama_sampler_accept(self._chain, token)

    def sample(self, context: Any, index: int = -1) -> int:
        """The next token from the logits of output `index` of the last decoded batch (-1: the last)."""
        return int(self._lib.llama_sampler_sample(self._chain, context, index))

    def close(self) -> None:
        if self._chain is not None:
            self._lib.llama_sampler_free(self._chain)
            self._chain = None
