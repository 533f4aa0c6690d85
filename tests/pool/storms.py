"""A storm: everything that can be asked of a pool, at random and at once, and what must hold all the while."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.pool.conftest import ROOM_FOR_ONE, facts
from webui.errors import AppError, Busy, NotLoaded
from webui.loaders.contract import GenerationRequest, LoadedModel
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import ModelFacts
from webui.pool import FINAL, Job, JobState, LoadRequest, Pool, PoolState
from webui.pool.residency import Residency
from webui.pool.status import RunningJobs
from webui.settings import Settings

MODELS = tuple(facts(name) for name in ("one", "two", "three"))
FAULTS = ("refuse", "crash", "hang", "mute", "slow")
QUIET_SECONDS = 30.0
"""How long anything may take to come to rest once the storm is over."""
BEAT_SECONDS = 0.02
SCHEDULING = Path("/proc/thread-self/schedstat")


class Weather:
    """The pool's surroundings, which the storm changes while it blows. Time limits are `limit` seconds."""

    def __init__(self, settings: Settings, limit: float) -> None:
        self.settings = settings
        self.available = 1 << 40
        self.limit(limit)

    def limit(self, seconds: float) -> None:
        """The same time limit for everything."""
        names = ("start_timeout_seconds", "silence_timeout_seconds", "load_timeout_seconds")
        limits = self.settings.limits.model_copy(update=dict.fromkeys(names, seconds))
        self.settings = replace(self.settings, limits=limits)

    def turn(self, *, fallback: bool, room: bool) -> None:
        """Fallback on or off, room for two models or for one."""
        declared = self.settings.backends.declared.model_copy(update={"fallback_enabled": fallback})
        self.settings = replace(self.settings, backends=replace(self.settings.backends, declared=declared))
        self.available = 1 << 40 if room else ROOM_FOR_ONE


class Heartbeat:
    """How long the event loop was blocked at most, less the time for which the machine had no processor for it."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def beat(self) -> None:
        while True:
            before, without = time.monotonic(), _waited_for_processor()
            await asyncio.sleep(BEAT_SECONDS)
            late = time.monotonic() - before - BEAT_SECONDS
            self.longest = max(self.longest, late - (_waited_for_processor() - without))


def _waited_for_processor() -> float:
    """Seconds that this thread was ready to run and did not; grows with the clock where the system does not tell."""
    try:
        return int(SCHEDULING.read_bytes().split()[1]) / 1e9
    except OSError:
        return time.monotonic()


class Storm:
    """See the module. `kill` ends a living worker's process, `living` counts them; `moment` is a usual pause."""

    def __init__(
        self,
        pool: Pool,
        weather: Weather,
        seed: int,
        *,
        kill: Callable[[int], None],
        living: Callable[[], int],
        moment: float,
        ends: Counter[str],
        longest_block: float = 0.2,
    ) -> None:
        self.pool = pool
        self.weather = weather
        self.dice = random.Random(seed)
        self.jobs: list[Job] = []
        self.loads = 0
        self.refused = 0
        self.told: list[str] = []
        self._kill = kill
        self._living = living
        self._moment = moment
        self._ends = ends
        self._longest_block = longest_block
        self._tasks: set[asyncio.Task[None]] = set()
        self._escaped: list[dict[str, Any]] = []
        self._asked: list[LoadRequest] = []

    async def blow(self, steps: int, *, settle: bool) -> None:
        """Take `steps` steps, come to rest if `settle`, close the pool, and see that nothing is left."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: self._escaped.append(context))
        before = asyncio.all_tasks()
        heart = Heartbeat()
        beating = asyncio.create_task(heart.beat())
        for _step in range(steps):
            self._step()
            await asyncio.sleep(self.dice.choice((0.0, 0.0, self.dice.uniform(0, self._moment), self._moment)))
            self.check()
        if settle:
            await self._settle()
        async with asyncio.timeout(QUIET_SECONDS):
            await self.pool.close()
            self._note("closed")
            assert self._living() == 0
            assert self.pool.workers() == []
            await asyncio.gather(*self._tasks)
            for job in self.jobs:
                await self._wait(job)
        self._final_check()
        beating.cancel()
        await asyncio.wait([beating])
        await _until(lambda: asyncio.all_tasks() == before, lambda: f"left: {asyncio.all_tasks() - before}")
        gc.collect()
        await asyncio.sleep(0)
        assert self._escaped == []
        assert heart.longest <= self._longest_block, heart.longest

    # --- steps ----------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        steps: dict[Callable[[], None], int] = {
            self._submit: 30,
            self._cancel: 8,
            self._load: 12,
            self._cancel_load: 3,
            self._unload: 1,
            self._kill_one: 5,
            self._turn: 3,
            self._tokenize: 3,
        }
        self.dice.choices(list(steps), list(steps.values()))[0]()

    def _submit(self) -> None:
        number = len(self.jobs) + self.refused
        count = self.dice.choice((1, 3, 20, 60))
        last = self.dice.choice(("",) * 12 + ("CRASH", "RAISE", "HANG"))
        prompt = _words(number, count) + (f" j{number}-{last}" if last else "") + " "
        made_for = self.dice.choice((None, self.pool.status.facts, *MODELS))
        remake = self.dice.choice((None, self._remake(prompt)))
        sampling = SamplingParameters(max_tokens=self.dice.choice((-1, 1000, 10)))
        try:
            job = self.pool.submit(
                GenerationRequest(prompt, sampling), owner=f"owner {number % 5}", made_for=made_for, remake=remake
            )
        except (NotLoaded, Busy) as error:
            self.refused += 1
            self._note(f"refused {number}: {error.message} {error.cause}")
        else:
            self.jobs.append(job)
            job.test = (number, prompt.split(), remake is not None)  # type: ignore[attr-defined]
            self._note(f"submitted {number}")

    def _remake(self, prompt: str) -> Callable[[ModelFacts, LoadedModel, str], Awaitable[GenerationRequest]]:
        way = self.dice.choice(("good",) * 6 + ("slow", "refuses", "raises", "hangs", "counts", "counts"))
        seconds = self.dice.uniform(0, 5 * self._moment)

        async def remake(new: ModelFacts, model: LoadedModel, text: str) -> GenerationRequest:
            if way == "slow":
                await asyncio.sleep(seconds)
            if way == "refuses":
                raise NotLoaded("This question cannot be asked of another model.")
            if way == "raises":
                raise ValueError("a fault in the making of a prompt")
            if way == "hangs":
                await asyncio.Event().wait()
            if way == "counts":
                with contextlib.suppress(AppError):
                    await self.pool.tokenize(prompt, by=model)
            return GenerationRequest(" ".join(prompt.split()[len(text.split()) :]))

        return remake

    def _cancel(self) -> None:
        if self.jobs:
            job = self.dice.choice(self.jobs[-10:])
            for _time in range(self.dice.choice((1, 1, 2))):
                job.cancel()
            self._note(f"cancelled {job.test[0]}")  # type: ignore[attr-defined]

    def _load(self) -> None:
        parameters: dict[str, Any] = {"context_size": 1000, "slots": self.dice.choice((1, 2, 4))}
        parameters["delay"] = self.dice.choice((0.0, self._moment / 5))
        if self.dice.random() < 0.35:
            parameters["fault"] = self.dice.choice(FAULTS)
        if self.dice.random() < 0.1:
            parameters["fragile"] = True
        ways: tuple[RunningJobs, ...] = ("finish", "hand over")
        request = LoadRequest(
            self.dice.choice(MODELS),
            self.dice.choice(("auto", "auto", "first", "second")),
            parameters,
            running=self.dice.choice(ways),
            afresh=self.dice.random() < 0.3,
        )
        self._do(self._loading(request))

    async def _loading(self, request: LoadRequest) -> None:
        try:
            asking = self.pool.load(request)
            status = await asking
        except Busy:
            return
        except AppError as error:
            self.loads += 1
            self._asked.append(request)
            self._note(f"load failed: {error.message}")
        else:
            self.loads += 1
            self._asked.append(request)
            self._note(f"loaded {request.facts.name}: {status.state}")

    def _cancel_load(self) -> None:
        self._note("cancel the load")
        self._do(self.pool.cancel_load())

    def _unload(self) -> None:
        self._note("unload")
        self._do(self.pool.unload())

    def _kill_one(self) -> None:
        pids = [worker.pid for worker in self.pool.workers()]
        if pids:
            self._kill(pid := self.dice.choice(pids))
            self._note(f"killed {pid}")

    def _turn(self) -> None:
        self.weather.turn(fallback=self.dice.random() < 0.8, room=self.dice.random() < 0.5)

    def _tokenize(self) -> None:
        self._do(self._tokenizing())

    async def _tokenizing(self) -> None:
        with contextlib.suppress(AppError):
            async with asyncio.timeout(QUIET_SECONDS):
                assert await self.pool.tokenize("one three") == [3, 5]

    def _do(self, doing: Awaitable[Any]) -> None:
        async def guarded() -> None:
            await doing

        self._tasks.add(asyncio.create_task(guarded()))

    # --- what must hold -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """At any moment."""
        status = self.pool.status
        residents = self.pool._residents
        known = {residents.current, residents.incoming, *residents.retiring.values()} - {None}
        held = Counter(job for one in known for job in (*one.scheduler.waiting, *one.scheduler.running))  # type: ignore[union-attr]
        assert all(count == 1 for count in held.values()), "a job is in two places"
        assert self._living() <= 2 + len(residents.retiring), self.told
        running = [rung for rung in status.ladder if rung.state == "running"]
        assert len(running) <= 1
        if status.state is PoolState.READY:
            assert status.facts is not None and status.model is not None and status.loader
            assert not running, (status.ladder, self.told)
            assert status.incoming is None and status.step == "", status
        elif status.state is PoolState.FAILED:
            assert status.failure is not None and not running
        elif status.state is PoolState.EMPTY:
            assert status.facts is None and status.model is None and not running
        assert (status.pid is None) or status.loader, status
        for job in self.jobs:
            assert not (job.ended and held[job] and job in _waiting(known)), "an ended job is in a queue"
            self._check_text(job)

    def _check_text(self, job: Job) -> None:
        number, words, remade = job.test  # type: ignore[attr-defined]
        written = job.text.split()
        if remade:
            assert written == words[: len(written)], (number, written)
        else:
            assert all(word in words for word in written), (number, words, written)
        assert self._ends[job.id] == (1 if job.state in FINAL else 0), (number, job.state, job.error)

    async def _settle(self) -> None:
        """No new trouble: what is under way comes to its end, and a model that is ready answers."""
        self._note("settling")
        for job in self.jobs:
            if any("HANG" in word for word in job.test[1]):  # type: ignore[attr-defined]
                job.cancel()
        async with asyncio.timeout(QUIET_SECONDS):
            await asyncio.gather(*self._tasks)
            async for status in self.pool.watch():
                self.check()
                if status.state is not PoolState.LOADING:
                    break
            for job in self.jobs:
                await self._wait(job)
        await _until(lambda: not self.pool._residents.retiring, lambda: "a model does not leave")
        status = self.pool.status
        assert self._living() == (1 if status.state is PoolState.READY else 0), (status.state, self._living())
        if self._asked:
            assert status.asked is not None
        if status.state is PoolState.READY and status.facts is not None:
            async with asyncio.timeout(QUIET_SECONDS):
                job = await self.pool.submit(GenerationRequest("are you there"), owner="last").wait()
            fragile = status.parameters["fragile"] or status.parameters["fault"]
            assert (job.state, job.text) == (JobState.DONE, "are you there ") or fragile, (job.state, job.error)
            self._ends[job.id] -= 1

    async def _wait(self, job: Job) -> None:
        try:
            async with asyncio.timeout(QUIET_SECONDS / 2):
                await job.wait()
        except TimeoutError:
            raise AssertionError(f"job {job.test[0]} does not end: {job.state}") from None  # type: ignore[attr-defined]

    def _final_check(self) -> None:
        for job in self.jobs:
            number, words, remade = job.test  # type: ignore[attr-defined]
            self._check_text(job)
            if job.state is JobState.DONE and remade and job.finished and job.finished.reason == "stop":
                assert job.text.split() == words, number
            if job.state is JobState.FAILED:
                assert isinstance(job.error, AppError) and job.error.message
                assert "fault in the making" in job.error.cause or "lost" not in job.error.message, job.error
        stories = [story for story in self.pool.loads(1000) if story.cause == "load"]
        assert len(stories) == self.loads, (len(stories), self.loads)
        for story in self.pool.loads(1000):
            assert all(rung.state != "running" for rung in story.rungs)
            assert story.outcome != "loaded" or story.loader
            assert story.outcome == "loaded" or story.error is not None
        assert self.pool.status.state is PoolState.EMPTY
        assert self.pool.status.finishing == 0

    def _note(self, what: str) -> None:
        self.told.append(what)


def _words(number: int, count: int) -> str:
    return " ".join(f"j{number}-{index}" for index in range(count))


def _waiting(residencies: set[Any]) -> set[Job]:
    return {job for one in residencies if isinstance(one, Residency) for job in one.scheduler.waiting}


async def _until(condition: Callable[[], bool], complaint: Callable[[], str]) -> None:
    deadline = time.monotonic() + QUIET_SECONDS
    while not condition():
        assert time.monotonic() < deadline, complaint()
        await asyncio.sleep(0.01)
