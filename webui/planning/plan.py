"""What a memory plan says: for every device what a load takes there and what is free, and what would fit instead.

Types only; `webui.planning.planner` makes plans. Sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from webui.planning.memory import holds, host_margin

CPU = "cpu"


@dataclass(frozen=True, slots=True)
class GpuRoom:
    """A GPU as a plan sees it. `free` counts what the model that is loaded now holds there as free, since a swap frees
    it. `index` is its place among those that may be used. `shared`: its memory is the machine's own, so that the two
    rooms are one.
    """

    index: int
    name: str
    free: int | None = None
    total: int | None = None
    shared: bool = False

    @property
    def key(self) -> str:
        """How `DevicePlan.device` names it."""
        return f"gpu{self.index}"


@dataclass(frozen=True, slots=True)
class Machine:
    """The room there is: of the machine's own memory, and of each GPU that models may go to.

    `freed` of `available` is what the loaded model holds now and a swap gives back. `instruction_sets` are those of the
    processor (as in `CpuFacts`).
    """

    available: int | None
    total: int | None
    gpus: tuple[GpuRoom, ...] = ()
    freed: int = 0
    instruction_sets: frozenset[str] = frozenset({"avx2"})


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """One device's share. `mapped` of the weights are pages of the file, which the system may drop and read again.

    `available` is what is free and may be planned with; unknown where `None`. `other` is the engine itself, a
    projector, a draft model. `layers` is how many of the model's layers lie there.
    """

    device: str
    name: str
    weights: int = 0
    kv_cache: int = 0
    compute: int = 0
    other: int = 0
    available: int | None = None
    capacity: int | None = None
    mapped: int = 0
    layers: int | None = None

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.compute + self.other

    @property
    def kept(self) -> int:
        """What cannot be taken back."""
        return self.total - self.mapped

    @property
    def margin(self) -> int:
        """What must stay free beside it. Of a GPU, what is available is the room without it."""
        return host_margin(self.kept) if self.device == CPU else 0

    @property
    def fits(self) -> bool:
        """Whether the device has the room, as far as it is known."""
        return holds(self.available, self.kept + self.margin, self.mapped)

    def to_dict(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "name": self.name,
            "weights": self.weights,
            "kv_cache": self.kv_cache,
            "compute": self.compute,
            "other": self.other,
            "total": self.total,
            "mapped": self.mapped,
            "available": self.available,
            "capacity": self.capacity,
            "layers": self.layers,
        }


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another way to load the same model. `change` is a short sentence ("24 of 33 layers on the GPU"), `parameters`
    what to set for it; none where it cannot be set (a smaller file).
    """

    change: str
    total: int
    fits: bool
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"change": self.change, "total": self.total, "fits": self.fits, "parameters": dict(self.parameters)}


@dataclass(frozen=True, slots=True)
class Measured:
    """What a load that was made this way took, by device, and when (seconds since the epoch)."""

    devices: Mapping[str, int]
    at: float

    @property
    def total(self) -> int:
        return sum(self.devices.values())

    def to_dict(self) -> dict[str, Any]:
        return {"devices": dict(self.devices), "total": self.total, "at": self.at}


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """A load as planned. `exact`: the engine's own figures. `constraint` says, in one sentence, what it does not fit
    into or, where it does, what would be full first. `largest_context` is the most tokens that fit with the other
    parameters as they are; `None` where that is not known. `corrected` tells that earlier measurements went into it.
    """

    model: str
    loader: str
    exact: bool
    fits: bool
    constraint: str
    devices: tuple[DevicePlan, ...]
    alternatives: tuple[Alternative, ...] = ()
    largest_context: int | None = None
    measured: Measured | None = None
    corrected: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return sum(device.total for device in self.devices)

    def device(self, key: str) -> DevicePlan | None:
        return next((one for one in self.devices if one.device == key), None)

    def to_dict(self) -> dict[str, Any]:
        """What `plan FILE --json` prints."""
        return {
            "model": self.model,
            "loader": self.loader,
            "exact": self.exact,
            "fits": self.fits,
            "constraint": self.constraint,
            "devices": [device.to_dict() for device in self.devices],
            "total": self.total,
            "largest_context": self.largest_context,
            "alternatives": [one.to_dict() for one in self.alternatives],
            "measured": self.measured.to_dict() if self.measured else None,
            "corrected": self.corrected,
            "warnings": list(self.warnings),
        }
