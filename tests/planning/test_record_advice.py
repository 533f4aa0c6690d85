"""Advice from the record of use, by the table of `record_advice_cases.yaml`: what is advised, and where nothing is."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from webui.errors import AppError
from webui.planning.record import Conditions, LoadRecord, Record, ReplyRecord
from webui.planning.record_advice import RULES, advise
from webui.planning.record_rules import DAY_SECONDS, Here, Loaded, RecordAdvice

CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "record_advice_cases.yaml").read_text())
NOW = 1.8e9
MIB = 1 << 20
LIFE = NOW - 30_000.0
LOADERS = frozenset({"ctransformers", "transformers", "llamafile", "xllamacpp", "llama-cpp-python"})
SETTINGS = {"s1": {"threads": 8, "flash_attention": True}, "s2": {"threads": 4, "flash_attention": True}}
UNDER = {
    "model": "m",
    "loader": "xllamacpp",
    "version": "1.0",
    "driver": "nvidia 550",
    "settings": "s1",
    "context": 8192,
    "device": "cuda",
}


def times(group: dict[str, Any], number: int) -> list[float]:
    """When the records of a group were made."""
    first, last = group.get("ago", [10, 1])
    step = (first - last) / max(1, number - 1)
    return [NOW - (first - step * place) * DAY_SECONDS for place in range(number)]


def under(group: dict[str, Any]) -> Conditions:
    return Conditions(**{name: group.get(name, value) for name, value in UNDER.items()})


def category_of(code: str) -> str:
    return AppError.from_dict({"code": code, "message": ""}).category if code else ""


def loads_of(group: dict[str, Any]) -> list[LoadRecord]:
    code = group.get("code", "")
    outcome = "failed" if code else "worked"
    size = group.get("measured", 2000) * MIB
    return [
        LoadRecord(at, under(group), outcome, group.get("seconds", 5.0), 2000 * MIB, size, code, category_of(code))  # type: ignore[arg-type]
        for at in times(group, group.get("n", 1))
    ]


def replies_of(group: dict[str, Any], dice: random.Random) -> list[ReplyRecord]:
    found = []
    for place, at in enumerate(times(group, group.get("n", 12))):
        code = group.get("code", "")
        prompt = group.get("depth", 600) + place * group.get("deeper", 0)
        memory = group.get("memory", 2000) + place * group.get("grow", 0)
        found.append(
            ReplyRecord(
                at,
                under(group),
                "failed" if code else group.get("outcome", "done"),
                life=LIFE if "life" in group else at // DAY_SECONDS,
                queued=group.get("queued", 0.0),
                first_token=group.get("first", 1.0),
                prompt_tokens=prompt,
                read=group.get("read", prompt),
                tokens=200,
                prompt_speed=group.get("prompt_speed", 500) * (1 + dice.gauss(0, 0.04)),
                speed=max(1.0, group.get("speed", 30) * (1 + dice.gauss(0, group.get("spread", 0.04)))),
                memory=int(memory * MIB * (1 + dice.gauss(0, group.get("memory_spread", 0.0)))),
                gpu_use=group.get("gpu_use"),
                shared=group.get("shared", False),
                code=code,
                category=category_of(code),
            )
        )
    return found


def record_of(case: dict[str, Any]) -> Record:
    dice = random.Random(zlib.crc32(case["name"].encode()))
    loads = [one for group in case.get("loads", []) for one in loads_of(group)]
    replies = [one for group in case.get("replies", []) for one in replies_of(group, dice)]
    return Record(loads, replies, settings=SETTINGS)


def here_of(case: dict[str, Any]) -> Here:
    told = case.get("here", {})
    loaded = Loaded("m", "xllamacpp", LIFE, told.get("context", 8192)) if told.get("loaded") else None
    return Here(
        NOW,
        ready=frozenset(told.get("ready", LOADERS)),
        gpu=told.get("gpu", True),
        on_gpu=frozenset(told.get("on_gpu", LOADERS)),
        with_slots=frozenset(told.get("with_slots", LOADERS)),
        suitable={"m": frozenset(told["suitable"])} if "suitable" in told else {},
        loaded=loaded,
        free=told.get("free", 100_000) * MIB,
        memory=told["memory"] * MIB if "memory" in told else None,
    )


def act_of(advice: RecordAdvice) -> str:
    if advice.act is None:
        return ""
    values = [str(part) for item in advice.act.parameters.items() for part in item]
    return " ".join([advice.act.kind, advice.act.loader, *values]).strip()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_what_the_record_advises(case: dict[str, Any]) -> None:
    found = advise(record_of(case), here_of(case), case.get("dismissed"))
    expected = case.get("expect", [])
    assert [one.rule for one in found] == [one["rule"] for one in expected], [one.sentence for one in found]
    for advice, wanted in zip(found, expected, strict=True):
        words = "\n".join([advice.sentence, *advice.evidence])
        assert [part for part in wanted.get("says", []) if part not in words] == [], words
        assert advice.model == wanted.get("model", "m")
        assert advice.loader == wanted.get("loader", advice.loader)
        assert act_of(advice).startswith(wanted["act"])
        assert advice.evidence


def test_the_table_is_large_and_tells_of_every_rule_both_ways() -> None:
    silent = [case for case in CASES if not case.get("expect")]
    advised = {one["rule"] for case in CASES for one in case.get("expect", [])}
    assert len(CASES) >= 40 and len(silent) >= 20
    assert len(advised) == len(RULES)


def test_the_order_of_records_does_not_matter() -> None:
    for case in CASES:
        record, here = record_of(case), here_of(case)
        mixed = random.Random(1)
        shuffled = replace(
            record,
            loads=mixed.sample(list(record.loads), len(record.loads)),
            replies=mixed.sample(list(record.replies), len(record.replies)),
        )
        told = {one.key for one in advise(record, here)}
        assert {one.key for one in advise(shuffled, here)} == told, case["name"]
