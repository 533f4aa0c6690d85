"""What every loader promises, asked of each entry of the map with its real engine in a real worker process."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.loaders.conftest import CONTEXT, NEEDS, LivingEngine, Models, Reply
from webui.errors import AppError, ContextTooLong
from webui.loaders import LOADERS
from webui.loaders.contract import GenerationRequest, LoaderSpec
from webui.loaders.parameters import controls
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import ModelFacts

pytestmark = pytest.mark.engine

PROMPT = "The sea is wide and the wind"
STORY = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"
MULTI_BYTE = [
    "naïve café",
    "你好，世界",
    "😀👩‍👩‍👧 flags 🇫🇷",
    "e\u0301 combining a\u0308\u0323",
    "\u202bעברית\u202c",
    "𝔘𝔫𝔦",
]
LLAMA_CPP = ("llamafile", "xllamacpp", "llama-cpp-python")


def test_load_says_what_was_loaded(engine: LivingEngine) -> None:
    assert engine.model.context_size == CONTEXT
    assert engine.model.device_kind in engine.spec.devices
    assert engine.model.device
    assert engine.model.engine_version
    assert engine.model.slots >= 1


def test_streams_chunks_and_one_end(engine: LivingEngine) -> None:
    reply = engine.ask(STORY, max_tokens=12)
    assert sum(bool(chunk.text) for chunk in reply.chunks) > 1
    assert reply.text
    assert reply.finished.prompt_seconds > 0
    assert reply.finished.generation_seconds > 0


def test_max_tokens_ends_the_reply_with_length(engine: LivingEngine) -> None:
    reply = engine.ask(STORY, max_tokens=7)
    assert (reply.finished.reason, reply.finished.completion_tokens) == ("length", 7)
    assert sum(chunk.tokens for chunk in reply.chunks) == 7


def test_no_tokens_asked_for_gives_none(engine: LivingEngine) -> None:
    reply = engine.ask(STORY, max_tokens=0)
    assert (reply.text, reply.finished.reason, reply.finished.completion_tokens) == ("", "length", 0)


def test_prompt_tokens_are_those_of_tokenize(engine: LivingEngine) -> None:
    for prompt in (PROMPT, "x", "naïve 😀 你好"):
        assert engine.ask(prompt, max_tokens=1).finished.prompt_tokens == len(engine.tokenize(prompt))


def test_temperature_0_repeats_itself(engine: LivingEngine) -> None:
    first = engine.ask(PROMPT, max_tokens=16)
    assert [engine.ask(PROMPT, max_tokens=16).text for _ in range(2)] == [first.text] * 2


def test_a_seed_repeats_itself_and_other_seeds_differ(engine: LivingEngine) -> None:
    engine.ask(PROMPT, max_tokens=1)  # from here on every run finds the same prompt cache

    def run(seed: int) -> str:
        return engine.ask(PROMPT, max_tokens=16, temperature=1.5, top_k=0, top_p=1.0, min_p=0.0, seed=seed).text

    assert run(7) == run(7)
    assert len({run(seed) for seed in (7, 8, 9)}) > 1


def test_a_stop_string_ends_the_text_before_it(engine: LivingEngine) -> None:
    whole = engine.ask(STORY, max_tokens=24).text
    middle = len(whole) // 2
    stop = whole[middle : middle + 4]
    expected = whole[: whole.index(stop)]
    reply = engine.ask(STORY, max_tokens=24, stop=("never said", stop))
    assert (reply.text, reply.finished.reason, reply.finished.stop_string) == (expected, "stop", stop)
    assert reply.finished.completion_tokens < 24


def test_stop_strings_of_the_sampling_count_too(engine: LivingEngine) -> None:
    whole = engine.ask(STORY, max_tokens=24).text
    stop = whole[len(whole) // 2 :].strip()[:3]
    assert stop
    request = GenerationRequest(STORY, SamplingParameters(temperature=0, max_tokens=24, stop=stop))
    assert engine.run(engine.collect_request(request)).text == whole[: whole.index(stop)]


def test_cancel_ends_a_reply_in_the_middle(engine: LivingEngine) -> None:
    reply = engine.ask(STORY, max_tokens=-1, cancel_after=3)
    assert reply.finished.reason == "cancelled"
    assert 0 < reply.finished.completion_tokens < CONTEXT - 100
    assert engine.ask(PROMPT, max_tokens=4).finished.completion_tokens == 4, "the engine goes on working"


@pytest.mark.parametrize("text", MULTI_BYTE)
def test_tokenises_multi_byte_text(engine: LivingEngine, text: str) -> None:
    for copies in (1, 40):  # the long one finds buffers that are sized by characters
        tokens = engine.tokenize(text * copies, add_bos=False)
        assert copies <= len(tokens) <= len((text * copies).encode()) + 2
        assert engine.tokenize(text * copies, add_bos=False) == tokens
    assert engine.ask(text, max_tokens=4).finished.completion_tokens == 4


def test_special_tokens_in_the_text_are_parsed(engine: LivingEngine) -> None:
    assert engine.facts.eos_token
    assert len(engine.tokenize(engine.facts.eos_token, add_bos=False)) == 1


def test_a_prompt_beyond_the_context_is_refused_before_any_token(engine: LivingEngine) -> None:
    prompt = "wide sea " * CONTEXT
    with pytest.raises(ContextTooLong) as caught:
        engine.ask(prompt, max_tokens=1)
    assert caught.value.facts == {"prompt_tokens": len(engine.tokenize(prompt)), "context_size": CONTEXT}
    assert engine.ask(PROMPT, max_tokens=2).finished.completion_tokens == 2


def test_a_reply_ends_where_the_context_does(engine: LivingEngine) -> None:
    prompt = PROMPT
    while len(engine.tokenize(prompt)) < CONTEXT - 60:
        prompt += " 1, 2, 3, 4, 5, 6, 7, 8,"
    reply = engine.ask(prompt, max_tokens=-1)
    assert reply.finished.reason in ("length", "stop")
    assert reply.finished.prompt_tokens + reply.finished.completion_tokens <= CONTEXT


def test_a_second_turn_does_not_pay_for_the_first(engine: LivingEngine) -> None:
    first = engine.ask(STORY * 4, max_tokens=8)
    second = engine.ask(STORY * 4 + first.text + " And then", max_tokens=4)
    assert second.finished.cached_tokens >= first.finished.prompt_tokens - 2
    assert second.finished.cached_tokens < second.finished.prompt_tokens


def test_a_reply_is_the_same_from_a_warm_cache(engine: LivingEngine) -> None:
    fresh = engine.ask("Another beginning: " + PROMPT, max_tokens=8).text
    engine.ask("Another beginning: something else entirely", max_tokens=8)
    assert engine.ask("Another beginning: " + PROMPT, max_tokens=8).text == fresh


def test_samplers_that_the_engine_lacks_are_named(engine: LivingEngine) -> None:
    reply = engine.ask(PROMPT, max_tokens=2, temperature=0.8, mirostat="v2", dry_multiplier=0.8, repeat_penalty=1.2)
    lacking = {"mirostat", "dry_multiplier", "repeat_penalty"} - engine.spec.samplers
    assert {"mirostat", "dry_multiplier", "repeat_penalty"} & set(reply.finished.ignored_sampling) == lacking


def test_runs_as_many_jobs_at_once_as_it_says(engine: LivingEngine) -> None:
    prompts = [f"{PROMPT} {number}" for number in range(engine.model.slots)]

    async def together() -> list[Reply]:
        return await asyncio.gather(*(engine.collect(prompt, max_tokens=12) for prompt in prompts))

    replies = engine.run(together())
    assert len(replies) == engine.model.slots
    assert all(reply.text and reply.finished.completion_tokens for reply in replies)


@pytest.mark.parametrize("name", list(LOADERS))
def test_unloads_and_loads_again(name: str, start_engine: Callable[..., LivingEngine]) -> None:
    texts = []
    for _ in range(2):
        living = start_engine(name)
        pid = living.worker.pid
        texts.append(living.ask(PROMPT, max_tokens=8).text)
        living.close()
        assert pid is not None
        assert not psutil.pid_exists(pid)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", list(LOADERS))
def test_a_file_cut_short_is_refused_with_a_named_reason(
    name: str, start_engine: Callable[..., LivingEngine], models: Models, tmp_path: Path
) -> None:
    facts = cut_short(models.for_loader(LOADERS[name]), tmp_path)
    with pytest.raises(AppError) as caught:
        start_engine(name, facts).close()
    assert caught.value.category == "model"
    assert caught.value.message
    assert caught.value.cause or caught.value.evidence


def cut_short(facts: ModelFacts, folder: Path) -> ModelFacts:
    """A copy of the model whose last weight file ends in the middle, with the facts of the whole one."""
    if facts.path.is_dir():
        path = Path(shutil.copytree(facts.path, folder / "model"))
        files = tuple(path / file.name for file in facts.files)
    else:
        path = Path(shutil.copy(facts.path, folder))
        files = (path,)
    with files[-1].open("r+b") as file:
        file.truncate(files[-1].stat().st_size // 2)
    return replace(facts, path=path, files=files)


def test_the_llama_cpp_loaders_say_the_same(start_engine: Callable[..., LivingEngine], models: Models) -> None:
    """The first 16 tokens only: builds round differently, and a small model is soon undecided between two words."""
    firsts = {}
    for name in LLAMA_CPP:
        living = start_engine(name)
        assert living.facts.path == models.starter
        firsts[name] = living.ask(PROMPT, max_tokens=16).text
        living.close()
    assert len(set(firsts.values())) == 1, firsts


@pytest.mark.parametrize("spec", LOADERS.values(), ids=LOADERS.keys())
def test_every_field_has_a_control_and_the_safe_ones_are_valid(spec: LoaderSpec) -> None:
    assert len(controls(spec.parameters)) == len(spec.parameters.model_fields)
    assert spec.parameters.parse(spec.safe_parameters).changed()
    assert spec.samplers <= LoaderSpec.ALL_SAMPLERS
    assert spec.availability().ok or spec.name in NEEDS
