"""A sample of the damaged files of `tests.faults.mutants`: every way of damage, every kind of model, real engines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.builders.gguf_document import parse
from tests.faults.mutants import MAKERS, Report, Run
from tests.faults.mutations import WAYS, GgufMaker, sources

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as Linux does")
SEED = 2026


async def run(kind: str, folder: Path, count: int, *, loaders: tuple[str, ...] = (), loads: float = 1.0) -> Report:
    maker = MAKERS[kind](folder)
    return await Run(maker, folder / "work", seed=SEED, loaders=loaders, loads=loads).all(range(count), jobs=2)


@pytest.mark.parametrize(("kind", "count"), [("gguf", 5 * len(WAYS)), ("directory", 130), ("llamafile", 100)])
async def test_damaged_files_are_described_or_refused(tmp_path: Path, kind: str, count: int) -> None:
    """Within bounds of time and memory, with nothing shown that cannot be shown."""
    report = await run(kind, tmp_path, count, loads=0)
    assert report.violations == []
    assert report.outcomes("inspect").total() == count
    assert report.outcomes("inspect")["corrupt_file"] > count / 10
    assert report.outcomes("inspect")["ok"] > count / 5


@pytest.mark.engine
@pytest.mark.timeout(600)
async def test_damaged_files_end_in_the_worker_that_loads_them(tmp_path: Path) -> None:
    """Every way of damage once: the model answers, or the error says what happened; nothing grows or is left."""
    loaders = ("xllamacpp", "llama-cpp-python", "ctransformers")
    report = await run("gguf", tmp_path, len(WAYS), loaders=loaders)
    assert report.violations == []
    ends = sum((report.outcomes(f"load by {name}") for name in loaders), start=report.outcomes(""))
    assert ends["ok"] >= 5
    assert ends.total() - ends["ok"] >= 5


def test_a_number_and_a_seed_are_one_file(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    makers = GgufMaker(tmp_path), GgufMaker(tmp_path / "other")
    for number in range(2 * len(WAYS)):
        one, other = (maker.case(SEED, number) for maker in makers)
        assert one == other


def test_sources_are_sound_and_parsed_whole(tmp_path: Path) -> None:
    from webui.models.inspect import inspect_model

    for source in sources(tmp_path):
        assert parse(source.data, source.order).build() == source.data, source.name
        folder = tmp_path / source.name.removesuffix(".gguf")
        folder.mkdir()
        for name, data in {**source.parts, source.name: source.data}.items():
            (folder / name).write_bytes(data)
        assert inspect_model(folder / source.name).vocabulary_size, source.name
