"""The search for the fastest settings of a model on a machine, as questions and answers.

    search = Search(spaces)
    while trial := search.next(seconds_left):
        search.tell(trial, measure(trial))
    search.verdict

Nothing is measured here, so that the search is tested with machines that are tables. It begins with the settings that
are in force and goes through one parameter after the other (coordinate descent): a few values race against each other,
those that fall behind are left out, and the search moves to a winner. At the end the best found races against the
settings in force, in fresh measurements, and only where it is faster in nearly all rounds is it kept.

Machines drift: others work on them, processors grow warm. So only measurements of one round are compared with each
other, as ratios, and every other round runs backwards. What is compared is the time a person waits for a typical
exchange, which is mostly the reply and to a part the prompt (`wait_seconds`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Generator, Mapping, Sequence

from webui.planning.races import ALL_ROUNDS, FIRST_ROUNDS, Duel, Race, Result, Seen, Trial, Verdict, medians
from webui.planning.tunables import Axis, Setting, Space

BEHIND = 0.08
"""Who is this far behind the first after one round is out of the race."""
SAME = 0.01
RACE_ROUNDS = 4
PASSES = 2
"""How often the parameters are gone through: what one of them gains may depend on another."""
LOADER_BEHIND = 0.3
"""A loader whose usual settings are this much slower than another's is not tuned: no parameter brings that back."""
PRIOR_NOISE = 0.015
PRIOR_WEIGHT = 2
UNSTEADY = 0.2
MOST_REPEATED = 6
"""Rounds that are measured again because the machine became this much slower or faster in the middle of them."""


class TimeIsUp(Exception):
    """What is left of the time is needed for the last race."""


Asking = Generator[Trial, Result, None]


class Search:
    """See the module. The first space's loader with its usual parameters is the default: what is in force now."""

    def __init__(self, spaces: Sequence[Space]) -> None:
        if not spaces:
            raise ValueError("there is nothing to search in")
        self.spaces = {space.loader: space for space in spaces}
        self.default = Setting(spaces[0].loader)
        self.best = self.default
        self.seen: list[Seen] = []
        self.verdict: Verdict | None = None
        self.share = 0.0
        """How far the search has come, 0 … 1."""
        self._number = 0
        self._left = math.inf
        self._cut = False
        """The time was up before everything had been looked at."""
        self._may_end = False
        """Whether what there is of the search is worth a last race: the loaders have been compared."""
        self._failed: set[Setting] = set()
        self._broken: set[tuple[str, str, int]] = set()
        """Values of a loader's axes with which a trial failed: they are not tried again with other ones."""
        self._repeated = 0
        self._latest: tuple[Setting, Result] | None = None
        self._noise = (PRIOR_WEIGHT * PRIOR_NOISE**2, PRIOR_WEIGHT)
        self._running = self._search()
        self._asked: Trial | None = None
        self._begun = False

    def next(self, seconds_left: float = math.inf) -> Trial | None:
        """What to measure next; `None` when the search is over, which it is before `seconds_left` are."""
        self._left = seconds_left
        if not self._begun:
            self._begun = True
            self._advance(None)
        return self._asked

    def tell(self, trial: Trial, result: Result) -> None:
        """The result of the trial that `next` asked for."""
        if trial is not self._asked:
            raise ValueError("this trial was not asked for")
        self._advance(result)

    def _advance(self, result: Result | None) -> None:
        try:
            self._asked = next(self._running) if result is None else self._running.send(result)
        except StopIteration:
            self._asked = None
            self.share = 1.0

    # --- the way of a search --------------------------------------------------------------------------------------

    def _search(self) -> Asking:
        try:
            yield from self._look()
        except TimeIsUp:
            self._cut = True
        self._may_end = False
        yield from self._decide()

    def _look(self) -> Asking:
        contenders = [Setting(name) for name in self.spaces]
        race = yield from self._race(contenders, "the loaders as they are", rounds=2, behind=LOADER_BEHIND)
        self.best = race.winner(0.0)
        self._may_end = True
        if self.best in self._failed:
            return
        yield from self._descend(self.best, passes=PASSES)
        means = {race.first: 0.0, **race.means()}
        near = max(means.values()) - LOADER_BEHIND
        for usual in contenders:
            if usual.loader != self.best.loader and means.get(usual, -math.inf) >= near:
                yield from self._challenge(usual)

    def _challenge(self, usual: Setting) -> Asking:
        """Another loader, with what was found for the first where it has the same; tuned in turn if it comes near."""
        space, before = self.spaces[usual.loader], self.best
        known = {name: value for name, value in before.changes if name in space.usual}
        start = space.setting(known)
        race = yield from self._race(
            list(dict.fromkeys((before, usual, start))), f"{usual.loader} against {before.loader}"
        )
        means = race.means()
        nearest = max(means, key=lambda setting: means[setting], default=None)
        if nearest is None or means[nearest] < -LOADER_BEHIND / 2:
            return
        yield from self._descend(nearest, passes=1)
        race = yield from self._race([before, self.best], f"{usual.loader} against {before.loader}")
        self.best = race.winner(self._margin(race))

    def _descend(self, start: Setting, *, passes: int) -> Asking:
        """Go through the axes of a loader, moving `best` to the winner of each race.

        A pass after the first looks again at what was decided before the last move: one may depend on the other.
        """
        self.best = start
        space = self.spaces[start.loader]
        ordered = [axis for axis in space.axes if axis.ordered]
        again: list[Axis] = ordered
        for turn in range(passes):
            axes, again = again, []
            for place, axis in enumerate(axes):
                before = self.best
                yield from self._climb(space, axis, reach=1 if turn else 2)
                if self.best != before:
                    again = axes[:place]
                self.share = max(self.share, 0.8 * (turn + (place + 1) / len(axes)) / passes)
            if not turn:
                before = self.best
                yield from self._choose(space, [axis for axis in space.axes if not axis.ordered])
                again = again if self.best == before else ordered

    def _climb(self, space: Space, axis: Axis, reach: int) -> Asking:
        """The best value of one axis: its neighbours race, and the search follows the winner until it gains no more."""
        tried: set[int] = set()
        here = space.place(axis, self.best)
        while True:
            indices = range(max(0, here - reach), min(len(axis.values), here + reach + 1))
            runners = {
                space.moved(axis, self.best, index): (axis, index)
                for index in indices
                if index not in {here, *tried} and (space.loader, axis.name, index) not in self._broken
            }
            runners.pop(self.best, None)
            tried |= {here, *indices}
            if not runners:
                return
            race = yield from self._race([self.best, *runners], axis.name)
            self._note_broken(runners)
            winner = race.winner(self._margin(race))
            if winner == self.best:
                return
            self.best, here = winner, runners[winner][1]

    def _choose(self, space: Space, axes: Sequence[Axis]) -> Asking:
        """Parameters that are one thing or the other race all together; those that win are then tried together."""
        runners: dict[Setting, tuple[Axis, int]] = {}
        for axis in axes:
            for index in range(len(axis.values)):
                moved = space.moved(axis, self.best, index)
                if moved != self.best and (space.loader, axis.name, index) not in self._broken:
                    runners[moved] = axis, index
        if not runners:
            return
        race = yield from self._race([self.best, *runners], ", ".join(axis.name for axis in axes))
        self._note_broken(runners)
        margin = self._margin(race)
        ahead = [one for one, mean in race.means().items() if mean > margin and one not in self._failed]
        together, moved_axes = self.best, set()
        self.best = race.winner(margin)
        for one in sorted(ahead, key=lambda setting: race.means()[setting], reverse=True):
            axis, index = runners[one]
            if axis.name not in moved_axes:
                moved_axes.add(axis.name)
                together = space.moved(axis, together, index)
        if len(moved_axes) > 1:
            race = yield from self._race([self.best, together], "what won, together")
            self.best = race.winner(0.0)

    def _note_broken(self, runners: Mapping[Setting, tuple[Axis, int]]) -> None:
        self._broken |= {
            (one.loader, axis.name, index) for one, (axis, index) in runners.items() if one in self._failed
        }

    def _decide(self) -> Asking:
        """The last race: what was found against what is in force, until the answer is clear."""
        if self.default in self._failed:
            self.verdict = self._without_default()
            return
        if self.best == self.default:
            self.verdict = Verdict(self.default, self.default, decided=not self._cut)
            return
        duel = Duel()
        opened = yield from self._ask(self.default, "the last race")
        while self._left > 2 * self._cost():
            after = yield from self._ask(self.best, "the last race")
            index = len(self.seen) - 1
            closed = yield from self._ask(self.default, "the last race")
            if opened.failure or after.failure or closed.failure:
                break
            if self._disturbed(math.log(opened.wait), math.log(closed.wait)):
                opened = closed
                continue
            duel.add(opened, after, closed)
            self.seen[index].ratio = duel.ratios[-1]
            opened = closed
            self.share = max(self.share, 0.8 + 0.2 * len(duel.ratios) / ALL_ROUNDS)
            if duel.clear or len(duel.ratios) >= ALL_ROUNDS:
                break
        self.verdict = duel.verdict(self.default, self.best)

    def _without_default(self) -> Verdict | None:
        """What is in force does not even run: anything that does is better."""
        if self.best in self._failed or self.best == self.default:
            return None
        results = [one.result for one in self.seen if one.trial.setting == self.best and not one.result.failure]
        return Verdict(self.default, self.best, math.inf, None, medians(results))

    # --- races ----------------------------------------------------------------------------------------------------

    def _race(
        self, settings: Sequence[Setting], about: str, *, rounds: int = RACE_ROUNDS, behind: float = BEHIND
    ) -> Generator[Trial, Result, Race]:
        """Measure the settings in rounds, there and back, until it is clear who is first or the rounds are over."""
        first, *others = settings
        race = Race(first, others)
        for number in range(rounds if others else 1):
            yield from self._round(race, about, backwards=number % 2 == 1)
            if first in self._failed:
                return (yield from self._race_of_the_rest(race, about, rounds, behind))
            means = race.means()
            top = max((0.0, *(means[one] for one in race.running)))
            race.running = [one for one in race.running if means[one] >= top - max(behind, 2 * self._margin(race))]
            if self._settled(race, number + 1):
                break
        self._learn_noise(race)
        return race

    def _race_of_the_rest(self, race: Race, about: str, rounds: int, behind: float) -> Generator[Trial, Result, Race]:
        """The first cannot be measured (any more): the others race without it."""
        if not race.running:
            return race
        return (yield from self._race(race.running, about, rounds=rounds, behind=behind))

    def _round(self, race: Race, about: str, *, backwards: bool) -> Asking:
        """Measure everybody between two measurements of the first, against which a steady drift cancels out.

        The latter of these is the former of the next round, or of the next race.
        """
        first = race.first
        opened = self._latest
        if opened is None or opened[0] != first:
            opened = first, (yield from self._ask(first, about))
        if first in self._failed:
            return
        speeds: list[tuple[int, Setting, float]] = []
        for setting in reversed(race.running) if backwards else race.running:
            result = yield from self._ask(setting, about)
            if not result.failure:
                speeds.append((len(self.seen) - 1, setting, -math.log(result.wait)))
        race.running = [one for one in race.running if one not in self._failed]
        if not speeds:
            return
        closed = yield from self._ask(first, about)
        if closed.failure:
            return
        begin, end = -math.log(opened[1].wait), -math.log(closed.wait)
        if self._disturbed(begin, end):
            yield from self._round(race, about, backwards=backwards)
            return
        for place, (index, setting, speed) in enumerate(speeds, 1):
            log = speed - (begin + (end - begin) * place / (len(speeds) + 1))
            race.logs[setting].append(log)
            self.seen[index].ratio = math.exp(log)

    def _ask(self, setting: Setting, about: str) -> Generator[Trial, Result, Result]:
        """One measurement. What fails once is not asked for again."""
        if self._may_end and self._left < self._reserve():
            raise TimeIsUp
        self._number += 1
        trial = Trial(self._number, setting, about)
        result = yield trial
        self.seen.append(Seen(trial, result))
        if result.failure:
            self._failed.add(setting)
            self._latest = None
        else:
            self._latest = (setting, result)
        return result

    def _disturbed(self, before: float, after: float) -> bool:
        """Whether the first of a round has itself changed so much meanwhile that the round says nothing.

        A machine on which that goes on is as it is: after some rounds that were measured again, none is any more.
        """
        if abs(before - after) <= UNSTEADY or self._repeated >= MOST_REPEATED:
            return False
        self._repeated += 1
        return True

    def _settled(self, race: Race, rounds: int) -> bool:
        """Whether more rounds would tell nothing: nobody seems faster than the first, or one surely is."""
        means = race.means()
        ahead = sorted((means[one] for one in race.running), reverse=True)
        if not ahead or ahead[0] <= SAME - self._margin(race):
            return True
        return rounds > 1 and ahead[0] > 2 * self._margin(race)

    def _margin(self, race: Race) -> float:
        """How much faster than the first one has to seem, given the noise and the rounds there were."""
        rounds = max((len(logs) for logs in race.logs.values()), default=0)
        total, weight = self._noise
        return max(SAME, math.sqrt(total / weight / max(1, rounds)))

    def _learn_noise(self, race: Race) -> None:
        """How much the ratio of the same two settings varies from round to round."""
        total, weight = self._noise
        for logs in race.logs.values():
            if len(logs) > 1:
                middle = statistics.fmean(logs)
                total += sum((value - middle) ** 2 for value in logs)
                weight += len(logs) - 1
        self._noise = (total, weight)

    def _cost(self) -> float:
        """Seconds that a trial takes, by the latest ones."""
        latest = [one.result.seconds for one in self.seen[-8:] if not one.result.failure]
        return statistics.median(latest) if latest else 0.0

    def _reserve(self) -> float:
        """Seconds that the last race needs, and the trial before it."""
        return (2 * FIRST_ROUNDS + 1) * self._cost()
