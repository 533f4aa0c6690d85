"""How long an engine may be silent before it counts as hung: as long as its own measured speed makes believable."""

from __future__ import annotations

from dataclasses import dataclass

from webui.loaders.contract import Finished

BYTES_PER_TOKEN = 3
"""Fewer than in most text, so that the estimate of a prompt's tokens is high rather than low."""
ASSUMED_PROMPT_SPEED = 5.0
"""Tokens per second of an engine that has not been measured yet: slower than any that is worth using."""
PROMPT_FACTOR = 10
TOKEN_FACTOR = 50
SHORTEST_SECONDS = 20.0
"""Below this a busy machine looks like a hung engine."""
MEASURABLE_TOKENS = 16
"""A shorter prompt measures the fixed cost of a request instead of the speed."""


@dataclass(slots=True)
class Patience:
    """The limits for one loaded model. `allowance` is the configured silence, in seconds, of an unmeasured engine."""

    allowance: float
    prompt_speed: float | None = None
    token_seconds: float | None = None

    def for_first_token(self, prompt: str, sharing: int) -> float:
        """Seconds until the first token of `prompt` must be there, with `sharing` jobs in the engine at once."""
        tokens = len(prompt.encode()) / BYTES_PER_TOKEN
        if self.prompt_speed is None:
            return self.allowance + sharing * tokens / ASSUMED_PROMPT_SPEED
        return max(self._shortest, sharing * PROMPT_FACTOR * tokens / self.prompt_speed)

    def for_next_token(self, sharing: int) -> float:
        """Seconds until the next token must be there."""
        if self.token_seconds is None:
            return self.allowance
        return max(self._shortest, sharing * TOKEN_FACTOR * self.token_seconds)

    def learn(self, finished: Finished) -> None:
        """Take over the speeds of a reply; the slowest that was seen counts."""
        read = finished.prompt_tokens - finished.cached_tokens
        if read >= MEASURABLE_TOKENS and finished.prompt_seconds > 0:
            speed = read / finished.prompt_seconds
            self.prompt_speed = min(speed, self.prompt_speed or speed)
        if finished.completion_tokens > 1 and finished.generation_seconds > 0:
            seconds = finished.generation_seconds / (finished.completion_tokens - 1)
            self.token_seconds = max(seconds, self.token_seconds or 0.0)

    @property
    def _shortest(self) -> float:
        return min(self.allowance, SHORTEST_SECONDS)
