"""What is particular to transformers: verdicts, typed errors, trust, and a thread that never outlives its reply."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.builders.llama import Shape
from tests.builders.transformers_dir import tiny_llama_dir
from webui.errors import EngineRefused, InvalidSetting, MissingPackage, UnsupportedFormat
from webui.loaders.contract import Chunk, Finished, GenerationRequest
from webui.loaders.sampling import SamplingParameters
from webui.loaders.transformers import SPEC, TransformersLoader
from webui.loaders.transformers_parameters import TransformersParameters, parse_max_memory
from webui.models.inspect import inspect_model


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama_dir(tmp_path_factory.mktemp("transformers") / "model", shape=Shape(context=512))


@pytest.fixture(scope="module")
def loaded(directory: Path) -> Iterator[TransformersLoader]:
    yield load(directory, threads=1)


def load(directory: Path, **parameters: Any) -> TransformersLoader:
    loader = TransformersLoader(inspect_model(directory), TransformersParameters(**parameters))
    loader.load(lambda step, share: None)
    return loader


def ask(loader: TransformersLoader, prompt: str, **sampling: Any) -> tuple[str, Finished]:
    request = GenerationRequest(prompt, SamplingParameters(**{"temperature": 0.0, "max_tokens": 12, **sampling}))
    *chunks, finished = loader.generate(request, threading.Event())
    assert isinstance(finished, Finished)
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Chunk)), finished


def test_a_gguf_is_converted_and_a_directory_is_not(starter_model: Path, directory: Path) -> None:
    assert SPEC.can_open(inspect_model(starter_model)).converts
    assert SPEC.can_open(inspect_model(directory)) == replace(SPEC.can_open(inspect_model(directory)), converts=False)


def test_pickled_weights_need_a_word(directory: Path) -> None:
    facts = replace(inspect_model(directory), files=(directory / "pytorch_model.bin",))
    with pytest.raises(UnsupportedFormat, match="pickle"):
        TransformersLoader(facts, TransformersParameters()).load(lambda step, share: None)


@pytest.mark.parametrize("quantization", ["bitsandbytes-4bit", "torchao-int8"])
def test_a_missing_package_is_named(directory: Path, quantization: str) -> None:
    with pytest.raises(MissingPackage, match=quantization.partition("-")[0]):
        load(directory, quantization=quantization)


@pytest.mark.parametrize(
    "parameters",
    [{"draft_tokens": 4}, {"cache": "static"}, {"cache": "offloaded"}, {"attention": "eager"}, {"dtype": "bfloat16"}],
    ids=str,
)
def test_ways_to_run_a_model(directory: Path, loaded: TransformersLoader, parameters: dict[str, Any]) -> None:
    text, finished = ask(load(directory, threads=1, **parameters), "The sea is wide and the sea is")
    assert finished.completion_tokens == 12
    if "dtype" not in parameters:
        assert text == ask(loaded, "The sea is wide and the sea is")[0]


def test_a_draft_model_changes_the_way_and_not_the_text(directory: Path, loaded: TransformersLoader) -> None:
    drafted = load(directory, threads=1, assistant_model=str(directory))
    assert ask(drafted, "The wind")[0] == ask(loaded, "The wind")[0]


def test_the_thread_ends_with_an_abandoned_reply(loaded: TransformersLoader) -> None:
    before = threading.active_count()
    events = loaded.generate(GenerationRequest("The sea", SamplingParameters(max_tokens=-1)), threading.Event())
    next(iter(events))
    events.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert ask(loaded, "The sea")[1].completion_tokens == 12


def test_an_exception_in_generate_arrives_and_the_loader_goes_on(
    loaded: TransformersLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the arithmetic gave out")

    with monkeypatch.context() as patched:
        patched.setattr(loaded._opened.model, "forward", fail)
        with pytest.raises(EngineRefused) as caught:
            ask(loaded, "The sea")
    assert "the arithmetic gave out" in caught.value.message
    assert ask(loaded, "The sea")[1].completion_tokens == 12


def test_a_cancel_before_the_prompt_is_read_ends_it(loaded: TransformersLoader) -> None:
    cancelled = threading.Event()
    cancelled.set()
    (finished,) = loaded.generate(GenerationRequest("The sea", SamplingParameters()), cancelled)
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.completion_tokens) == ("cancelled", 0)


def test_penalties_change_the_text(loaded: TransformersLoader) -> None:
    plain = ask(loaded, "The sea", max_tokens=40)[0]
    assert ask(loaded, "The sea", max_tokens=40, presence_penalty=2.0, repeat_penalty=3.0, repeat_last_n=-1)[0] != plain


def test_memory_limits_are_parsed_and_checked() -> None:
    assert parse_max_memory(" 0=10GiB, cpu = 24 GiB") == {0: "10GiB", "cpu": "24GiB"}
    assert parse_max_memory("") == {}
    TransformersParameters.parse({"max_memory": "0=10GiB, cpu=24GiB"})
    with pytest.raises(InvalidSetting):
        TransformersParameters.parse({"max_memory": "ten gigabytes"})
