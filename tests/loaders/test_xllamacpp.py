"""The xllamacpp loader with the real engine and the starter model; what all loaders share is in test_contract.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.builders.gguf import tiny_llama_spm
from tests.builders.gguf_document import STRING, parse
from tests.loaders.running import TWO_TURNS, Collected, collect, gguf_facts
from webui.errors import ContextTooLong, CorruptFile, InvalidSetting, ModelNotFound, UnsupportedFormat
from webui.loaders.contract import Chunk, Finished, GenerationRequest
from webui.loaders.sampling import SamplingParameters
from webui.loaders.xllamacpp import SPEC, XllamacppLoader, XllamacppParameters

pytestmark = pytest.mark.engine


def open_loader(path: Path, **parameters: Any) -> XllamacppLoader:
    wanted = {"context_size": 1024, "threads": 1, "warmup": False, **parameters}
    return XllamacppLoader(gguf_facts(path), XllamacppParameters.parse(wanted))


@pytest.fixture(scope="module")
def loader(starter_model: Path) -> Iterator[XllamacppLoader]:
    loader = open_loader(starter_model)
    loaded = loader.load(lambda step, share: None)
    assert (loaded.context_size, loaded.slots, loaded.device_kind) == (1024, 4, "cpu")
    assert loaded.device == "CPU"
    assert loaded.gpu_layers == 0
    assert loaded.notes == ()
    yield loader
    loader.close()


def ask(loader: XllamacppLoader, prompt: str, stop: tuple[str, ...] = (), **sampling: Any) -> Collected:
    request = GenerationRequest(prompt, SamplingParameters.parse({"temperature": 0.0, **sampling}), stop)
    return collect(loader.generate(request, threading.Event()))


@pytest.mark.parametrize("template", [b"{% if %}", b"{{ 'a' * 10 ** 10 }}", b"{% for m in messages %}" * 500])
def test_a_chat_template_that_the_engine_cannot_read_is_no_hindrance(tmp_path: Path, template: bytes) -> None:
    """Prompts come rendered: the engine has no use for the template."""
    path = tiny_llama_spm(tmp_path / "m.gguf")
    document = parse(path.read_bytes())
    document.put("tokenizer.chat_template", STRING, template)
    path.write_bytes(document.build())
    loader = open_loader(path)
    loader.load(lambda step, share: None)
    assert ask(loader, "one two", max_tokens=3).finished.completion_tokens == 3
    loader.close()


def test_counts_are_true(loader: XllamacppLoader) -> None:
    reply = ask(loader, TWO_TURNS[0], max_tokens=12)
    assert reply.finished.reason == "length"
    assert reply.finished.completion_tokens == 12 == reply.tokens
    assert reply.finished.prompt_tokens == len(loader.tokenize(TWO_TURNS[0], add_bos=True))
    assert reply.finished.prompt_seconds > 0
    assert reply.finished.generation_seconds > 0
    assert reply.finished.ignored_sampling == ()


def test_a_second_turn_pays_only_for_what_is_new(loader: XllamacppLoader) -> None:
    first = ask(loader, TWO_TURNS[0], max_tokens=16)
    second = ask(loader, TWO_TURNS[0] + first.text + TWO_TURNS[1], max_tokens=4)
    new = second.finished.prompt_tokens - second.finished.cached_tokens
    assert second.finished.cached_tokens >= first.finished.prompt_tokens
    assert 0 < new <= len(loader.tokenize(TWO_TURNS[1], add_bos=False)) + 2


def test_several_jobs_run_at_once(loader: XllamacppLoader) -> None:
    alone = ask(loader, "Count: one, two,", max_tokens=8).text
    met = threading.Barrier(3)

    def job(index: int) -> str:
        request = GenerationRequest("Count: one, two,", SamplingParameters.parse({"temperature": 0.0, "max_tokens": 8}))
        events = loader.generate(request, threading.Event())
        first = next(events)
        met.wait(60)  # only passes while all three are being written
        rest = collect(events)
        assert isinstance(first, Chunk)
        return first.text + rest.text

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(job, range(3))) == [alone] * 3


def test_jobs_that_do_not_fit_together_wait_for_each_other(starter_model: Path) -> None:
    """Left to itself, the engine ends every reply when the shared cache is full."""
    small = open_loader(starter_model, context_size=256)
    small.load(lambda step, share: None)

    def job(most: int) -> Collected:
        return ask(small, "Write a long story.", max_tokens=most, temperature=1.2, min_p=0.0, seed=3)

    with ThreadPoolExecutor(3) as threads:
        replies = list(threads.map(job, (160, 150, 140)))
    small.close()
    assert [reply.finished.reason in ("length", "stop") for reply in replies] == [True] * 3


def test_a_cancelled_job_frees_its_slot(loader: XllamacppLoader) -> None:
    cancelled = threading.Event()
    request = GenerationRequest(TWO_TURNS[0], SamplingParameters.parse({"temperature": 0.0, "max_tokens": 900}))
    seen = 0
    finished = None
    for event in loader.generate(request, cancelled):
        if isinstance(event, Finished):
            finished = event
        else:
            seen += event.tokens
            cancelled.set()
    assert finished is not None
    assert finished.reason == "cancelled"
    assert finished.completion_tokens == seen < 900
    assert [ask(loader, "Count: one, two,", max_tokens=2).finished.reason for _ in range(5)] == ["length"] * 5


def test_leaving_the_iterator_frees_the_slot(loader: XllamacppLoader) -> None:
    for _ in range(5):
        request = GenerationRequest(TWO_TURNS[0], SamplingParameters.parse({"max_tokens": 900}))
        events = loader.generate(request, threading.Event())
        next(events)
        events.close()  # type: ignore[attr-defined]
    assert ask(loader, "Count: one, two,", max_tokens=2).finished.completion_tokens == 2


def test_a_prompt_that_does_not_fit_is_refused(loader: XllamacppLoader) -> None:
    with pytest.raises(ContextTooLong) as caught:
        ask(loader, "word " * 2000)
    assert caught.value.facts["context_size"] == 1024
    assert caught.value.facts["prompt_tokens"] > 2000


def test_no_tokens_asked_for(loader: XllamacppLoader) -> None:
    reply = ask(loader, "Count", max_tokens=0)
    assert (reply.text, reply.finished.reason, reply.finished.completion_tokens) == ("", "length", 0)


def test_seed_and_stop(loader: XllamacppLoader) -> None:
    warm = {"max_tokens": 12, "temperature": 1.5, "min_p": 0.0}
    one, two, other = (ask(loader, TWO_TURNS[0], seed=seed, **warm).text for seed in (1, 1, 2))
    assert one == two != other
    whole = ask(loader, TWO_TURNS[0], max_tokens=12).text
    word = whole.split()[3]
    stopped = ask(loader, TWO_TURNS[0], stop=(word,), max_tokens=12)
    assert stopped.text == whole[: whole.index(word)]
    assert stopped.finished.stop_string == word


def test_only_who_knows_the_key_reaches_the_port(loader: XllamacppLoader) -> None:
    from webui.loaders.llama_server import LlamaServer

    assert LlamaServer(loader._server.listening_address).context_size() == 0
    assert loader._http.context_size() == 1024


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"junk" * 100, UnsupportedFormat), (None, CorruptFile)],
)
def test_a_bad_file_is_named(starter_model: Path, tmp_path: Path, content: bytes | None, kind: type) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(starter_model.read_bytes()[:40_000_000] if content is None else content)
    with pytest.raises(kind) as caught:
        open_loader(bad).load(lambda step, share: None)
    assert caught.value.evidence


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [
        ({"draft_model": "/nowhere/draft.gguf"}, ModelNotFound),
        ({"lora": "/nowhere/lora.gguf"}, ModelNotFound),
        ({"projector": "/nowhere/mmproj.gguf"}, ModelNotFound),
        ({"override_tensors": "no device here"}, InvalidSetting),
    ],
)
def test_a_wrong_parameter_is_named(starter_model: Path, parameters: dict[str, Any], kind: type) -> None:
    with pytest.raises(kind):
        open_loader(starter_model, **parameters).load(lambda step, share: None)


def test_every_parameter_is_taken(starter_model: Path) -> None:
    loader = open_loader(
        starter_model,
        context_size=512,
        slots=2,
        shared_cache=False,
        cache_type_k="q8_0",
        cache_type_v="q8_0",
        flash_attention="on",
        offload_kv_cache=False,
        full_window_cache=True,
        context_shift=True,
        cache_reuse=32,
        cache_ram=0,
        threads_batch=1,
        batch_size=128,
        micro_batch_size=64,
        poll=0,
        priority="low",
        cpu_mask="0x3",
        cpu_strict=True,
        numa="distribute",
        use_mmap=False,
        check_tensors=True,
        cpu_repacking="off",
        fit_to_memory=False,
        main_gpu=0,
        split_mode="none",
        tensor_split="3,1",
        offload_operations=False,
        expert_layers_on_cpu=2,
        override_tensors="ffn_up=CPU",
        rope_scaling="yarn",
        rope_freq_base=100000.0,
        rope_freq_scale=0.5,
        yarn_original_context=8192,
        yarn_ext_factor=1.0,
        yarn_attn_factor=1.0,
        yarn_beta_fast=32.0,
        yarn_beta_slow=1.0,
    )
    loaded = loader.load(lambda step, share: None)
    assert (loaded.context_size, loaded.slots) == (512, 2)
    assert ask(loader, "Count: one, two,", max_tokens=4).finished.completion_tokens == 4
    loader.close()


def test_a_draft_model_changes_nothing_but_the_speed(loader: XllamacppLoader, starter_model: Path) -> None:
    drafted = open_loader(starter_model, draft_model=str(starter_model), draft_max=4, draft_p_min=0.0)
    drafted.load(lambda step, share: None)
    assert ask(drafted, TWO_TURNS[0], max_tokens=16).text == ask(loader, TWO_TURNS[0], max_tokens=16).text
    drafted.close()


def test_the_specification() -> None:
    assert SPEC.availability().ok
    assert SPEC.slots(XllamacppParameters()) == 4
    assert SPEC.slots(XllamacppParameters(shared_cache=False)) == 1
    assert SPEC.slots(XllamacppParameters(slots=7, shared_cache=False)) == 7
