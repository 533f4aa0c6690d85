"""Situations for the tests of recovery: a model of eight billion parameters, real loaders, and failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from webui.errors import AppError
from webui.loaders import LOADERS
from webui.models.facts import ModelFacts, ModelFormat
from webui.planning.recovery import Attempt, GiveUp, Situation, StepKind, Tried, next_attempt
from webui.planning.selection import Candidate

GIB = 1024**3
LLAMA_8B = ModelFacts(
    path=Path("llama-8b.Q4_K_M.gguf"),
    format=ModelFormat.GGUF,
    files=(Path("llama-8b.Q4_K_M.gguf"),),
    file_bytes=4_920_000_000,
    name="Llama 8B",
    architecture="llama",
    quantization="Q4_K_M",
    parameter_count=8_030_000_000,
    block_count=32,
    context_length=131_072,
    embedding_length=4096,
    head_count=32,
    head_count_kv=8,
    vocabulary_size=128_256,
    tokenizer="gpt2",
    tensor_bytes=4_912_000_000,
    tensor_types={"Q4_K": 3_900_000_000, "Q6_K": 1_000_000_000, "F32": 1_000_000},
)
CONVERTING = frozenset({"transformers"})


def situation(*loaders: str, asked: Mapping[str, Any] | None = None, **other: Any) -> Situation:
    """`asked` differs from the defaults, for the loaders that know the parameter. Plenty of memory, and a GPU."""
    names = loaders or ("xllamacpp", "llama-cpp-python")
    values = {
        name: LOADERS[name].parameters.parse(
            {key: value for key, value in (asked or {}).items() if key in LOADERS[name].parameters.model_fields}
        )
        for name in names
    }
    given: dict[str, Any] = {"host_available": 64 * GIB, "device_available": 24 * GIB, **other}
    return Situation(
        facts=given.pop("facts", LLAMA_8B),
        specs=LOADERS,
        candidates=[Candidate(name, True, "", converts=name in CONVERTING) for name in names],
        asked={name: value.model_dump(mode="json") for name, value in values.items()},
        **given,
    )


def climb(start: Situation, *errors: AppError) -> tuple[list[Attempt], GiveUp | None]:
    """The attempts when each fails with the next of `errors`; the last attempt is the one that is left standing."""
    tried: list[Tried] = []
    attempts: list[Attempt] = []
    for error in (*errors, None):
        step = next_attempt(replace(start, tried=tuple(tried)))
        if isinstance(step, GiveUp):
            return attempts, step
        attempts.append(step)
        if error is not None:
            tried.append(Tried(step, error, 1.0))
    return attempts, None


def steps(attempts: Sequence[Attempt]) -> list[tuple[StepKind, str, dict[str, Any]]]:
    return [(one.kind, one.loader, dict(one.changes)) for one in attempts]
