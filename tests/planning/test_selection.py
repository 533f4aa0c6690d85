"""The ranking of loaders, as tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.errors import MissingPackage, UnsupportedFormat
from webui.loaders.contract import Availability, Loader, LoaderSpec, Verdict
from webui.loaders.parameters import Parameters
from webui.models.facts import ModelFacts, ModelFormat
from webui.planning.selection import Candidate, rank, refusal

FACTS = ModelFacts(Path("m.gguf"), ModelFormat.GGUF, (Path("m.gguf"),), 1, "m", architecture="llama")
YES = Verdict(True, "opens it")
NO = Verdict(False, "needs another tokenizer")
CONVERTS = Verdict(True, "opens it after converting", converts=True)


def spec(name: str, verdict: Verdict) -> LoaderSpec:
    return LoaderSpec(
        name=name,
        title=name,
        summary="",
        parameters=Parameters,
        loader=Loader,
        formats=frozenset({ModelFormat.GGUF}),
        devices=("cpu",),
        samplers=frozenset(),
        can_open=lambda facts: verdict,
    )


def ranked(
    verdicts: dict[str, Verdict],
    *,
    order: tuple[str, ...] = (),
    disabled: tuple[str, ...] = (),
    missing: tuple[str, ...] = (),
    forced: str | None = None,
) -> tuple[Candidate, ...]:
    return rank(
        FACTS,
        {name: spec(name, verdict) for name, verdict in verdicts.items()},
        order=order,
        enabled=lambda name: name not in disabled,
        forced=forced,
        availability=lambda one, facts: (
            Availability(False, f"{one.name} is not installed")
            if one.name in missing
            else Availability(True, "", "1.0")
        ),
    )


ALL = {"a": YES, "b": YES, "c": YES}


@pytest.mark.parametrize(
    ("verdicts", "options", "suitable", "others"),
    [
        (ALL, {}, ["a", "b", "c"], []),
        (ALL, {"order": ("c", "a")}, ["c", "a", "b"], []),
        (ALL, {"order": ("unknown", "b", "b")}, ["b", "a", "c"], []),
        ({"a": CONVERTS, "b": YES, "c": CONVERTS}, {}, ["b", "a", "c"], []),
        ({"a": CONVERTS, "b": NO}, {}, ["a"], ["b"]),
        ({"a": NO, "b": YES, "c": YES}, {}, ["b", "c"], ["a"]),
        (ALL, {"disabled": ("a",)}, ["b", "c"], ["a"]),
        (ALL, {"missing": ("b",)}, ["a", "c"], ["b"]),
        (ALL, {"forced": "c"}, ["c"], ["a", "b"]),
        (ALL, {"forced": "c", "disabled": ("c",)}, ["c"], ["a", "b"]),
        (ALL, {"forced": "c", "missing": ("c",)}, [], ["a", "b", "c"]),
        ({"a": YES, "b": NO}, {"forced": "b"}, [], ["a", "b"]),
        ({"a": NO, "b": NO}, {}, [], ["a", "b"]),
        ({}, {}, [], []),
    ],
)
def test_order(verdicts: dict[str, Verdict], options: dict, suitable: list[str], others: list[str]) -> None:
    candidates = ranked(verdicts, **options)
    assert [one.loader for one in candidates if one.suitable] == suitable
    assert [one.loader for one in candidates] == suitable + others


@pytest.mark.parametrize(
    ("verdict", "options", "reason"),
    [
        (YES, {}, "opens it"),
        (NO, {}, "needs another tokenizer"),
        (NO, {"missing": ("a",)}, "needs another tokenizer"),  # installing it would not help
        (YES, {"missing": ("a",)}, "a is not installed"),
        (YES, {"missing": ("a",), "disabled": ("a",)}, "a is not installed"),
        (YES, {"disabled": ("a",)}, "switched off in the settings"),
        (YES, {"forced": "b"}, "b was chosen by hand"),
        (NO, {"forced": "a"}, "needs another tokenizer"),
        (YES, {"forced": "a", "missing": ("a",)}, "a is not installed"),
        (YES, {"forced": "a", "disabled": ("a",)}, "opens it"),
    ],
)
def test_each_loader_has_its_reason(verdict: Verdict, options: dict, reason: str) -> None:
    candidates = {one.loader: one for one in ranked({"a": verdict, "b": YES}, **options)}
    assert reason in candidates["a"].reason


def test_only_suitable_loaders_say_why_they_stand_there() -> None:
    first, second, third, fourth = ranked({"a": CONVERTS, "b": YES, "c": NO, "d": YES})
    assert "first in the order of priority" in first.chosen_because
    assert "next" in second.chosen_because
    assert "convert" in third.chosen_because
    assert fourth.chosen_because == ""
    assert ranked({"a": CONVERTS})[0].chosen_because == "no other loader that is ready here opens the file as it is"
    assert ranked(ALL, forced="b")[0].chosen_because == "chosen by hand"


def test_a_failing_check_of_an_extension_leaves_the_others() -> None:
    def broken(facts: ModelFacts) -> Verdict:
        raise KeyError("llama")

    loaders = {"bad": spec("bad", YES), "good": spec("good", YES)}
    object.__setattr__(loaders["bad"], "can_open", broken)
    candidates = rank(
        FACTS,
        loaders,
        order=(),
        enabled=lambda name: True,
        forced=None,
        availability=lambda one, facts: Availability(True, ""),
    )
    assert [one.loader for one in candidates if one.suitable] == ["good"]
    assert "KeyError" in candidates[1].reason


def test_refusal_names_what_to_install_only_where_that_helps() -> None:
    helps = refusal(FACTS, ranked({"a": YES, "b": NO}, missing=("a", "b")))
    assert isinstance(helps, MissingPackage)
    assert "a (" in helps.hint and "setup a)" in helps.hint
    assert "b" not in helps.hint.split("(")[0].replace("Installing one of these helps: ", "")
    hopeless = refusal(FACTS, ranked({"a": NO, "b": NO}, missing=("b",)))
    assert isinstance(hopeless, UnsupportedFormat)
    assert "a: needs another tokenizer" in hopeless.cause


def test_refusal_of_a_forced_loader_is_about_that_loader() -> None:
    verdicts = {"a": NO, "b": YES, "c": YES}
    cannot = refusal(FACTS, ranked(verdicts, forced="a", missing=("c",)), "a")
    assert isinstance(cannot, UnsupportedFormat)
    assert (cannot.message, cannot.cause) == ("a cannot open m.", "needs another tokenizer")
    assert "take b." in cannot.hint
    absent = refusal(FACTS, ranked(verdicts, forced="c", missing=("c",)), "c")
    assert isinstance(absent, MissingPackage)
    assert absent.cause == "c is not installed"
    assert "setup c" in absent.hint
