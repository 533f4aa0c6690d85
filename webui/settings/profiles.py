"""Hardware profiles: named choices of the GPUs that models may use, each written as one line.

work = all
night = cpu
large card = GPU-8f2c61d4
both = 0 1 split 3:1
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MOST_LENGTH = 60
LARGEST_SHARE, LEAST_SHARE = 1000, 0.001


@dataclass(frozen=True, slots=True)
class Profile:
    """`gpus` are references to GPUs, see `webui.hardware.choice`; without any, all of them. `processor`: none at all.

    `split` gives each GPU its share of a model, in the order of `gpus`; empty leaves that to the engine.
    """

    name: str
    gpus: tuple[str, ...] = ()
    processor: bool = False
    split: tuple[float, ...] = ()

    def __str__(self) -> str:
        devices = "cpu" if self.processor else " ".join(self.gpus) or "all"
        split = " split " + ":".join(map(share_text, self.split)) if self.split else ""
        return f"{self.name} = {devices}{split}"


BUILT_IN = (Profile("all"), Profile("quiet", processor=True))


def read_profile(line: str) -> Profile:
    """The profile that `line` writes; raises `ValueError` with what is wrong."""
    name, equals, rest = (part.strip() for part in line.partition("="))
    if not equals or not name or not rest or len(name) > MOST_LENGTH:
        raise ValueError(f"{line[:MOST_LENGTH]!r} is not written as NAME = all, cpu or GPUs")
    if name in [profile.name for profile in BUILT_IN]:
        raise ValueError(f"{name!r} is a profile that is always there; take another name")
    listed, word, shares = (f" {rest} ").partition(" split ")
    gpus = tuple(listed.split())
    if gpus == ("cpu",) and not word:
        return Profile(name, processor=True)
    gpus = () if gpus == ("all",) else gpus
    if {"cpu", "all"} & set(gpus) or len(set(gpus)) < len(gpus):
        raise ValueError(f"{name!r} names its GPUs wrongly: all, cpu, or each GPU once")
    return Profile(name, gpus, split=_shares(name, shares, len(gpus)) if word else ())


def share_text(share: float) -> str:
    """A share without an exponent, to three places."""
    return f"{share:.3f}".rstrip("0").rstrip(".")


def checked_profiles(lines: Iterable[str]) -> tuple[str, ...]:
    """`lines` as they stand if each is a profile and no two have one name; raises `ValueError` otherwise."""
    kept = tuple(lines)
    names = [read_profile(line).name for line in kept]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two profiles are named {name!r}")
    return kept


def _shares(name: str, text: str, count: int) -> tuple[float, ...]:
    wrong = f"the split of {name!r} is not one number from 0 to {LARGEST_SHARE} for each GPU, as 3:1"
    try:
        shares = tuple(float(part) for part in text.strip().split(":"))
    except ValueError:
        raise ValueError(wrong) from None
    if not all(0 <= share <= LARGEST_SHARE for share in shares) or sum(shares) < LEAST_SHARE:
        raise ValueError(wrong)
    if count and len(shares) != count:
        raise ValueError(wrong)
    return shares
