"""How long silence is believed, from the speeds an engine has shown."""

from __future__ import annotations

import pytest

from webui.loaders.contract import Finished
from webui.pool.patience import SHORTEST_SECONDS, Patience


def reply(prompt_tokens: int, prompt_seconds: float, tokens: int, seconds: float, cached: int = 0) -> Finished:
    return Finished("stop", prompt_tokens, tokens, prompt_seconds, seconds, cached_tokens=cached)


def test_an_unmeasured_engine_has_the_configured_time_and_more_for_a_long_prompt() -> None:
    patience = Patience(120.0)
    assert patience.for_first_token("", 1) == 120.0
    assert patience.for_first_token("x" * 30_000, 1) > 120.0 + 30_000 / 3 / 10
    assert patience.for_next_token(1) == 120.0


def test_a_measured_engine_is_given_up_in_proportion_to_its_speed() -> None:
    fast, slow = Patience(120.0), Patience(120.0)
    fast.learn(reply(1000, 1.0, 101, 1.0))
    slow.learn(reply(1000, 100.0, 101, 100.0))
    prompt = "x" * 30_000
    assert fast.for_first_token(prompt, 1) == pytest.approx(100.0)  # ten times the ten seconds it should take
    assert slow.for_first_token(prompt, 1) == pytest.approx(100 * fast.for_first_token(prompt, 1))
    assert fast.for_next_token(1) == SHORTEST_SECONDS
    assert slow.for_next_token(1) == pytest.approx(50.0)


def test_engines_that_share_their_time_are_waited_for_longer() -> None:
    patience = Patience(120.0)
    patience.learn(reply(1000, 100.0, 101, 100.0))
    assert patience.for_first_token("x" * 3000, 4) == pytest.approx(4 * patience.for_first_token("x" * 3000, 1))
    assert patience.for_next_token(4) == pytest.approx(4 * patience.for_next_token(1))


def test_cached_and_tiny_prompts_teach_nothing() -> None:
    patience = Patience(60.0)
    patience.learn(reply(1000, 0.01, 1, 0.0, cached=999))
    patience.learn(reply(2, 5.0, 1, 0.0))
    assert patience.prompt_speed is None and patience.token_seconds is None


def test_the_slowest_reply_counts_and_a_short_allowance_is_respected() -> None:
    patience = Patience(1.0)
    patience.learn(reply(100, 10.0, 11, 1.0))
    patience.learn(reply(100, 1.0, 11, 10.0))
    assert (patience.prompt_speed, patience.token_seconds) == (10.0, 1.0)
    quick = Patience(1.0)
    quick.learn(reply(100, 0.01, 11, 0.01))
    assert quick.for_first_token("short", 1) == 1.0
