"""Prompts for measuring: readable text of a wanted number of tokens, counted by the loader's own tokenizer.

The text of a run is always the same and begins like that of no other run, so that no engine has any of it in its prompt
cache, and so that what is measured today can be compared with what was measured last week.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice

SHORTEST = 64
"""Tokens of a prompt at depth 0: there has to be something to read."""
ATTEMPTS = 6
"""Lengths tried for one prompt; the second or third is as close as words allow."""
CLOSE = 0.005
"""How far off the wanted number a prompt may be, as a share of it."""

Tokenize = Callable[[str], Awaitable[list[int]]]

_WHO = [
    "the keeper of the lighthouse",
    "an old sailor",
    "the youngest child",
    "a traveller from the north",
    "the clock maker",
    "a woman with a lantern",
    "the captain",
    "two brothers",
    "the teacher of the village",
    "a stranger",
    "the gardener",
    "my neighbour",
]
_DID = [
    "carried a letter",
    "waited",
    "told a long story",
    "counted the ships",
    "opened the wooden box",
    "drew a map",
    "lost the key",
    "asked a question",
    "repaired the engine",
    "listened to the rain",
    "learned a new word",
    "found seven coins",
]
_WHERE = [
    "beside the harbour",
    "in the empty library",
    "under the bridge",
    "on the way to the market",
    "behind the mill",
    "at the window",
    "near the river",
    "in the middle of the square",
    "above the valley",
    "between two hills",
    "at the end of the pier",
]
_WHEN = [
    "before sunrise",
    "every second morning",
    "when the storm was over",
    "for the third time that year",
    "late at night",
    "without saying why",
    "as nobody had expected",
    "in the last days of autumn",
    "until the bells rang",
    "while it snowed",
]


class Prompts:
    """Makes the prompts for one loaded model. Learns how many tokens its tokenizer makes of a word."""

    def __init__(self, tokenize: Tokenize) -> None:
        self._tokenize = tokenize
        self._tokens_per_word = 1.3

    async def of(self, tokens: int, run: int) -> str:
        """The prompt of one run, as close to `tokens` tokens as whole words come."""
        wanted = max(tokens, 1)
        words = max(1, round(wanted / self._tokens_per_word))
        best, distance = "", float("inf")
        for _ in range(ATTEMPTS):
            text = text_of(words, f"{tokens}/{run}")
            counted = len(await self._tokenize(text))
            if abs(counted - wanted) < distance:
                best, distance = text, abs(counted - wanted)
            if distance <= max(1.0, CLOSE * wanted):
                break
            self._tokens_per_word = max(0.1, counted / words)
            # Corrected by what is missing, not by the ratio alone: a text has tokens that are no word's.
            change = round((wanted - counted) / self._tokens_per_word)
            words = max(1, words + (change or (1 if counted < wanted else -1)))
        return best


def text_of(words: int, seed: str) -> str:
    """The first `words` words of a story that belongs to `seed` and to no other."""
    dice = random.Random(seed)

    def story() -> Iterator[str]:
        yield f"{dice.randrange(10**9):09d}."
        while True:
            sentence = f"{dice.choice(_WHEN)} {dice.choice(_WHO)} {dice.choice(_DID)} {dice.choice(_WHERE)}."
            yield from (sentence[0].upper() + sentence[1:]).split(" ")

    return " ".join(islice(story(), words))
