"""What is particular to llama-cpp-python: guessing, aborting a prompt, repacking, its verdicts and its errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from webui.errors import CorruptFile, InvalidSetting
from webui.loaders.contract import Chunk, Finished, GenerationRequest
from webui.loaders.llama_cpp_python import SPEC, LlamaCppPythonLoader, LlamaCppPythonParameters
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import ModelFormat
from webui.models.inspect import inspect_model

pytestmark = pytest.mark.engine
STORY = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"


def load(path: Path, **parameters: Any) -> LlamaCppPythonLoader:
    loader = LlamaCppPythonLoader(
        inspect_model(path), LlamaCppPythonParameters(**{"threads": 1, "context_size": 512, **parameters})
    )
    loader.model = loader.load(lambda step, share: None)  # type: ignore[attr-defined]
    return loader


def ask(loader: LlamaCppPythonLoader, prompt: str, **sampling: Any) -> tuple[str, Finished]:
    request = GenerationRequest(prompt, SamplingParameters(**{"temperature": 0.0, "max_tokens": 24, **sampling}))
    *chunks, finished = loader.generate(request, threading.Event())
    assert isinstance(finished, Finished)
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Chunk)), finished


@pytest.fixture(scope="module")
def loaded(starter_model: Path) -> Iterator[LlamaCppPythonLoader]:
    loader = load(starter_model)
    yield loader
    loader.close()


def test_guessed_tokens_change_the_way_and_not_the_text(starter_model: Path, loaded: LlamaCppPythonLoader) -> None:
    guessing = load(starter_model, draft_tokens=6)
    for sampling in ({}, {"temperature": 0.8, "seed": 3}):
        plain, guessed = ask(loaded, STORY, **sampling), ask(guessing, STORY, **sampling)
        assert guessed[0] == plain[0]
        assert guessed[1].completion_tokens == plain[1].completion_tokens == 24
    guessing.close()


def test_a_long_prompt_is_left_before_it_is_read(starter_model: Path) -> None:
    loader = load(starter_model, context_size=4096)
    cancelled = threading.Event()
    timer = threading.Timer(0.05, cancelled.set)
    timer.start()
    (finished,) = loader.generate(GenerationRequest(STORY * 80, SamplingParameters()), cancelled)
    timer.join()
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.completion_tokens) == ("cancelled", 0)
    assert ask(loader, STORY)[1].cached_tokens == 0, "what was half read is not trusted"
    loader.close()


def test_repacking_can_be_switched_off(starter_model: Path, loaded: LlamaCppPythonLoader) -> None:
    safe = load(starter_model, **SPEC.safe_parameters)
    assert ask(safe, STORY, max_tokens=8)[1].completion_tokens == 8
    safe.close()


@pytest.mark.parametrize(
    "sampling",
    [
        {"mirostat": "v1"},
        {"mirostat": "v2"},
        {"dry_multiplier": 5.0, "dry_allowed_length": 1},
        {"xtc_probability": 1.0, "xtc_threshold": 0.05},
        {"dynatemp_range": 2.0},
        {"repeat_penalty": 2.0},
        {"presence_penalty": 2.0},
        {"frequency_penalty": 2.0},
        {"typical_p": 0.3},
        {"min_p": 0.9},
        {"top_p": 0.1},
        {"top_k": 1},
    ],
    ids=lambda sampling: next(iter(sampling)),
)
def test_every_sampler_has_an_effect(loaded: LlamaCppPythonLoader, sampling: dict[str, Any]) -> None:
    neutral = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 5}
    ask(loaded, STORY, max_tokens=1)
    assert ask(loaded, STORY, **{**neutral, **sampling})[0] != ask(loaded, STORY, **neutral)[0]


def test_errors_name_their_reason(starter_model: Path, tmp_path: Path) -> None:
    facts = inspect_model(starter_model)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(starter_model.read_bytes()[:50_000_000])
    with pytest.raises(CorruptFile) as caught:
        LlamaCppPythonLoader(replace(facts, path=cut), LlamaCppPythonParameters()).load(lambda step, share: None)
    assert any("file bounds" in line for line in caught.value.evidence)
    with pytest.raises(InvalidSetting):
        load(starter_model, cache_type_v="q8_0", flash_attention="off")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"architecture": "bert"}, "bert"),
        ({"architecture": "t5"}, "encoder-decoder"),
        ({"gguf_version": 1}, "version 1"),
        ({"byte_order": "big"}, "endian"),
        ({"format": ModelFormat.GGML}, "ggml"),
        ({"tensor_types": {"Q4_0_4_4": 1}}, "Q4_0_4_4"),
    ],
)
def test_says_why_it_cannot(starter_model: Path, changes: dict[str, Any], word: str) -> None:
    facts = inspect_model(starter_model)
    assert SPEC.can_open(facts).ok
    verdict = SPEC.can_open(replace(facts, **changes))
    assert not verdict.ok
    assert word in verdict.reason
