"""Which loader opens which model on which machine: the table that people read, held against the ranking."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hardware import machines
from webui.hardware.facts import HardwareFacts
from webui.loaders import LOADERS
from webui.loaders.contract import Availability
from webui.loaders.devices import Ability, EngineDevice
from webui.loaders.parameters import keep_known
from webui.models.facts import ModelFacts, ModelFormat
from webui.planning.evidence import Evidence, engines_here
from webui.planning.plan import GpuRoom, Machine
from webui.planning.planner import Question, outline
from webui.planning.selection import Candidate, rank
from webui.planning.speed import Speed

TABLE: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "selection_cases.yaml").read_text("utf-8"))
INSTALLED = ["ctransformers", "transformers", "xllamacpp", "llama-cpp-python"]
MEASUREMENT = {"rate", "depth", "source"}
GB = 1e9


def model(name: str) -> ModelFacts:
    told = TABLE["models"][name]
    types = {kind: int(size * GB) for kind, size in told.get("types", {}).items()}
    form = ModelFormat(told.get("format", "gguf"))
    size = int(told.get("size", 0) * GB) or sum(types.values())
    files = tuple(Path(f"{name}-{part}") for part in range(told.get("parts", 1)))
    return ModelFacts(
        path=files[0],
        format=form,
        files=files,
        file_bytes=size,
        name=told["name"],
        architecture=told.get("architecture"),
        parameter_count=int(told["billions"] * 1e9) if "billions" in told else None,
        block_count=told.get("layers"),
        context_length=told.get("context"),
        embedding_length=told.get("width"),
        head_count=told.get("heads"),
        head_count_kv=told.get("kv", told.get("heads")),
        expert_count=told.get("experts"),
        vocabulary_size=32_000,
        tokenizer=told.get("tokenizer"),
        tensor_bytes=sum(types.values()) or None,
        tensor_types=types,
        gguf_version=told.get("version", 3) if form is ModelFormat.GGUF else None,
        byte_order="little" if form is ModelFormat.GGUF else None,
    )


@cache
def hardware(name: str) -> HardwareFacts:
    if name == "no-gpu":
        return replace(hardware("wsl-nvidia"), gpus=(), problems=())
    with tempfile.TemporaryDirectory() as folder:
        return machines.facts(name, Path(folder))


def evidence(case: Mapping[str, Any], facts: ModelFacts, here: HardwareFacts) -> Evidence:
    asked = {}
    for name, spec in LOADERS.items():
        values = keep_known(spec.parameters, case.get("asked", {}))
        asked[name] = spec.parameters.parse(values).model_dump(mode="json")
    gpus = tuple(GpuRoom(gpu.index, gpu.name, gpu.memory_free, gpu.memory_total) for gpu in here.gpus)
    room = Machine(here.memory.available, here.memory.total, gpus)
    able = {name: spec for name, spec in LOADERS.items() if spec.can_open(facts).ok}
    seen = [
        Ability(name, (EngineDevice("cuda", "CUDA0", "GPU"),) if uses else (), "" if uses else "this build sees no GPU")
        for name, uses in case.get("gpu", {}).items()
    ]
    return Evidence(
        asked=asked,
        plans={name: outline(Question(facts, spec, asked[name], room)) for name, spec in able.items()},
        speeds=tuple(_speed(name, told, asked[name]) for name, told in case.get("measured", {}).items()),
        engines=engines_here(here, seen, LOADERS, gpu=True),
    )


def _speed(loader: str, told: Any, asked: Mapping[str, Any]) -> Speed:
    fields = dict(told) if isinstance(told, dict) else {"rate": told}
    others = {name: value for name, value in fields.items() if name not in MEASUREMENT}
    return Speed(
        loader,
        {**asked, **others},
        float(fields["rate"]),
        depth=fields.get("depth", 0),
        source=fields.get("source", "bench"),
    )


def ranking(case: Mapping[str, Any]) -> tuple[Candidate, ...]:
    facts, here = model(case["model"]), hardware(case["machine"])
    installed = case.get("installed", INSTALLED)

    def availability(spec: Any, of: ModelFacts) -> Availability:
        if spec.name in installed:
            return Availability(True, "", "1")
        missing = "There is no executable." if spec.name == "llamafile" else f"{spec.name} is not installed"
        return Availability(False, missing)

    return rank(
        facts,
        LOADERS,
        order=case.get("order", ()),
        enabled=lambda name: True,
        forced=case.get("forced"),
        availability=availability,
        evidence=evidence(case, facts, here),
    )


def _name(case: Mapping[str, Any]) -> str:
    return f"{case['model']} on {case['machine']}: {case['wins']}"


@pytest.mark.parametrize("case", TABLE["cases"], ids=_name)
def test_an_expert_would_say_the_same(case: Mapping[str, Any]) -> None:
    candidates = ranking(case)
    suitable = [one for one in candidates if one.suitable]
    assert [one.loader for one in suitable] == [name for name in [case["wins"]] if name != "nobody"] + case["then"]
    if suitable:
        assert case["because"] in suitable[0].chosen_because
    judged = {one.loader: one for one in candidates}
    for loader, reason in case.get("cannot", {}).items():
        assert not judged[loader].suitable
        assert reason in judged[loader].reason
    for loader, reason in case.get("later", {}).items():
        assert reason in judged[loader].chosen_because
    assert all(one.reason for one in candidates)


def test_the_table_is_large_and_every_model_stands_in_it() -> None:
    assert len(TABLE["cases"]) >= 30
    assert {case["model"] for case in TABLE["cases"]} == set(TABLE["models"])
