"""The comparison of the app with the bare engine: pair by pair, since a machine's speed drifts."""

from __future__ import annotations

import dataclasses

import pytest

from webui.diagnostics.benchmark_sample import Sample
from webui.diagnostics.overhead import compare


def sample(first: float, speed: float | None) -> Sample:
    values = {field.name: None for field in dataclasses.fields(Sample)}
    return Sample(**{**values, "first_token_seconds": first, "tokens_per_second": speed, "completion_tokens": 10})


def test_a_drifting_machine_does_not_count_as_a_loss() -> None:
    app = [sample(0.11, 99.0), sample(0.21, 49.5), sample(0.41, 24.75)]
    engine = [sample(0.10, 100.0), sample(0.20, 50.0), sample(0.40, 25.0)]
    found = compare("toy", app, engine)
    assert found.speed_ratio == pytest.approx(0.99)
    assert found.delay_seconds == pytest.approx(0.01)


def test_replies_without_a_speed_do_not_count() -> None:
    found = compare("toy", [sample(0.1, None), sample(0.1, 50.0)], [sample(0.1, 10.0), sample(0.1, 100.0)])
    assert found.speed_ratio == pytest.approx(0.5)
