"""The sampling parameters as transformers' logits processors, in the order in which llama.cpp applies its own.

Imported in the worker only: the first line that runs is torch's.
"""

from __future__ import annotations

import secrets
from typing import Any

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from webui.loaders.sampling import SamplingParameters


class Penalties(LogitsProcessor):  # type: ignore[misc]
    """Repeat, presence and frequency penalties over the last tokens (`repeat_last_n`; negative: all of them)."""

    def __init__(self, wanted: SamplingParameters) -> None:
        self._wanted = wanted

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        wanted = self._wanted
        window = input_ids if wanted.repeat_last_n < 0 else input_ids[:, -wanted.repeat_last_n :]
        counts = torch.zeros_like(scores).scatter_add_(1, window, torch.ones_like(window, dtype=scores.dtype))
        used = counts > 0
        weaker = torch.where(scores > 0, scores / wanted.repeat_penalty, scores * wanted.repeat_penalty)
        penalised = weaker - counts * wanted.frequency_penalty - wanted.presence_penalty
        return torch.where(used, penalised, scores)


def processors(wanted: SamplingParameters) -> LogitsProcessorList:
    """What is applied to the logits before a token is drawn, or before the largest is taken."""
    chain = LogitsProcessorList()
    neutral = (wanted.repeat_penalty, wanted.frequency_penalty, wanted.presence_penalty) == (1.0, 0.0, 0.0)
    if not neutral and wanted.repeat_last_n != 0 and wanted.repeat_penalty > 0:
        chain.append(Penalties(wanted))
    if wanted.temperature <= 0:
        return chain
    if wanted.top_k > 0:
        chain.append(TopKLogitsWarper(wanted.top_k))
    if 0 < wanted.typical_p < 1:
        chain.append(TypicalLogitsWarper(wanted.typical_p))
    if wanted.top_p < 1:
        chain.append(TopPLogitsWarper(wanted.top_p))
    if wanted.min_p > 0:
        chain.append(MinPLogitsWarper(wanted.min_p))
    if wanted.temperature != 1:
        chain.append(TemperatureLogitsWarper(wanted.temperature))
    return chain


def plant_seed(wanted: SamplingParameters) -> None:
    """Seed the generators of all devices; `generate` draws from the global ones."""
    torch.manual_seed(wanted.seed if wanted.seed >= 0 else secrets.randbits(63))
