"""What a benchmark is asked for: which file, which loaders, at which depths, how often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from webui.diagnostics.benchmark_prompts import SHORTEST
from webui.errors import InvalidRequest
from webui.models.facts import ModelFacts

DEFAULT_DEPTHS = (0, 1024, 4096)
DEFAULT_RUNS = 5
DEFAULT_REPLY_TOKENS = 128
MOST_DEPTHS = 12
DEEPEST = 1_048_576
MOST_RUNS = 1000
MOST_REPLY_TOKENS = 4096
FEWEST_REPLY_TOKENS = 2
"""The speed of generation needs a token after the first."""
CONTEXT_STEP = 256


@dataclass(frozen=True, slots=True)
class BenchmarkRequest:
    """`depths` are tokens in the context when the reply begins; 0 is a short prompt. `parameters` go over the
    configured ones, as far as a loader has them. Raises `InvalidRequest` for what cannot be measured.
    """

    facts: ModelFacts
    loaders: tuple[str, ...]
    depths: tuple[int, ...]
    runs: int = DEFAULT_RUNS
    reply_tokens: int = DEFAULT_REPLY_TOKENS
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.loaders:
            raise InvalidRequest("No loader is chosen.", hint="Choose at least one to measure.")
        if not 1 <= len(self.depths) <= MOST_DEPTHS:
            raise InvalidRequest(f"One to {MOST_DEPTHS} depths can be measured at once, not {len(self.depths)}.")
        if not all(0 <= depth <= DEEPEST for depth in self.depths):
            raise InvalidRequest(f"A depth lies between 0 and {DEEPEST:,} tokens.")
        if not 1 <= self.runs <= MOST_RUNS:
            raise InvalidRequest(f"One to {MOST_RUNS:,} runs can be made, not {self.runs:,}.")
        if not FEWEST_REPLY_TOKENS <= self.reply_tokens <= MOST_REPLY_TOKENS:
            allowed = f"{FEWEST_REPLY_TOKENS} to {MOST_REPLY_TOKENS:,}"
            raise InvalidRequest(f"A reply to measure has {allowed} tokens, not {self.reply_tokens:,}.")

    def context_for(self, depth: int) -> int:
        """Tokens of context that a run at `depth` takes: the prompt, which is not exact to the token, and the reply."""
        prompt = prompt_tokens(depth)
        return prompt + max(8, prompt // 100) + self.reply_tokens

    @property
    def context_size(self) -> int:
        """The smallest context in which every depth can be measured."""
        needed = max(self.context_for(depth) for depth in self.depths)
        return -(-needed // CONTEXT_STEP) * CONTEXT_STEP


def prompt_tokens(depth: int) -> int:
    """How long the prompt is that makes `depth`."""
    return max(SHORTEST, depth)


def default_depths(facts: ModelFacts, reply_tokens: int = DEFAULT_REPLY_TOKENS) -> tuple[int, ...]:
    """The usual depths, as far as the model was trained for them."""
    trained = facts.context_length
    fitting = [depth for depth in DEFAULT_DEPTHS if trained is None or depth + reply_tokens <= trained]
    return tuple(fitting) or DEFAULT_DEPTHS[:1]


def read_depths(text: str) -> tuple[int, ...]:
    """`"0, 1024, 4k"` as numbers, sorted, each once. Raises `InvalidRequest`; nothing at all is an empty tuple."""
    depths = {_depth(part.strip()) for part in text.replace(";", ",").split(",") if part.strip()}
    return tuple(sorted(depths))


def _depth(text: str) -> int:
    digits, thousands = (text[:-1], 1024) if text[-1] in "kK" else (text, 1)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
        raise InvalidRequest(
            f"{text!r} is not a depth.", hint="Depths are tokens, with commas in between: 0, 1024, 4096 (or 0, 1k, 4k)."
        )
    return int(digits) * thousands


def depths_or_default(given: Sequence[int], facts: ModelFacts, reply_tokens: int) -> tuple[int, ...]:
    return tuple(given) or default_depths(facts, reply_tokens)


def words_of(depths: Iterable[int]) -> str:
    """`0, 1024, 4096`, as `read_depths` takes it."""
    return ", ".join(map(str, depths))
