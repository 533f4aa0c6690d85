"""The GPUs that models may use by the settings as they are, and what that means for the machine and for a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from webui.hardware.choice import GpuChoice, choose, environment
from webui.hardware.facts import GpuFacts, HardwareFacts
from webui.pool.choosing import Devices
from webui.settings import Settings
from webui.settings.profiles import share_text


def chosen(settings: Settings, gpus: Sequence[GpuFacts]) -> GpuChoice:
    """Which of `gpus` models may use."""
    profile = settings.hardware.in_use()
    return choose(gpus, profile.gpus, processor=_processor_alone(settings), split=profile.split)


def usable(settings: Settings, facts: HardwareFacts) -> HardwareFacts:
    """The machine as models may use it: without the GPUs that are left out."""
    choice = chosen(settings, facts.gpus)
    return replace(facts, gpus=choice.gpus, problems=() if choice.left_out else facts.problems)


def devices(settings: Settings, gpus: Sequence[GpuFacts]) -> Devices:
    """What the choice among `gpus` means for a worker."""
    choice = chosen(settings, gpus)
    split = {"tensor_split": ",".join(map(share_text, choice.split))} if choice.split else {}
    processor = _processor_alone(settings) or (bool(choice.left_out) and not choice.gpus)
    return Devices(environment(choice), split, processor=processor)


def _processor_alone(settings: Settings) -> bool:
    return settings.hardware.in_use().processor or not settings.backends.gpu_enabled
