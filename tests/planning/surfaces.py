"""Machines that are tables: how fast each setting is, with noise, drift and failures."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

from webui.planning.races import Result, Trial
from webui.planning.tunables import Axis, Setting, Space
from webui.planning.tuning import Search

USUAL: dict[str, Any] = {
    "threads": 0,
    "threads_batch": 0,
    "batch_size": 512,
    "micro_batch_size": 512,
    "poll": 50,
    "flash_attention": "auto",
    "cpu_repacking": "auto",
}


def grid(space: Space) -> Iterator[Setting]:
    """Every combination of the values of a space."""
    for values in itertools.product(*(axis.values for axis in space.axes)):
        together = {name: value for one in values for name, value in one.items()}
        changes = {name: value for name, value in together.items() if space.usual[name] != value}
        yield Setting(space.loader, tuple(sorted(changes.items())))


def some_space(loader: str = "engine", *, cores: int = 2) -> Space:
    """What llama.cpp has to offer on a processor with so many cores."""
    counts = sorted({1, cores, *(2**power for power in range(1, 10) if 2**power < cores)})
    numbers = [0 if count == cores else count for count in counts]
    pins = tuple({"threads_batch": cores} for _ in counts)
    sizes = (64, 128, 256, 512)
    return Space(
        loader,
        USUAL,
        (
            Axis("threads", tuple({"threads": n} for n in numbers), len(numbers) - 1, True, pins),
            Axis("micro_batch_size", tuple({"micro_batch_size": n} for n in sizes), len(sizes) - 1, ordered=True),
            Axis("threads_batch", tuple({"threads_batch": n} for n in counts), len(counts) - 1, ordered=True),
            Axis("flash_attention", ({"flash_attention": "auto"}, {"flash_attention": "off"}), 0),
            Axis("cpu_repacking", ({"cpu_repacking": "auto"}, {"cpu_repacking": "off"}), 0),
            Axis("poll", ({"poll": 50}, {"poll": 0}, {"poll": 100}), 0),
        ),
    )


class Machine:
    """`reply` and `prompt` give the true speeds (tokens per second) of a setting's full parameters; 0 is a failure.

    A trial takes a second, and another one to load what is not among the `workers` settings used last. Each
    measurement is off by `noise` (a standard deviation, as a share), and the whole machine becomes slower or
    faster by up to `drift` while it goes on.
    """

    def __init__(
        self,
        spaces: list[Space],
        reply: Callable[[str, dict[str, Any]], float],
        prompt: Callable[[str, dict[str, Any]], float],
        *,
        noise: float = 0.0,
        drift: float = 0.0,
        seed: int = 0,
        workers: int = 5,
    ) -> None:
        self.spaces = {space.loader: space for space in spaces}
        self.measured: list[Trial] = []
        self.clock = 0.0
        self._reply, self._prompt, self._workers = reply, prompt, workers
        self._kept: list[Setting] = []
        self._noise, self._drift, self._dice = noise, drift, random.Random(seed)

    def truth(self, setting: Setting) -> Result:
        full = {**self.spaces[setting.loader].usual, **setting.parameters}
        reply, prompt = self._reply(setting.loader, full), self._prompt(setting.loader, full)
        failure = "it crashed" if not (reply and prompt) else ""
        return Result(reply, prompt, 1.0, failure)

    def measure(self, trial: Trial) -> Result:
        self.measured.append(trial)
        seconds = 1.0 if trial.setting in self._kept else 2.0
        self._kept = [trial.setting, *(one for one in self._kept if one != trial.setting)][: self._workers]
        self.clock += seconds
        true = self.truth(trial.setting)
        slowed = math.exp(self._drift * math.sin(len(self.measured) / 7))
        off = [slowed * math.exp(self._dice.gauss(0, self._noise)) for _ in range(2)]
        return Result(true.reply * off[0], (true.prompt or 0.0) * off[1], seconds, true.failure)

    def run(self, search: Search, seconds: float = math.inf) -> Search:
        while (trial := search.next(seconds - self.clock)) is not None:
            search.tell(trial, self.measure(trial))
        return search

    def worth(self, setting: Setting, space: Space) -> float:
        """The true speed of `setting` over that of the best of all."""
        best = min(self.truth(one).wait for one in grid(space))
        return best / self.truth(setting).wait


def random_machine(space: Space, seed: int, *, noise: float, drift: float = 0.0) -> Machine:
    """Each parameter has an effect of its own on reply and prompt, and some depend on one another.

    Ordered ones have one peak; others just differ.
    """
    dice = random.Random(seed)
    tables: list[tuple[Axis, list[float], list[float]]] = []
    for axis in space.axes:
        both = []
        for strength in (0.15, 0.3):
            if axis.ordered:
                peak, steep = dice.uniform(0, len(axis.values) - 1), dice.uniform(0, strength)
                both.append([-steep * abs(place - peak) ** 1.5 for place in range(len(axis.values))])
            else:
                both.append([dice.gauss(0, strength / 3) for _ in axis.values])
        tables.append((axis, both[0], both[1]))
    mixed = dice.sample(range(len(space.axes)), 2)
    bend = dice.uniform(-0.03, 0.03)

    def speed(base: float, which: int) -> Callable[[str, dict[str, Any]], float]:
        def of(_loader: str, full: dict[str, Any]) -> float:
            places = [_place(axis, full) for axis, _, _ in tables]
            log = sum((reply, prompt)[which][place] for (_, reply, prompt), place in zip(tables, places, strict=True))
            return base * math.exp(log + bend * places[mixed[0]] * places[mixed[1]])

        return of

    return Machine([space], speed(50.0, 0), speed(300.0, 1), noise=noise, drift=drift, seed=seed)


def _place(axis: Axis, full: dict[str, Any]) -> int:
    matching = (i for i, value in enumerate(axis.values) if all(full[name] == one for name, one in value.items()))
    return next(matching, axis.usual)
