"""The ladder, told as stories: what fails, what is tried next, and what the user reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.planning.situations import GIB, LLAMA_8B, climb, situation, steps
from webui.errors import (
    AppError,
    BrokenPackage,
    Cancelled,
    CorruptFile,
    DeviceOutOfMemory,
    EngineCrashed,
    EngineHung,
    EngineRefused,
    HostOutOfMemory,
    IncompatibleDriver,
    MissingPackage,
    PortTaken,
    UnsupportedArchitecture,
)
from webui.models.facts import ModelFacts, ModelFormat
from webui.planning.recovery import (
    Attempt,
    Bounds,
    GiveUp,
    Known,
    Situation,
    StepKind,
    Tried,
    degradation,
    next_attempt,
    restart_attempt,
)

CRASH = EngineCrashed("llama-cpp-python crashed (SIGSEGV).", signal="SIGSEGV")
KILLED = EngineCrashed("llama-cpp-python crashed (SIGKILL).", signal="SIGKILL")
GPU_FULL = DeviceOutOfMemory("The GPU's memory does not suffice for this model and context.")
MEMORY_FULL = HostOutOfMemory("The machine's memory does not suffice for this model and context.")
REFUSED = EngineRefused("transformers could not load the model.")
MISSING = MissingPackage("ctransformers is not installed.")
Q8 = {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}
NO_GPU: dict[str, Any] = {"device_available": 0}


@pytest.mark.parametrize(
    ("start", "errors", "story"),
    [
        pytest.param(situation(), (), [("as asked", "xllamacpp", {})], id="nothing failed"),
        pytest.param(
            situation("llama-cpp-python", "xllamacpp", **NO_GPU),
            (CRASH, CRASH, CRASH),
            [
                ("as asked", "llama-cpp-python", {}),
                ("safer engine flags", "llama-cpp-python", {"cpu_repacking": "off"}),
                (
                    "safer engine flags",
                    "llama-cpp-python",
                    {"cpu_repacking": "off", "flash_attention": "off", "use_mmap": False},
                ),
                ("next loader", "xllamacpp", {}),
            ],
            id="a crash costs the likeliest flag first, and flash attention is not given up for nothing",
        ),
        pytest.param(
            situation("xllamacpp"),
            (CRASH, CRASH, CRASH),
            [
                ("as asked", "xllamacpp", {}),
                ("safer engine flags", "xllamacpp", {"cpu_repacking": "off"}),
                ("safer engine flags", "xllamacpp", {"cpu_repacking": "off", "flash_attention": "off"}),
                ("CPU only", "xllamacpp", {"cpu_repacking": "off", "flash_attention": "off", "gpu_layers": 0}),
            ],
            id="with a GPU, the CPU comes after the flags",
        ),
        pytest.param(
            situation("xllamacpp", asked=Q8, **NO_GPU),
            (CRASH, CRASH),
            [
                ("as asked", "xllamacpp", {}),
                ("safer engine flags", "xllamacpp", {"cpu_repacking": "off"}),
                (
                    "safer engine flags",
                    "xllamacpp",
                    {"cpu_repacking": "off", "flash_attention": "off", "cache_type_v": "f16"},
                ),
            ],
            id="without flash attention the value cache cannot be quantised",
        ),
        pytest.param(
            situation("llama-cpp-python", device_available=6 * GIB),
            (GPU_FULL, GPU_FULL, GPU_FULL, GPU_FULL, GPU_FULL, GPU_FULL),
            [
                ("as asked", "llama-cpp-python", {}),
                ("fewer GPU layers", "llama-cpp-python", {"gpu_layers": 24}),
                ("fewer GPU layers", "llama-cpp-python", {"gpu_layers": 16}),
                ("fewer GPU layers", "llama-cpp-python", {"gpu_layers": 8}),
                ("smaller cache", "llama-cpp-python", {"gpu_layers": 8} | Q8),
                ("smaller context", "llama-cpp-python", {"gpu_layers": 8, "context_size": 2048} | Q8),
                (
                    "leaner engine flags",
                    "llama-cpp-python",
                    {"gpu_layers": 8, "context_size": 2048, "batch_size": 128, "micro_batch_size": 128} | Q8,
                ),
            ],
            id="a full GPU gets fewer layers, then a smaller cache, then a smaller context",
        ),
        pytest.param(
            situation("llama-cpp-python", device_available=None),
            (GPU_FULL,) * 7,
            [
                ("as asked", "llama-cpp-python", {}),
                ("fewer GPU layers", "llama-cpp-python", {"gpu_layers": 24}),
                ("fewer GPU layers", "llama-cpp-python", {"gpu_layers": 16}),
                ("fewer GPU layers", "llama-cpp-python", {"gpu_layers": 8}),
                ("smaller cache", "llama-cpp-python", {"gpu_layers": 8} | Q8),
                ("smaller context", "llama-cpp-python", {"gpu_layers": 8, "context_size": 2048} | Q8),
                (
                    "leaner engine flags",
                    "llama-cpp-python",
                    {"gpu_layers": 8, "context_size": 2048, "batch_size": 128, "micro_batch_size": 128} | Q8,
                ),
                ("CPU only", "llama-cpp-python", {"gpu_layers": 0}),
            ],
            id="on the CPU, what was made smaller for the GPU is as asked again",
        ),
        pytest.param(
            situation("xllamacpp", **NO_GPU),
            (MEMORY_FULL,) * 4,
            [
                ("as asked", "xllamacpp", {}),
                ("leaner engine flags", "xllamacpp", {"cpu_repacking": "off"}),
                ("smaller cache", "xllamacpp", {"cpu_repacking": "off"} | Q8),
                ("smaller context", "xllamacpp", {"cpu_repacking": "off", "context_size": 2048} | Q8),
                (
                    "leaner engine flags",
                    "xllamacpp",
                    {"cpu_repacking": "off", "context_size": 2048, "batch_size": 128, "micro_batch_size": 128} | Q8,
                ),
            ],
            id="full memory: the weights stay in the file, then cache, context and batch shrink",
        ),
        pytest.param(
            situation("ctransformers", "transformers", **NO_GPU),
            (MEMORY_FULL,) * 3,
            [
                ("as asked", "ctransformers", {}),
                ("smaller context", "ctransformers", {"context_size": 2048}),
                ("end", "", {}),
            ],
            id="after full memory, no loader that would need more by converting",
        ),
        pytest.param(
            situation("ctransformers", "transformers", "llamafile", "llama-cpp-python", **NO_GPU),
            (MISSING, REFUSED, CRASH, CRASH, CRASH),
            [
                ("as asked", "ctransformers", {}),
                ("next loader", "transformers", {}),
                ("next loader", "llamafile", {}),
                ("safer engine flags", "llamafile", {"cpu_repacking": "off"}),
                ("safer engine flags", "llamafile", {"cpu_repacking": "off", "flash_attention": "off"}),
                ("next loader", "llama-cpp-python", {}),
            ],
            id="one missing, one refusing, one crashing: the fourth loads it",
        ),
        pytest.param(
            situation("xllamacpp", "llama-cpp-python"),
            (IncompatibleDriver("The driver is too old."), REFUSED),
            [
                ("as asked", "xllamacpp", {}),
                ("CPU only", "xllamacpp", {"gpu_layers": 0}),
                ("next loader", "llama-cpp-python", {}),
            ],
            id="an old driver: the CPU of the same loader first",
        ),
        pytest.param(
            situation("ctransformers", "xllamacpp", **NO_GPU),
            (BrokenPackage("It uses instructions that this CPU does not have (SIGILL).", signal="SIGILL"),),
            [
                ("as asked", "ctransformers", {}),
                ("safer engine flags", "ctransformers", {"gpu_layers": 0, "library": "basic"}),
            ],
            id="a build for another CPU: the plainest build of the same loader first",
        ),
        pytest.param(
            situation("xllamacpp", "llama-cpp-python", asked={"threads": 8}, **NO_GPU),
            (EngineHung("It hung."), EngineHung("It hung.")),
            [
                ("as asked", "xllamacpp", {}),
                ("safer engine flags", "xllamacpp", {"cpu_repacking": "off", "threads": 4}),
                ("next loader", "llama-cpp-python", {}),
            ],
            id="a hang: once safer and with fewer threads, then the next loader",
        ),
        pytest.param(
            situation("llamafile", "xllamacpp"),
            (PortTaken("The port was taken."), PortTaken("The port was taken.")),
            [("as asked", "llamafile", {}), ("restart", "llamafile", {}), ("next loader", "xllamacpp", {})],
            id="a taken port: the same once more",
        ),
        pytest.param(
            situation("llama-cpp-python", device_available=6 * GIB),
            (GPU_FULL, GPU_FULL, GPU_FULL, GPU_FULL, EngineRefused("A quantised cache needs flash attention.")),
            [
                ("as asked", "llama-cpp-python", {}),
                ("fewer GPU layers", "llama-cpp-python", {"gpu_layers": 24}),
                ("fewer GPU layers", "llama-cpp-python", {"gpu_layers": 16}),
                ("fewer GPU layers", "llama-cpp-python", {"gpu_layers": 8}),
                ("smaller cache", "llama-cpp-python", {"gpu_layers": 8} | Q8),
                ("smaller context", "llama-cpp-python", {"gpu_layers": 8, "context_size": 2048}),
            ],
            id="where the engine refuses our own change, the ladder goes on without it",
        ),
        pytest.param(
            situation("xllamacpp", "llama-cpp-python", forced=True, **NO_GPU),
            (UnsupportedArchitecture("unknown model architecture"),),
            [("as asked", "xllamacpp", {}), ("end", "", {})],
            id="a loader chosen by hand is not left",
        ),
        pytest.param(
            situation("xllamacpp", "llama-cpp-python", fallback=False),
            (CRASH,),
            [("as asked", "xllamacpp", {}), ("end", "", {})],
            id="without fallback the first failure is the end",
        ),
        pytest.param(
            situation(bounds=Bounds(steps=2)),
            (CRASH, CRASH),
            [
                ("as asked", "xllamacpp", {}),
                ("safer engine flags", "xllamacpp", {"cpu_repacking": "off"}),
                ("end", "", {}),
            ],
            id="a ladder has a last step",
        ),
    ],
)
def test_story(start: Situation, errors: tuple[AppError, ...], story: list[tuple[str, str, dict[str, Any]]]) -> None:
    attempts, end = climb(start, *errors)
    told = [(kind.value, loader, changes) for kind, loader, changes in steps(attempts)]
    assert told + ([("end", "", {})] if end else []) == story


@pytest.mark.parametrize("kind", [CorruptFile, Cancelled], ids=lambda kind: kind.code)
@pytest.mark.parametrize(
    "before", [(), (CRASH,), (GPU_FULL, GPU_FULL), (REFUSED,)], ids=["first", "2nd", "3rd", "next"]
)
def test_a_fault_of_the_file_ends_it_wherever_it_shows(before: tuple[AppError, ...], kind: type[AppError]) -> None:
    _attempts, end = climb(situation(), *before, kind("The end."))
    assert end is not None
    assert type(end.error) is kind


# --- before loading ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "changes", "reason"),
    [
        ({"host_available": 6 * GIB}, {}, "As asked."),
        (
            {"host_available": 4 * GIB},
            {"cpu_repacking": "off"},
            "It needs 4.6 GiB as asked, and 4.0 GiB are free; with the weights left in the file, which the system may "
            "drop from memory, it needs 641 MiB beside the pages of the file.",
        ),
        (
            {"host_available": 8 * GIB, "asked": {"context_size": 0}},
            {"cpu_repacking": "off"} | Q8,
            "It needs 19.9 GiB as asked, and 8.0 GiB are free; with an 8-bit KV cache, it needs 8.7 GiB beside the "
            "pages of the file.",
        ),
        (
            {"host_available": 3 * GIB // 2, "asked": {"context_size": 32_768}},
            {"cpu_repacking": "off", "context_size": 16_384} | Q8,
            "It needs 7.8 GiB as asked, and 1.5 GiB are free; with a context of 16,384 tokens, it needs 1.2 GiB beside "
            "the pages of the file.",
        ),
        ({"host_available": 5 * GIB, "asked": {"context_size": 5000}}, {}, "As asked."),
        ({"host_available": 5 * GIB, "fallback": False}, {}, "As asked."),
        ({"host_available": None}, {}, "As asked."),
    ],
    ids=[
        "it fits",
        "the file is mapped",
        "the trained context with a smaller cache",
        "a chosen context that surely does not fit",
        "a chosen context that may fit",
        "nothing is changed without fallback",
        "unknown memory",
    ],
)
def test_a_load_is_fitted_to_the_memory_before_it_is_tried(
    options: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    first = next_attempt(situation("xllamacpp", **{**NO_GPU, **options}))
    assert isinstance(first, Attempt)
    assert (dict(first.changes), first.reason) == (changes, reason)


def test_layers_that_surely_do_not_fit_are_not_tried() -> None:
    first = next_attempt(situation("llama-cpp-python", device_available=4 * GIB))
    assert isinstance(first, Attempt)
    assert (first.kind, first.changes) == (StepKind.FEWER_LAYERS, {"gpu_layers": 22})
    assert first.reason == "33 layers need 5.1 GiB, and 4.0 GiB of GPU memory are free; 22 should fit."
    by_itself = next_attempt(situation("xllamacpp", device_available=4 * GIB))
    assert isinstance(by_itself, Attempt)
    assert by_itself.changes == {}


def test_what_fits_nowhere_is_refused_with_the_numbers() -> None:
    end = next_attempt(situation("transformers", host_available=6 * GIB, facts=LLAMA_8B, **NO_GPU))
    assert isinstance(end, GiveUp)
    assert isinstance(end.error, HostOutOfMemory)
    assert end.error.message == "llama-8b.Q4_K_M needs about 15.6 GiB, and 6.0 GiB are free."
    assert "15.0 GiB for the weights" in end.error.cause
    assert "without unpacking" in end.error.hint
    assert end.error.facts["available_bytes"] == 6 * GIB


def test_a_refusal_names_a_quantisation_that_would_fit() -> None:
    large = replace(LLAMA_8B, tensor_bytes=16_060_000_000, tensor_types={"F16": 16_060_000_000})
    end = next_attempt(situation("xllamacpp", facts=large, host_available=37 * GIB // 10, **NO_GPU))
    assert isinstance(end, GiveUp)
    assert end.error.hint.startswith("A Q2_K file of this model, about 2.8 GiB, would fit.")
    smaller = next_attempt(situation("xllamacpp", facts=large, host_available=2 * GIB, **NO_GPU))
    assert isinstance(smaller, GiveUp)
    assert "About 2.8 billion parameters as Q4_K_M would fit." in smaller.error.hint


def test_a_loader_that_needs_too_much_gives_way_to_one_that_does_not() -> None:
    first = next_attempt(situation("transformers", "xllamacpp", host_available=8 * GIB, **NO_GPU))
    assert isinstance(first, Attempt)
    assert (first.loader, first.changes) == ("xllamacpp", {})
    assert first.reason == "Transformers would need more memory than is free; xllamacpp is next."


# --- what earlier loads taught ----------------------------------------------------------------------------------------


def known(start: Situation, attempt: Attempt, error: AppError | None = None, **other: Any) -> Known:
    return Known(
        attempt.loader,
        start.asked[attempt.loader],
        attempt.parameters,
        error is None,
        error.code if error else "",
        error.message if error else "",
        start.host_available,
        start.device_available,
        **other,
    )


def learnt(start: Situation, *errors: AppError) -> tuple[Known, ...]:
    """What a load leaves behind in which all but the last attempt failed."""
    attempts, end = climb(start, *errors)
    ends: list[AppError | None] = [*errors, None]
    assert end is None
    return tuple(known(start, attempt, error) for attempt, error in zip(attempts, ends, strict=True))


def test_the_second_load_goes_straight_to_what_worked() -> None:
    start = situation("llama-cpp-python", **NO_GPU)
    again = next_attempt(replace(start, known=learnt(start, CRASH)))
    assert isinstance(again, Attempt)
    assert (again.kind, again.changes) == (StepKind.REMEMBERED, {"cpu_repacking": "off"})
    assert again.reason == "Last time, as asked, llama-cpp-python crashed (SIGSEGV); this worked."
    assert again.given_up == "weight repacking"


def test_the_second_load_goes_straight_to_the_loader_that_worked() -> None:
    start = situation("ctransformers", "transformers", "llama-cpp-python", **NO_GPU)
    again = next_attempt(replace(start, known=learnt(start, MISSING, REFUSED)))
    assert isinstance(again, Attempt)
    assert (again.kind, again.loader, again.changes) == (StepKind.REMEMBERED, "llama-cpp-python", {})
    assert again.reason == "Last time ctransformers was not installed; llama-cpp-python opened it."


def test_what_was_learnt_for_other_parameters_does_not_count() -> None:
    start = situation("llama-cpp-python", **NO_GPU)
    other = situation("llama-cpp-python", asked={"context_size": 8192}, **NO_GPU)
    first = next_attempt(replace(other, known=learnt(start, CRASH)))
    assert isinstance(first, Attempt)
    assert (first.kind, first.changes) == (StepKind.ASKED, {})


def test_an_end_of_memory_is_forgotten_with_clearly_more_memory() -> None:
    start = situation("llama-cpp-python", device_available=6 * GIB)
    lessons = learnt(start, GPU_FULL)
    for free, kind in ((6 * GIB, StepKind.REMEMBERED), (6.5 * GIB, StepKind.REMEMBERED), (7 * GIB, StepKind.ASKED)):
        first = next_attempt(replace(start, known=lessons, device_available=int(free)))
        assert isinstance(first, Attempt)
        assert first.kind is kind


def test_a_context_that_was_fitted_to_little_memory_is_not_kept_for_ever() -> None:
    tight = situation("xllamacpp", host_available=3 * GIB // 2, asked={"context_size": 32_768}, **NO_GPU)
    lessons = learnt(tight)
    assert lessons[0].parameters["context_size"] == 16_384
    first = next_attempt(replace(tight, known=lessons, host_available=64 * GIB))
    assert isinstance(first, Attempt)
    assert first.changes == {}


def test_known_failures_are_only_repeated_when_nothing_else_is_left_and_that_is_said() -> None:
    start = situation("xllamacpp", "llama-cpp-python", **NO_GPU)
    lessons = (known(start, Attempt(StepKind.ASKED, "xllamacpp", start.asked["xllamacpp"]), REFUSED),)
    first = next_attempt(replace(start, known=lessons))
    assert isinstance(first, Attempt)
    assert (first.loader, first.changes) == ("llama-cpp-python", {})
    alone = next_attempt(replace(situation("xllamacpp", **NO_GPU), known=lessons))
    assert isinstance(alone, Attempt)
    assert alone.changes == {}
    assert alone.reason.endswith(
        "It failed last time as well (transformers could not load the model), and nothing else is left."
    )


def test_a_corrupt_file_is_looked_at_again() -> None:
    start = situation("xllamacpp", "llama-cpp-python", **NO_GPU)
    asked = Attempt(StepKind.ASKED, "xllamacpp", start.asked["xllamacpp"])
    first = next_attempt(replace(start, known=(known(start, asked, CorruptFile("It is damaged.")),)))
    assert isinstance(first, Attempt)
    assert (first.kind, first.loader) == (StepKind.ASKED, "xllamacpp")


# --- a running model --------------------------------------------------------------------------------------------------


def restarts(start: Situation, *deaths: AppError) -> list[Attempt | GiveUp]:
    """What each of `deaths` in a row leads to; every restart works, until the next death."""
    first = next_attempt(start)
    assert isinstance(first, Attempt)
    tried, found = [Tried(first, None)], []
    for number, death in enumerate(deaths, 1):
        step = restart_attempt(replace(start, tried=tuple(tried)), death, number)
        found.append(step)
        if isinstance(step, Attempt):
            tried = [*tried[:-1], replace(tried[-1], error=death), Tried(step, None)]
    return found


def test_a_killed_worker_is_started_again_as_it_was_until_it_is_enough() -> None:
    *again, end = restarts(situation("llama-cpp-python", **NO_GPU), KILLED, KILLED, KILLED, KILLED)
    assert all(isinstance(step, Attempt) and step.kind is StepKind.RESTART and not step.changes for step in again)
    assert isinstance(end, GiveUp)
    assert end.error.cause.endswith("It ended 4 times within minutes and is not started again.")
    assert len(end.error.facts["story"]) == 4


def test_a_crashing_worker_gets_safer_flags_and_then_another_loader() -> None:
    first, second, third, end = restarts(situation("llama-cpp-python", "xllamacpp", **NO_GPU), *(CRASH,) * 4)
    assert isinstance(first, Attempt) and first.changes == {"cpu_repacking": "off"}
    assert isinstance(second, Attempt) and second.changes["flash_attention"] == "off"
    assert isinstance(third, Attempt) and third.loader == "xllamacpp"
    assert isinstance(end, GiveUp)


def test_a_worker_that_ran_out_of_memory_comes_back_smaller() -> None:
    (first,) = restarts(situation("llama-cpp-python", device_available=6 * GIB), GPU_FULL)
    assert isinstance(first, Attempt)
    assert (first.kind, first.changes) == (StepKind.FEWER_LAYERS, {"gpu_layers": 24})


def test_without_fallback_a_crashed_worker_comes_back_as_it_was() -> None:
    first, second = restarts(situation("llama-cpp-python", "xllamacpp", fallback=False), CRASH, CRASH)
    assert isinstance(first, Attempt) and (first.kind, first.changes) == (StepKind.RESTART, {})
    assert isinstance(second, Attempt) and (second.kind, second.changes) == (StepKind.RESTART, {})


# --- what the user reads ----------------------------------------------------------------------------------------------


def banner(start: Situation, *errors: AppError) -> tuple[str, list[str]]:
    attempts, _end = climb(start, *errors)
    ends: list[AppError | None] = [*errors, None]
    tried = [Tried(attempt, error) for attempt, error in zip(attempts, ends, strict=True)]
    loader = start.candidates[0].loader
    asked = Attempt(StepKind.ASKED, loader, start.asked[loader])
    found = degradation(asked, attempts[-1], replace(start, tried=tuple(tried)))
    return (found.sentence, [one.label for one in found.better]) if found else ("", [])


@pytest.mark.parametrize(
    ("start", "errors", "sentence", "buttons"),
    [
        (situation(), (), "", []),
        (
            situation("llama-cpp-python", asked={"gpu_layers": 28}, device_available=5 * GIB),
            (IncompatibleDriver("llama-cpp-python needs a newer driver."),),
            "Runs on the CPU: the GPU driver was too old for llama-cpp-python.",
            ["Try again as asked"],
        ),
        (
            situation("llama-cpp-python", asked={"gpu_layers": 28, "context_size": 16_384}, device_available=5 * GIB),
            (GPU_FULL,),
            "Runs with 22 of 28 layers on the GPU: the GPU ran out of memory at 28 layers.",
            ["Load with 26 layers and an 8-bit cache", "Try again as asked"],
        ),
        (
            situation("llama-cpp-python", "xllamacpp", **NO_GPU),
            (CRASH, CRASH, CRASH),
            "Runs with xllamacpp instead of llama-cpp-python: llama-cpp-python crashed (SIGSEGV).",
            ["Try again as asked"],
        ),
        (
            situation("xllamacpp", **NO_GPU),
            (MEMORY_FULL, MEMORY_FULL, MEMORY_FULL),
            "Runs with a context of 2,048 tokens instead of 4,096, with an 8-bit KV cache, without weight repacking: "
            "the machine's memory did not suffice for a context of 4,096 tokens.",
            ["Try again as asked"],
        ),
    ],
    ids=["nothing given up", "on the CPU", "fewer layers", "another loader", "smaller"],
)
def test_banner(start: Situation, errors: tuple[AppError, ...], sentence: str, buttons: list[str]) -> None:
    assert banner(start, *errors) == (sentence, buttons)


def test_the_end_tells_the_first_cause_and_the_story_in_order() -> None:
    start = situation("ctransformers", "transformers", "llamafile", **NO_GPU)
    crash = EngineCrashed("llamafile crashed (SIGSEGV).", signal="SIGSEGV", evidence=["ggml"])
    attempts, end = climb(start, MISSING, REFUSED, crash, crash, crash)
    assert end is not None
    assert isinstance(end.error, MissingPackage)
    assert end.error.message == "ctransformers is not installed."
    assert end.error.cause == "The 4 attempts after it failed too."
    assert end.error.hint == MISSING.hint
    story = end.error.facts["story"]
    assert [(one["loader"], one["kind"]) for one in story] == [(one.loader, one.kind.value) for one in attempts]
    assert AppError.from_dict(end.error.to_dict()).to_dict() == end.error.to_dict()


def test_what_ends_a_load_is_its_cause_and_what_failed_before_is_counted() -> None:
    damaged = CorruptFile("The file is damaged.", cause="a tensor lies beyond its end")
    _attempts, end = climb(situation("xllamacpp", **NO_GPU), CRASH, damaged)
    assert end is not None
    assert isinstance(end.error, CorruptFile)
    assert end.error.cause == "a tensor lies beyond its end. The attempt before it failed too."


def test_the_banner_of_a_second_load_does_not_offer_what_failed_before() -> None:
    start = situation("llama-cpp-python", device_available=24 * GIB)
    again = replace(start, known=learnt(start, GPU_FULL))
    buttons = ["Load with 33 layers and an 8-bit cache", "Try again as asked"]
    assert banner(start, GPU_FULL)[1] == banner(again)[1] == buttons
    assert banner(again)[0].endswith("Last time, as asked, the GPU ran out of memory at 33 layers; this worked.")


def test_a_single_failure_is_told_as_it_is() -> None:
    error = EngineRefused("The engine said no.", cause="it did", hint="Ask again.", evidence=["no"])
    _attempts, end = climb(situation("xllamacpp", forced=True), error)
    assert end is not None
    told = end.error
    assert (told.message, told.cause, told.hint, told.evidence) == (
        "The engine said no.",
        "it did",
        "Ask again.",
        ("no",),
    )


@pytest.mark.parametrize(
    ("file_gib", "total_gib", "free_gib", "layers"),
    [
        (3, 8, 8, -1),  # small: all of it
        (6, 6, 6, 24),  # middle: within three quarters of the memory
        (20, 24, 24, 19),  # large: within half of it
        (20, 24, 5, 6),  # and of what is free
        (20, None, 24, 19),
        (20, 1, 1, -1),  # not one layer: as asked, and the ladder does the rest
        (20, 24, 0, -1),
    ],
)
def test_a_file_that_does_not_tell_its_layers_begins_by_the_rule_of_thumb(
    file_gib: int, total_gib: int | None, free_gib: int, layers: int
) -> None:
    facts = ModelFacts(Path("old.bin"), ModelFormat.GGML, (Path("old.bin"),), file_gib * GIB, "old")
    total = total_gib * GIB if total_gib is not None else None
    first = next_attempt(situation("ctransformers", facts=facts, device_available=free_gib * GIB, device_total=total))
    assert isinstance(first, Attempt)
    assert first.parameters["gpu_layers"] == layers
    assert (first.kind is StepKind.FEWER_LAYERS) == (layers > 0)
    assert ("does not tell its layers" in first.reason) == (layers > 0)


def test_the_rule_of_thumb_gives_way_to_whoever_knows_better() -> None:
    facts = ModelFacts(Path("old.bin"), ModelFormat.GGML, (Path("old.bin"),), 20 * GIB, "old")
    room = {"device_available": 24 * GIB, "device_total": 24 * GIB}
    asked = next_attempt(situation("ctransformers", facts=facts, asked={"gpu_layers": 30}, **room))
    engine = next_attempt(situation("xllamacpp", facts=facts, **room))
    unknown = next_attempt(situation("ctransformers", facts=facts, device_available=None))
    told = next_attempt(situation("ctransformers", facts=replace(facts, block_count=40), **room))
    chosen = [one.parameters["gpu_layers"] for one in (asked, engine, unknown, told) if isinstance(one, Attempt)]
    assert chosen == [30, -1, -1, -1]
