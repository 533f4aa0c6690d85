"""Thousands of damaged model files through the app's reader and the real engines.

    python -m tests.faults.mutants --count 10000 --jobs 2

Each file is inspected in this process, with time and memory measured. What the reader accepts is judged by every loader
and its chat template is rendered; then one loader that would take the file loads it in a worker of the real pool and is
asked for one token. It ends as a model that answers (the damage was harmless) or as one of the tree's errors, and this
process neither dies nor grows. Prints a table per kind of damage; exit status 1 if anything else happened.

A file is made from the seed and its number alone: `--seed 1 --from 1234 --count 1 --keep FOLDER` makes one again.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import logging
import re
import resource
import sys
import tempfile
import time
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil

from tests.faults.mutated_containers import DirectoryMaker, LlamafileMaker
from tests.faults.mutations import Case, GgufMaker, Maker
from webui.chat.templates import render
from webui.errors import AppError, TemplateFailed
from webui.loaders import LOADERS
from webui.loaders.contract import GenerationRequest
from webui.loaders.parameters import keep_known
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import ModelFacts, facts_to_dict
from webui.models.inspect import inspect_model
from webui.paths import Paths
from webui.planning.selection import refusal
from webui.pool import JobState, LoadRequest, Pool, open_pool
from webui.settings import Settings

INSPECT_SECONDS = 0.100
INSPECT_BYTES = 20_000_000
TEMPLATE_SECONDS = 4.0
"""The sandbox's own bound for rendering is 2 s; compiling comes before it."""
GROWTH_BYTES, SWELL_BYTES = 40_000_000, 150_000_000
"""How much more this process may hold at the end, and at its largest."""
WORKER_BYTES = 1_500_000_000
LOAD_SECONDS, SILENCE_SECONDS, START_SECONDS = 30.0, 15.0, 60.0
MOST_SECONDS = START_SECONDS + LOAD_SECONDS + SILENCE_SECONDS + 15.0
WARM_UP = 30
"""Files after which this process has imported and cached what it ever will."""
LONGEST_LABEL, LONGEST_SENTENCE = 200, 600
WEIGHTS = {"xllamacpp": 5.0, "llama-cpp-python": 3.0, "ctransformers": 3.0, "transformers": 0.25}
"""How often a loader is taken where it is suitable: one that takes seconds to import, seldom."""
ASKED = {"context_size": 256, "threads": 1, "slots": 1, "batch_size": 64, "warmup": False, "gpu_layers": 0}
MAKERS: dict[str, Callable[[Path], Maker]] = {
    "gguf": GgufMaker,
    "directory": DirectoryMaker,
    "llamafile": LlamafileMaker,
}
QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]

ABSTRACT = {"application_error", "installation_error", "hardware_error", "model_error", "configuration_error"}
FROM_INSPECT = {"corrupt_file", "unsupported_format"}
FROM_LOAD = {
    "corrupt_file",
    "engine_crashed",
    "engine_hung",
    "engine_refused",
    "context_too_long",
    "host_out_of_memory",
    "timed_out",
    "unsupported_architecture",
    "unsupported_format",
    "unsupported_quantization",
    "unsupported_tokenizer",
}
"""What may be said of a damaged file. That a package is missing or a setting wrong, for one, may not."""


@dataclass(frozen=True)
class Step:
    """One thing done with one file: `outcome` is an error's code, or "ok"."""

    number: int
    stage: str
    outcome: str
    seconds: float
    bytes: int = 0
    detail: str = ""


@dataclass
class Report:
    """What came of everything, and every breach of the rules."""

    steps: dict[str, list[Step]] = field(default_factory=lambda: defaultdict(list))
    violations: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def add(self, case: Case, step: Step) -> None:
        self.steps[case.way].append(step)

    def breach(self, case: Case, text: str) -> None:
        self.violations.append(f"{case}: {text}")

    def finish(self) -> None:
        """Rules about the whole run."""
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps for later is not lost
        self.memory.append(psutil.Process().memory_info().rss)
        if (grown := self.grown()) > GROWTH_BYTES:
            self.violations.append(f"this process grew by {grown / 1e6:.0f} MB")
        if (swelled := self.swelled()) > SWELL_BYTES:
            self.violations.append(f"this process held {swelled / 1e6:.0f} MB more in the meantime")
        if children := psutil.Process().children(recursive=True):
            self.violations.append(f"left behind: {[child.cmdline() for child in children]}")

    def grown(self) -> int:
        """Bytes this process holds more than after its first files."""
        return self.memory[-1] - self.memory[min(WARM_UP, len(self.memory) - 1)] if self.memory else 0

    def swelled(self) -> int:
        """Bytes it held more than that at its largest, with what the allocator kept."""
        return max(self.memory) - self.memory[min(WARM_UP, len(self.memory) - 1)] if self.memory else 0

    def outcomes(self, stage: str) -> Counter[str]:
        return Counter(step.outcome for steps in self.steps.values() for step in steps if step.stage == stage)


class Run:
    """One run of many files, with as many pools as there are jobs."""

    def __init__(self, maker: Maker, folder: Path, *, seed: int, loaders: Sequence[str], loads: float = 1.0) -> None:
        self.maker = maker
        self.folder = folder
        self.seed = seed
        self.loaders = tuple(loaders)
        self.loads = loads
        self.report = Report()

    async def all(self, numbers: range, jobs: int, progress: Callable[[int], None] = lambda done: None) -> Report:
        """Every number once, `jobs` at a time."""
        left = iter(numbers)

        async def work(name: str) -> None:
            async with self._pool(name) as pool:
                for number in left:
                    await self.one(number, self.folder / name, pool)
                    self.report.memory.append(psutil.Process().memory_info().rss)
                    progress(len(self.report.memory))

        with limited_memory(WORKER_BYTES):
            async with asyncio.TaskGroup() as group:
                for job in range(jobs):
                    group.create_task(work(f"job-{job}"))
        self.report.finish()
        return self.report

    async def one(self, number: int, folder: Path, pool: Pool) -> None:
        """Make one file and take it through every stage it reaches."""
        case = self.maker.case(self.seed, number)
        path = case.write(folder)
        facts = self._inspect(case, path)
        if facts is None:
            return
        self._template(case, facts)
        loader = self._judge(case, facts, pool)
        if loader is not None:
            await self._load(case, facts, loader, pool)

    # --- stages -------------------------------------------------------------------------------------------------

    def _inspect(self, case: Case, path: Path) -> ModelFacts | None:
        found, seconds = timed(lambda: inspect_model(path))
        tracemalloc.start()
        timed(lambda: inspect_model(path))
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.report.add(case, Step(case.number, "inspect", outcome(found), seconds, largest))
        if seconds > INSPECT_SECONDS or largest > INSPECT_BYTES:
            self.report.breach(case, f"inspecting took {seconds * 1000:.0f} ms and {largest / 1e6:.1f} MB")
        if isinstance(found, BaseException):
            self._check_error(case, "inspect", found, FROM_INSPECT)
            return None
        try:
            json.dumps(facts_to_dict(found), allow_nan=False)
        except ValueError as error:
            self.report.breach(case, f"the facts are no JSON: {error}")
        for label in (found.name, found.architecture, found.tokenizer, found.quantization):
            if label is not None and (len(label) > LONGEST_LABEL or not label.isprintable()):
                self.report.breach(case, f"a label nobody can show: {label[:40]!r}")
        return found

    def _template(self, case: Case, facts: ModelFacts) -> None:
        drawn, seconds = timed(lambda: render(QUESTION, facts))
        self.report.add(case, Step(case.number, "template", outcome(drawn), seconds))
        if seconds > TEMPLATE_SECONDS:
            self.report.breach(case, f"its template took {seconds:.1f} s")
        if isinstance(drawn, BaseException):
            self._check_error(case, "template", drawn, {TemplateFailed.code})

    def _judge(self, case: Case, facts: ModelFacts, pool: Pool) -> str | None:
        """The loader that shall load it, if one would."""
        candidates = pool.rank(facts)
        for one in candidates:
            if len(one.reason) > LONGEST_SENTENCE or not one.reason.isprintable() or "check of the file" in one.reason:
                self.report.breach(case, f"{one.loader} gives a strange reason: {one.reason[:200]!r}")
        suitable = [one.loader for one in candidates if one.suitable and one.loader in self.loaders]
        if not suitable:
            refused = refusal(facts, candidates)
            self._check_error(case, "judge", refused, {"unsupported_format", "missing_package"})
            self.report.add(case, Step(case.number, "judge", refused.code, 0.0))
            return None
        self.report.add(case, Step(case.number, "judge", "ok", 0.0))
        draw = Random(f"loader {self.seed} {case.number}")
        if draw.random() >= self.loads:
            return None
        return draw.choices(suitable, [WEIGHTS.get(name, 1.0) for name in suitable])[0]

    async def _load(self, case: Case, facts: ModelFacts, loader: str, pool: Pool) -> None:
        began = time.monotonic()
        failed: BaseException | None = None
        peak: int | None = None
        try:
            async with asyncio.timeout(MOST_SECONDS):
                parameters = keep_known(LOADERS[loader].parameters, ASKED)
                await pool.load(LoadRequest(facts, loader, parameters, afresh=True))
                request = GenerationRequest("One two", SamplingParameters(max_tokens=1, temperature=0))
                job = await pool.submit(request, owner="mutants").wait()
                failed, peak = job.error, pool.peak_memory_bytes()
                if failed is None and job.state is not JobState.DONE:
                    self.report.breach(case, f"{loader}: the reply ended as {job.state}")
        except Exception as error:  # noqa: BLE001 - whatever comes is looked at below
            failed = error
        seconds = time.monotonic() - began
        await pool.unload()
        detail = f"{loader}: {failed} {proof(failed)}" if failed is not None else ""
        self.report.add(case, Step(case.number, f"load by {loader}", outcome(failed), seconds, peak or 0, detail))
        if failed is not None:
            self._check_error(case, loader, failed, FROM_LOAD)
        if pool.workers():
            self.report.breach(case, f"{loader}: a worker is left")

    def _check_error(self, case: Case, where: str, error: BaseException, allowed: set[str]) -> None:
        """It must be of the tree, of a kind that fits, and speak in sentences."""
        if not isinstance(error, AppError):
            self.report.breach(case, f"{where}: {type(error).__name__}: {error}")
            return
        if error.code in ABSTRACT or error.code not in allowed:
            self.report.breach(case, f"{where}: {error.code}: {error.message} ({error.cause})")
        if len(error.message) > LONGEST_SENTENCE or not error.message.isprintable():
            self.report.breach(case, f"{where}: a strange message: {error.message[:200]!r}")
        if error.code == "engine_crashed" and not (error.facts.get("signal") or "exit_status" in error.facts):
            self.report.breach(case, f"{where}: a crash that does not say how: {error.to_dict()}")

    @asynccontextmanager
    async def _pool(self, name: str) -> AsyncIterator[Pool]:
        settings = Settings.load(
            Paths(self.folder / name / "home"),
            environment={},
            command_line={
                "backends.fallback_enabled": False,
                "limits.start_timeout_seconds": START_SECONDS,
                "limits.load_timeout_seconds": LOAD_SECONDS,
                "limits.silence_timeout_seconds": SILENCE_SECONDS,
            },
        )
        async with open_pool(lambda: settings, LOADERS) as pool:
            yield pool


def outcome(result: Any) -> str:
    if not isinstance(result, BaseException):
        return "ok"
    return result.code if isinstance(result, AppError) else type(result).__name__


def proof(error: BaseException) -> str:
    """The line of an error's evidence that most likely says why, without what differs from file to file."""
    lines = [line for line in getattr(error, "evidence", ()) if line.isprintable()]
    telling = [line for line in lines if re.search(r"rror|ssert|abort|ailed|what\(\)", line)]
    return re.sub(r"\d+", "#", (telling or lines or [""])[0])[:200]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What came of it, an exception included, and the processor's seconds it took.

    What others do does not count, nor what the collector finds to do in a process that holds much else.
    """
    gc.disable()
    began = time.thread_time()
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - the caller looks at it
        result = error
    finally:
        seconds = time.thread_time() - began
        gc.enable()
    return result, seconds


@contextmanager
def limited_memory(most: int) -> Iterator[None]:
    """Processes started meanwhile, and this one, may hold this many bytes of their own."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


# --- the command ------------------------------------------------------------------------------------------------------


def print_table(report: Report) -> None:
    """One line per kind of damage, then the totals of each stage."""
    print(f"\n{'damage':<26}{'files':>6}{'refused':>9}{'loaded':>8}{'failed':>8}  {'inspect':>16}  {'load':>17}")
    for way in sorted(report.steps):
        steps = report.steps[way]
        read = [step for step in steps if step.stage == "inspect"]
        loads = [step for step in steps if step.stage.startswith("load")]
        print(
            f"{way:<26}{len(read):>6}{sum(step.outcome != 'ok' for step in read):>9}"
            f"{sum(step.outcome == 'ok' for step in loads):>8}{sum(step.outcome != 'ok' for step in loads):>8}"
            f"  {worst(read)}  {worst(loads)}"
        )
    print()
    for stage in sorted({step.stage for steps in report.steps.values() for step in steps}):
        steps = [step for steps in report.steps.values() for step in steps if step.stage == stage]
        counts = ", ".join(f"{count} {name}" for name, count in report.outcomes(stage).most_common())
        print(f"{stage:<26}{len(steps):>6}  {worst(steps)}  {counts}")
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"this process grew by {report.grown() / 1e6:.1f} MB; the largest worker held {children / 1e6:.0f} MB")


def worst(steps: Sequence[Step]) -> str:
    if not steps:
        return f"{'-':>16}"
    seconds, most = max(step.seconds for step in steps), max(step.bytes for step in steps)
    return f"{seconds * 1000:>7.0f} ms{most / 1e6:>4.0f} MB"


def print_details(report: Report) -> None:
    """Every different way in which a load failed, most frequent first, each with the number of one such file."""
    failed = [step for steps in report.steps.values() for step in steps if step.detail]
    examples = {step.detail: step.number for step in failed}
    for text, count in Counter(f"{step.outcome:<26}{step.detail}" for step in failed).most_common():
        print(f"{count:>6} {examples[text[26:]]:>6}  {text[:300]}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutants", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kind", choices=list(MAKERS), default="gguf")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--from", type=int, default=0, dest="first", help="number of the first file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--loaders", nargs="*", default=list(WEIGHTS), choices=list(WEIGHTS), metavar="NAME")
    parser.add_argument("--loads", type=float, default=1.0, help="share of the accepted files that are loaded")
    parser.add_argument("--keep", type=Path, help="write the files there and do nothing else")
    parser.add_argument("--details", action="store_true", help="list how the loads ended")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    logging.getLogger("webui").setLevel(logging.CRITICAL)  # every refused file would be a line
    numbers = range(asked.first, asked.first + asked.count)
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        maker = MAKERS[asked.kind](Path(name))
        if asked.keep:
            for number in numbers:
                case = maker.case(asked.seed, number)
                print(case, case.write(asked.keep / str(number)))
            return 0
        began = time.monotonic()

        def progress(done: int) -> None:
            if done % 500 == 0:
                print(f"{done:>6} files in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

        run = Run(maker, Path(name) / "work", seed=asked.seed, loaders=asked.loaders, loads=asked.loads)
        report = asyncio.run(run.all(numbers, asked.jobs, progress))
    print_table(report)
    if asked.details:
        print_details(report)
    print(f"{asked.count} files in {time.monotonic() - began:.0f} s, {len(report.violations)} violations")
    for text in report.violations:
        print(" ", text)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
