"""A memory plan in words and bars: what a load takes of each device, against what is free there. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from webui.errors import AppError
from webui.planning.plan import Alternative, DevicePlan, MemoryPlan
from webui.tabs.present import (
    UNKNOWN,
    compared,
    date,
    escape,
    list_html,
    number,
    one_sentence,
    plural,
    size,
    verdict_html,
)

LONGEST = 2.0
"""A bar is drawn at most this many times as long as its device; what is beyond is said in figures."""
SMALL = 1 / 8
"""A load that takes less of a bar is drawn once more by itself."""
NOTICED = 100
"""Free memory that changes by less than the capacity's part in so many is not worth drawing anew."""


ASK_HELP = "A dry run: the engine says what it would take, without loading. Takes about a second."

SET = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-set]');
  if (button) trigger('select', {asked: button.dataset.set});
});
"""
"""Runs in the browser: reports loader and parameters of the alternative that was taken."""


@dataclass(frozen=True, slots=True)
class Part:
    """One stretch of a bar. `kind` is its class in the style sheet."""

    kind: str
    label: str
    bytes: int
    help: str


def plan_html(
    plan: MemoryPlan, context_size: int | None = None, has_dry_run: bool = False, declined: AppError | None = None
) -> str:
    """The whole plan. `context_size` is that of the controls; `None` for a loader without that choice.

    With `has_dry_run` the engine can be asked for its own figures; `declined` is why it gave none.
    """
    total = f' <span class="plan-total">{size(plan.total)} in all</span>' if len(plan.devices) > 1 else ""
    basis = "the engine's own figures" if plan.exact else "computed from the file"
    if has_dry_run and not plan.exact:
        basis += f' · <button type="button" data-exact title="{ASK_HELP}">ask the engine</button>'
    if declined is not None and not plan.exact:
        told = verdict_html("warning", f"The engine gave no figures of its own. {one_sentence(declined)}")
        basis += f'<span class="plan-declined">{told}</span>'
    head = (
        f'<div class="plan-head"><span role="status">{_verdict(plan)}</span>{total}'
        f'<span class="plan-basis">{basis}</span></div>'
    )
    devices = "".join(_device(device, alone=len(plan.devices) == 1) for device in plan.devices)
    return (
        f'<section class="plan" aria-label="Memory plan">{head}{devices}{list_html(plan.warnings, tone="warning")}'
        f"{_alternatives(plan)}{_remarks(plan, context_size)}</section>"
    )


def refused_html(error: AppError) -> str:
    """Instead of bars: why no load could be made, such as what is wrong with which control."""
    sentence = verdict_html("warning", error.message)
    return f'<section class="plan refused" aria-label="Memory plan"><span role="status">{sentence}</span></section>'


def _verdict(plan: MemoryPlan) -> str:
    constraint = plan.constraint[:1].upper() + plan.constraint[1:]
    if not plan.fits:
        return verdict_html("warning", f"Does not fit. {constraint}".strip())
    paged = next((device for device in plan.devices if beyond(device)), None)
    if paged is not None:
        return verdict_html(
            "warning",
            f"Loads, but slowly: {paged.name} has {size(paged.available)} free, so parts of the file are read again "
            "and again.",
        )
    if all(device.available is None for device in plan.devices):
        return verdict_html("plain", f"Whether it fits is unknown. {constraint}".strip())
    return verdict_html("ok", f"Fits. {constraint}".strip())


def beyond(device: DevicePlan) -> bool:
    """Whether it can be loaded there, and only because the system drops pages of the file."""
    return device.fits and device.available is not None and device.total > device.available


def _device(device: DevicePlan, *, alone: bool) -> str:
    """Name and figures, the bar, and what its parts are. What lies on the only device there is are all layers."""
    counted = device.layers is not None and not alone
    layers = f' <span class="plan-layers">{plural(device.layers or 0, "layer")}</span>' if counted else ""
    parts = _parts(device)
    legend = "".join(
        f'<li title="{escape(part.help)}"><i class="{part.kind}"></i>'
        f"{escape(part.label)} <b>{size(part.bytes)}</b></li>"
        for part in parts
    )
    return (
        f'<div class="plan-device{"" if device.fits else " over"}" data-device="{escape(device.device)}">'
        f'<div class="plan-name"><span>{escape(device.name)}{layers}</span>'
        f'<span class="figures">{escape(_of_free(device))}</span></div>{_bar(device, parts)}'
        f'<ul class="plan-legend">{legend}</ul></div>'
    )


def _of_free(device: DevicePlan) -> str:
    """`2.10 GiB of 5.80 GiB free`; where that is too much, what cannot be dropped."""
    if device.total == 0:
        return "not used" + ("" if device.available is None else f", {size(device.available)} free")
    taken = size(device.total)
    if device.available is None:
        return f"{taken}; what is free is {UNKNOWN}"
    if device.total > device.available:
        return f"{taken if device.fits else size(device.kept)} needed, {size(device.available)} free"
    return f"{taken} of {size(device.available)} free"


def _held(device: DevicePlan) -> int:
    """What of it nothing may be planned with."""
    if device.capacity is None or device.available is None:
        return 0
    return max(0, device.capacity - device.available)


def _parts(device: DevicePlan) -> list[Part]:
    """What there is of it, in the order it is drawn: what others hold, what has to stay, and what can be dropped.

    The last is what lies beyond the end of a device that is too small for it.
    """
    parts = [
        Part("held", "Not free", _held(device), "Other programs and the system hold it, or need it left to them."),
        Part("weights", "Weights", device.weights - device.mapped, "The model itself."),
        Part("kv-cache", "KV cache", device.kv_cache, "What is kept of the conversation; it grows with the context."),
        Part("compute", "Compute", device.compute, "What the engine computes in; it grows with the batch."),
        Part("other", "Engine", device.other, "The engine itself; a projector or a draft model where there is one."),
        Part("mapped", "Weights in the file", device.mapped, "The system may drop these pages and read them again."),
    ]
    return [part for part in parts if part.bytes > 0]


def _bar(device: DevicePlan, parts: Sequence[Part]) -> str:
    """The parts to scale, on a track as long as the device, or longer where they are too much for it."""
    taken = sum(part.bytes for part in parts)
    room = device.capacity or device.available
    scale = max(room, min(taken, int(room * LONGEST))) if room else max(taken, 1)
    drawn = "".join(f'<span class="{part.kind}" style="width:{_share(part.bytes, scale)}"></span>' for part in parts)
    end = f'<span class="plan-end" style="left:{_share(room, scale)}"></span>' if room and scale > room else ""
    said = ", ".join(f"{part.label} {size(part.bytes)}" for part in parts)
    name = escape(f"{device.name}: {said}; {_of_free(device)}")
    bar = f'<div class="plan-bar{"" if room else " unknown"}" role="img" aria-label="{name}">{drawn}{end}</div>'
    return bar + (_lens(device, parts) if 0 < device.total < scale * SMALL else "")


def _lens(device: DevicePlan, parts: Sequence[Part]) -> str:
    """What a load takes of a device that is much larger, by itself."""
    drawn = "".join(
        f'<span class="{part.kind}" style="width:{_share(part.bytes, device.total)}"></span>'
        for part in parts
        if part.kind != "held"
    )
    return f'<div class="plan-lens" aria-hidden="true" title="The load alone, magnified">{drawn}</div>'


def _share(count: int, scale: int) -> str:
    return f"{count / scale * 100:.2f}%"


def _remarks(plan: MemoryPlan, context_size: int | None) -> str:
    said = []
    if plan.measured is not None:
        when = date(plan.measured.at)
        known = [device.total for device in plan.devices if device.device in plan.measured.devices]
        said.append(escape(f"Loaded this way on {when}: {compared(sum(known), plan.measured.total)}."))
    elif plan.corrected:
        said.append("Corrected by what earlier loads took here.")
    largest = plan.largest_context
    if largest is not None and context_size is not None:
        use = "" if largest == context_size else f" {_button(plan.loader, 'use it', {'context_size': largest})}"
        said.append(f"Largest context that fits: {number(largest)} tokens.{use}")
    said += [escape(f"Or {one.change}.") for one in plan.alternatives if not one.parameters]
    return f'<p class="aside">{" ".join(said)}</p>' if said else ""


def _alternatives(plan: MemoryPlan) -> str:
    """What the controls could be set to instead."""
    buttons = "".join(_button(plan.loader, _worded(one), one.parameters) for one in plan.alternatives if one.parameters)
    return f'<div class="offers">{buttons}</div>' if buttons else ""


def _worded(one: Alternative) -> str:
    return f"{one.change} · {size(one.total)}" + ("" if one.fits else ", still too much")


def _button(loader: str, text: str, parameters: Mapping[str, Any]) -> str:
    sets = json.dumps({"loader": loader, "values": dict(parameters)})
    return f'<button type="button" data-set="{escape(sets)}">{escape(text)}</button>'


def as_noticed(plan: MemoryPlan) -> MemoryPlan:
    """`plan` as far as a person would notice: what is free is rounded, so that a quiet page is not drawn anew."""
    devices = []
    for device in plan.devices:
        step = max(1, (device.capacity or device.available or 1) // NOTICED)
        free = None if device.available is None else device.available // step * step
        devices.append(replace(device, available=free))
    return replace(plan, devices=tuple(devices))
