"""Whatever fails in whatever order: the ladder ends, repeats nothing, and never asks for more after memory ran out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planning.situations import GIB, LLAMA_8B, situation
from webui import errors
from webui.errors import AppError, CorruptFile, DeviceOutOfMemory, EngineCrashed, HostOutOfMemory, PortTaken
from webui.planning.attempts import need_of
from webui.planning.recovery import (
    Attempt,
    Bounds,
    GiveUp,
    Known,
    Situation,
    StepKind,
    Tried,
    next_attempt,
    restart_attempt,
)

NAMES = ("ctransformers", "transformers", "llamafile", "xllamacpp", "llama-cpp-python")
FAILURES = (
    EngineCrashed("It crashed (SIGSEGV).", signal="SIGSEGV"),
    EngineCrashed("It crashed (SIGKILL).", signal="SIGKILL"),
    EngineCrashed("It ended unexpectedly (exit status 1).", exit_status=1),
    PortTaken("It could not listen."),
    *(kind("It failed.") for kind in (errors.EngineRefused, errors.EngineHung, errors.TimedOut, AppError)),
    *(kind("It is not there.") for kind in (errors.MissingPackage, errors.BrokenPackage, errors.IncompatibleDriver)),
    *(kind("It is unknown.") for kind in (errors.UnsupportedArchitecture, errors.UnsupportedQuantization)),
    DeviceOutOfMemory("The GPU is full."),
    HostOutOfMemory("The memory is full."),
)
FINAL = (CorruptFile, errors.ModelNotFound, errors.ContextTooLong, errors.Cancelled, errors.InvalidSetting)

memory = st.one_of(st.none(), st.integers(0, 64 * GIB))
shapes = st.sampled_from(
    [LLAMA_8B, replace(LLAMA_8B, block_count=None, head_count=None, parameter_count=None, context_length=None)]
)
asked = st.fixed_dictionaries(
    {},
    optional={
        "context_size": st.sampled_from([0, 512, 2048, 4096, 32_768]),
        "gpu_layers": st.integers(-1, 40),
        "cache_type_k": st.sampled_from(["f16", "q8_0", "f32"]),
        "cache_type_v": st.sampled_from(["f16", "q8_0"]),
        "flash_attention": st.sampled_from(["auto", "on", "off"]),
        "use_mmap": st.booleans(),
        "use_mlock": st.booleans(),
        "cpu_repacking": st.sampled_from(["auto", "on", "off"]),
        "threads": st.integers(0, 8),
        "device_map": st.sampled_from(["auto", "cpu"]),
        "attention": st.sampled_from(["auto", "eager"]),
        "quantization": st.sampled_from(["none", "hqq-8bit"]),
        "shared_cache": st.booleans(),
        "slots": st.integers(0, 4),
    },
)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    made = situation(
        *names,
        asked=draw(asked),
        facts=draw(shapes),
        host_available=draw(memory),
        device_available=draw(memory),
        forced=draw(st.booleans()),
        fallback=draw(st.integers(0, 4)) > 0,
        bounds=Bounds(steps=draw(st.integers(1, 20))),
    )
    return replace(made, known=draw(knowledge(made)))


@st.composite
def knowledge(draw: st.DrawFn, made: Situation) -> tuple[Known, ...]:
    """What earlier loads of the same file, under the same or other conditions, left behind."""
    found: list[Known] = []
    earlier = replace(made, host_available=draw(memory), device_available=draw(memory), known=())
    for attempt, error in walk(earlier, draw(st.lists(st.sampled_from((*FAILURES, None)), max_size=6))):
        found.append(
            Known(
                attempt.loader,
                made.asked[attempt.loader],
                attempt.parameters,
                error is None,
                error.code if error else "",
                error.message if error else "",
                earlier.host_available,
                earlier.device_available,
            )
        )
    return tuple(found)


def walk(start: Situation, failures: list[AppError | None]) -> list[tuple[Attempt, AppError | None]]:
    tried: list[Tried] = []
    for failure in failures:
        step = next_attempt(replace(start, tried=tuple(tried)))
        if isinstance(step, GiveUp):
            break
        tried.append(Tried(step, failure))
        if failure is None:
            break
    return [(one.attempt, one.error) for one in tried]


def key(attempt: Attempt) -> tuple[str, tuple[tuple[str, Any], ...]]:
    return attempt.loader, tuple(sorted(attempt.parameters.items()))


@settings(deadline=None)
@given(start=situations(), data=st.data())
def test_any_sequence_of_failures(start: Situation, data: st.DataObject) -> None:
    tried: list[Tried] = []
    while isinstance(step := next_attempt(replace(start, tried=tuple(tried))), Attempt):
        check(start, tried, step)
        tried.append(Tried(step, data.draw(st.sampled_from(FAILURES))))
        assert len(tried) <= start.bounds.steps
    check_end(tried, step)


def check(start: Situation, tried: list[Tried], step: Attempt) -> None:
    spec = start.specs[step.loader]
    assert step.reason.endswith((".", "…"))
    assert spec.parameters.parse(step.parameters).model_dump(mode="json") == dict(step.parameters)
    assert dict(step.changes) == {k: v for k, v in step.parameters.items() if start.asked[step.loader][k] != v}
    assert bool(step.given_up) or not costly(step)
    if start.forced:
        assert step.loader == start.candidates[0].loader
    if not start.fallback:
        assert not tried
        assert dict(step.parameters) == dict(start.asked[step.loader])
    repeats = [key(one.attempt) for one in tried].count(key(step))
    assert repeats <= (step.kind is StepKind.RESTART)
    need = need_of(start, step)
    for one in tried:
        if isinstance(one.error, HostOutOfMemory):
            before = need_of(start, one.attempt)
            assert need.kept <= before.kept
            assert need.kept < before.kept or need.total < before.total
        if isinstance(one.error, DeviceOutOfMemory):
            now = need_of(start, step, gpu=True).device
            assert now == 0 or now < need_of(start, one.attempt, gpu=True).device
    asked_context = start.asked[step.loader]["context_size"]
    if "context_size" in step.changes:
        assert step.changes["context_size"] >= min(2048, asked_context or 2048)


def costly(step: Attempt) -> bool:
    free = {"use_mmap": True, "use_mlock": False}
    return any(free.get(name) != value for name, value in step.changes.items())


def check_end(tried: list[Tried], end: GiveUp) -> None:
    if not tried:
        assert isinstance(end.error, HostOutOfMemory)
        assert end.error.facts["needed_bytes"] > end.error.facts["available_bytes"]
        return
    first = tried[0].error
    assert first is not None
    assert (type(end.error), end.error.message) == (type(first), first.message)
    told = [(one["loader"], one["code"]) for one in end.error.facts["story"]]
    assert told == [(one.attempt.loader, one.error.code) for one in tried if one.error]


@settings(deadline=None)
@given(start=situations(), failures=st.lists(st.sampled_from(FAILURES), max_size=8), last=st.sampled_from(FINAL))
def test_a_fault_of_the_file_or_the_request_ends_it_at_once(
    start: Situation, failures: list[AppError], last: type[AppError]
) -> None:
    tried = tuple(Tried(attempt, error) for attempt, error in walk(start, list(failures)))
    step = next_attempt(replace(start, tried=tried))
    if isinstance(step, Attempt):
        end = next_attempt(replace(start, tried=(*tried, Tried(step, last("This is the end.")))))
        assert isinstance(end, GiveUp)
        assert type(end.error) is last


@settings(deadline=None)
@given(start=situations(), seconds=st.floats(0, 4000))
def test_the_bound_on_seconds_holds(start: Situation, seconds: float) -> None:
    first = next_attempt(start)
    if isinstance(first, GiveUp):
        return
    after = next_attempt(replace(start, tried=(Tried(first, FAILURES[0]),), elapsed_seconds=seconds))
    if seconds >= start.bounds.seconds:
        assert isinstance(after, GiveUp)


@settings(deadline=None)
@given(start=situations(), data=st.data())
def test_a_running_model_that_keeps_dying_is_given_up(start: Situation, data: st.DataObject) -> None:
    step = next_attempt(start)
    if isinstance(step, GiveUp):
        return
    tried = [Tried(step, None)]
    for deaths in range(1, 6):
        death = data.draw(st.sampled_from(FAILURES))
        step = restart_attempt(replace(start, tried=tuple(tried)), death, deaths)
        if isinstance(step, GiveUp):
            assert deaths > 3 or isinstance(death, HostOutOfMemory | DeviceOutOfMemory)
            return
        assert step.reason
        if not start.fallback:
            assert step.kind is StepKind.RESTART
        if start.forced:
            assert step.loader == tried[0].attempt.loader
        tried[-1] = replace(tried[-1], error=death)
        tried.append(Tried(step, None))
    raise AssertionError("it was started for ever")
