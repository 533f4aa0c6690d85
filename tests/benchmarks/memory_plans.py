"""Memory plans against what loads really take. Run with: python -m tests.benchmarks.memory_plans [--write]

Grows models of many architectures with weights of zeros (their sizes are what matters), loads each with real engines,
has a long prompt read, and measures what the processes then hold: memory of their own and pages of the file. Beside it
stands the instant plan and, where the engine can say, the exact one. `--write` puts the table into
docs/memory-plans.md. Takes a quarter of an hour. Exit status 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.builders.gguf import tiny_llama_spm
from tests.builders.grown import plans
from tests.builders.llama import Shape
from tests.builders.transformers_dir import tiny_llama_dir
from tests.conftest import cache_folder
from tests.fakes import executable
from webui.errors import AppError
from webui.hardware import detect
from webui.loaders import LOADERS, processes
from webui.loaders.contract import GenerationRequest
from webui.loaders.dry_run import plan_of
from webui.loaders.held_memory import Held, held_memory
from webui.loaders.llama_log import read_plan
from webui.loaders.sampling import SamplingParameters
from webui.loaders.supervisor import WorkerProcess
from webui.models.facts import ModelFacts
from webui.models.inspect import inspect_model
from webui.paths import PROJECT_ROOT
from webui.planning.plan import Machine
from webui.planning.planner import Question, outline
from webui.setup.starter import ensure_starter

MIB = 1 << 20
PAGE = PROJECT_ROOT / "docs" / "memory-plans.md"
MOST_INSTANT, MOST_MEDIAN, MOST_EXACT, MOST_SAID = 0.08, 0.03, 0.05, 0.02
LONGEST_PROMPT = 700
"""More than a batch, which is when all that is planned for computing is used."""
FILLED = ("ctransformers", "transformers")
"""Loaders whose cache takes memory as it is filled, which it therefore is."""
WORDS = "the sea is cold and the river is clear and "


@dataclass(frozen=True)
class Model:
    """How to make one: an architecture to grow, or a builder's name, and its size."""

    name: str
    architecture: str = ""
    vocabulary: int = 32_000
    quantization: str = "Q8_0"
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    model: Model
    loader: str
    parameters: Mapping[str, Any]

    @property
    def title(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.parameters.items() if name != "executable")


@dataclass(frozen=True)
class Row:
    """Bytes. Of cache and buffers alone, `said` is what the dry run told, `engine` what the load's log did."""

    case: Case
    facts: ModelFacts
    measured: Held
    instant: int
    exact: int | None
    engine: int | None
    said: int | None

    @property
    def error(self) -> float:
        return self.instant / self.measured.total - 1

    @property
    def exact_error(self) -> float | None:
        return None if self.exact is None else self.exact / self.measured.total - 1

    @property
    def engine_error(self) -> float | None:
        return None if not self.engine or self.said is None else self.said / self.engine - 1


MIDDLE = {
    "embedding_length": 1024,
    "attention.head_count": 16,
    "attention.head_count_kv": 4,
    "feed_forward_length": 3072,
    "block_count": 16,
}
LARGE = {
    "embedding_length": 2048,
    "attention.head_count": 32,
    "attention.head_count_kv": 8,
    "feed_forward_length": 5632,
    "block_count": 22,
}
LONG_WINDOW = {"context_size": 32_768, "micro_batch_size": 64}
"""Of the masks for a long context only what has been read is used, so they are kept small here."""
LONG = {**LONG_WINDOW, "cache_type_k": "q4_0", "cache_type_v": "q4_0"}
EXPERTS = {**MIDDLE, "expert_feed_forward_length": 768}
STARTER = Model("SmolLM2-135M")
MODELS = {
    "tiny": Model("tiny", "llama", 2_000, "F16"),
    "llama": Model("llama 0.3 B", "llama", 32_000, "Q4_K", MIDDLE),
    "llama-1b": Model("llama 1.1 B", "llama", 32_000, "Q4_0", LARGE),
    "llama-f16": Model("llama 0.3 B", "llama", 32_000, "F16", MIDDLE),
    "qwen3": Model("qwen3 0.4 B", "qwen3", 151_000, "Q8_0", MIDDLE),
    "gemma3": Model("gemma3 0.3 B", "gemma3", 64_000, "Q8_0", MIDDLE),
    "gemma2": Model("gemma2 0.2 B", "gemma2", 64_000, "Q6_K", {**MIDDLE, "block_count": 8}),
    "qwen3moe": Model("qwen3moe 0.4 B", "qwen3moe", 32_000, "Q5_K", EXPERTS),
    "gpt-oss": Model("gpt-oss 0.4 B", "gpt-oss", 32_000, "MXFP4", EXPERTS),
    "mamba2": Model("mamba2", "mamba2", 32_000, "Q8_0"),
    "lfm2": Model("lfm2", "lfm2", 32_000, "Q8_0"),
}


def cases(server: Path) -> Iterator[Case]:
    """All combinations, the starter model's first."""
    for loader in ("xllamacpp", "llama-cpp-python"):
        for tokens in (512, 2048, 8192):
            yield Case(STARTER, loader, {"context_size": tokens})
        yield Case(STARTER, loader, {"context_size": 8192, "cache_type_k": "q8_0", "cache_type_v": "q8_0"})
        yield Case(STARTER, loader, {"context_size": 1024, "flash_attention": "off"})
        yield Case(STARTER, loader, {"context_size": 4096, "use_mmap": False})
        yield Case(MODELS["tiny"], loader, {"context_size": 4096})
        yield Case(MODELS["llama"], loader, {"context_size": 4096})
        yield Case(MODELS["llama"], loader, LONG)
        yield Case(MODELS["llama-f16"], loader, {"context_size": 16_384})
        yield Case(MODELS["llama-1b"], loader, {"context_size": 4096})
        yield Case(MODELS["llama-1b"], loader, {"context_size": 16_384, "cpu_repacking": "off"})
        yield Case(MODELS["qwen3"], loader, {"context_size": 8192, "micro_batch_size": 128})
        yield Case(MODELS["gemma3"], loader, LONG_WINDOW)
        yield Case(MODELS["gemma2"], loader, {"context_size": 8192, "full_window_cache": True})
        yield Case(MODELS["qwen3moe"], loader, {"context_size": 8192})
        yield Case(MODELS["gpt-oss"], loader, {"context_size": 16_384})
        yield Case(MODELS["mamba2"], loader, {"context_size": 4096})
        yield Case(MODELS["lfm2"], loader, {"context_size": 8192})
    yield Case(MODELS["llama"], "xllamacpp", {"context_size": 4096, "shared_cache": False, "slots": 2})
    for model, tokens in ((STARTER, 4096), (MODELS["llama-1b"], 2048), (MODELS["qwen3"], 8192)):
        yield Case(model, "llamafile", {"executable": str(server), "context_size": tokens})
    for tokens in (1024, 2048, 4096):
        yield Case(Model("llama 0.2 B", "spm"), "ctransformers", {"context_size": tokens})
    yield Case(STARTER, "transformers", {"context_size": 1024})
    yield Case(STARTER, "transformers", {"context_size": 1024, "dtype": "bfloat16"})
    yield Case(Model("llama 0.2 B", "dir"), "transformers", {"context_size": 1024})


def made(model: Model, folder: Path) -> Path:
    """The model's file, made once."""
    shape = Shape(blocks=12, width=1024, heads=16, heads_kv=4, feed_forward=3072, context=8192)
    if model is STARTER:
        return ensure_starter(cache_folder(), lambda text, share: None)
    path = folder / f"{model.name}-{model.architecture}-{model.quantization}".replace(" ", "-")
    if model.architecture == "spm":
        return path if path.exists() else tiny_llama_spm(path, shape=shape)
    if model.architecture == "dir":
        return path if path.exists() else tiny_llama_dir(path, shape=shape)
    if not path.exists():
        path.mkdir()
        options = {"vocabulary": model.vocabulary, "quantization": model.quantization}
        plans(path, model.architecture, [], **options, **model.values)
    return path / f"{model.architecture}.gguf"


async def measure(case: Case, folder: Path, machine: Machine) -> Row:
    """Plan the load, do it, and look at what it took."""
    facts = inspect_model(made(case.model, folder))
    spec = LOADERS[case.loader]
    parameters = spec.parameters.parse(case.parameters)
    values = parameters.model_dump(mode="json")
    question = Question(facts, spec, values, machine)
    instant = outline(question)
    exact = engine = said = None
    if spec.has_dry_run:
        answer = await plan_of(spec, facts, values)
        exact = outline(question, answer).total
        said = answer.cache + sum(answer.compute.values())
    worker = WorkerProcess(spec)
    await worker.start()
    try:
        loaded = await worker.load(facts, parameters)
        length = min(LONGEST_PROMPT, loaded.context_size - 32)
        if case.loader in FILLED or values.get("flash_attention") == "off":
            length = loaded.context_size - 32
        prompt = await _prompt(worker, length)
        async for _ in worker.generate(GenerationRequest(prompt, SamplingParameters(max_tokens=8))).events():
            pass
        held = held_memory([process.pid for process in processes.family(worker.pid)], facts.files)
        if held is None:
            raise AssertionError("it has just answered")
        if logged := read_plan(worker.output):
            engine = logged.cache + sum(logged.compute.values())
        return Row(case, facts, held, instant.total, exact, engine, said)
    finally:
        await worker.stop()


async def _prompt(worker: WorkerProcess, tokens: int) -> str:
    text = WORDS * (tokens // 4)
    count = len(await worker.tokenize(text))
    return text[: int(len(text) * min(1.0, tokens / count))]


def table(rows: Sequence[Row]) -> str:
    lines = [
        "| model | loader | parameters | measured | plan | | exact | |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        name = row.case.model.name + (f", {row.facts.quantization}" if row.facts.quantization else "")
        exact = f"{row.exact / MIB:.0f} | {row.exact_error:+.1%}" if row.exact is not None else "– | –"
        lines.append(
            f"| {name} | {row.case.loader} | {row.case.title} | {row.measured.total / MIB:.0f} "
            f"| {row.instant / MIB:.0f} | {row.error:+.1%} | {exact} |"
        )
    return "\n".join(lines)


def page(rows: Sequence[Row], machine: str) -> str:
    kinds = {row.facts.architecture for row in rows}
    return f"""# Memory plans, measured

What the plan says before a load, beside what the load then takes: {len(rows)} combinations of {len(kinds)}
architectures, quantisations, contexts, cache types and all loaders, loaded for real on {machine}. Sizes are MiB.
Measured is the memory that belongs to the engine's processes and the pages of the model's file that lie in memory,
after a prompt longer than a batch was read. Made by `python -m tests.benchmarks.memory_plans --write`; models other
than SmolLM2 have weights of zeros or of noise, since only their sizes matter.

- The plan is off by {summary(row.error for row in rows)}.
- With the engine's own figures (`plan --exact`) it is off by {summary(row.exact_error for row in rows)}.
- Of cache and buffers alone, the exact plan differs from what the engine then logs by
  {summary(row.engine_error for row in rows)}.

{table(rows)}
"""


def summary(errors: Iterable[float | None]) -> str:
    found = [abs(error) for error in errors if error is not None]
    return f"{statistics.median(found):.1%} in the median and {max(found):.1%} at most" if found else "nothing known"


async def run(only: str) -> list[Row]:
    facts = detect(Path.cwd())
    machine = Machine(None, None, instruction_sets=frozenset(facts.cpu.instruction_sets))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = executable(folder, "llama-server", "llama_server")
        for case in cases(server):
            if only and only not in f"{case.model.name} {case.loader} {case.title}":
                continue
            try:
                row = await measure(case, folder, machine)
            except AppError as error:
                sys.stdout.write(f"{case.model.name} {case.loader} {case.title}: {error.message} {error.cause}\n")
                continue
            rows.append(row)
            exact = "" if row.exact_error is None else f", exact {row.exact_error:+.1%}"
            sys.stdout.write(
                f"{case.model.name} {case.loader} {case.title}: {row.measured.own / MIB:.0f} + "
                f"{row.measured.mapped / MIB:.0f} MiB, plan {row.instant / MIB:.0f} ({row.error:+.1%}){exact}\n"
            )
            sys.stdout.flush()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/memory-plans.md")
    parser.add_argument("--only", default="", metavar="WORD", help="only combinations that hold this")
    asked = parser.parse_args()
    rows = asyncio.run(run(asked.only))
    errors = [abs(row.error) for row in rows]
    exact = [abs(row.exact_error) for row in rows if row.exact_error is not None]
    sys.stdout.write(f"{len(rows)} combinations: {summary(errors)}; exact: {summary(exact)}\n")
    if asked.write:
        cpu = detect(Path.cwd()).cpu
        PAGE.write_text(page(rows, f"{cpu.model or cpu.architecture}"), encoding="utf-8")
    good = max(errors) <= MOST_INSTANT and statistics.median(errors) <= MOST_MEDIAN
    said = [abs(row.engine_error) for row in rows if row.engine_error is not None]
    good = good and max(exact, default=0) <= MOST_EXACT and max(said, default=0) <= MOST_SAID
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
