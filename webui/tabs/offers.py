"""What the page offers to do about a model that runs with less than was asked for, or that could not be loaded.

An offer is a load, made from what the pool says of itself. Its button carries only the offer's mark: whatever comes
back from a browser is looked up among the offers that stand at that moment, so that no page can ask for a load of its
own making this way. Buttons that lead to another part of the page are the script's alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from webui.context import AppContext
from webui.errors import AppError, Cancelled, InvalidRequest
from webui.loaders.contract import LoaderSpec
from webui.planning.degraded import AGAIN
from webui.pool import LoadRequest, PoolState, PoolStatus
from webui.remedies import PLACES, REMEDIES, Action
from webui.tabs.present import escape, number, one_sentence, plural
from webui.tabs.visible import SILENT, mark_of

SMALLEST_CONTEXT = 512

NOT_LINKED = (Action.LOAD_AGAIN, Action.SMALLER_CONTEXT, Action.FEWER_LAYERS, Action.ON_CPU, Action.CONTINUE)
"""Actions that are loads of their own, without a button where such a load cannot be made; and one for replies only."""

PRESS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-offer]');
  if (button) trigger('select', {offer: button.dataset.offer});
});
"""
"""Runs in the browser: reports which offer was taken."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A load that a button starts. `name` tells it from the others of its place: "better-0", "again", "load-again" …"""

    name: str
    label: str
    request: LoadRequest

    @property
    def mark(self) -> str:
        request = self.request
        return mark_of(
            self.label,
            request.facts.path,
            request.loader,
            sorted(request.parameters.items(), key=lambda item: item[0]),
            request.afresh,
        )


def better_offers(status: PoolStatus) -> list[Offer]:
    """What would do better than the degraded model, and what was asked for in the first place."""
    if status.degraded is None or status.facts is None:
        return []
    asked = status.asked if status.asked is not None and status.asked.facts.path == status.facts.path else None
    offers = [
        Offer(
            f"better-{place}",
            better.label,
            LoadRequest(status.facts, better.loader, dict(better.parameters), afresh=True),
        )
        for place, better in enumerate(status.degraded.better)
        if better.label != AGAIN or asked is None
    ]
    return [*offers, Offer("again", AGAIN, replace(asked, afresh=True))] if asked is not None else offers


def retry_offers(status: PoolStatus) -> list[Offer]:
    """Ways to ask for the last load again that fit its failure."""
    asked, failure = status.asked, status.failure
    if asked is None or failure is None or isinstance(failure, Cancelled):
        return []
    actions = actions_for(failure)
    variants = {Action.LOAD_AGAIN: ("Try again", asked.parameters), **_with_less(asked.parameters, _tried(status))}
    return [
        Offer(action.name.lower().replace("_", "-"), label, replace(asked, parameters=parameters, afresh=True))
        for action, (label, parameters) in variants.items()
        if action in actions
    ]


def actions_for(error: AppError) -> tuple[Action, ...]:
    """What the page can offer against `error`, as the table of remedies has it."""
    remedy = REMEDIES.get(error.code) or REMEDIES[AppError.code]
    return remedy.actions


def offers_html(offers: Sequence[Offer], *, place: str, more: str = "") -> str:
    """The offers as buttons; `place` makes their ids unique on the page, `more` is HTML of other buttons."""
    buttons = "".join(
        f'<button type="button" id="{escape(place)}-{escape(offer.name)}" data-offer="{offer.mark}">'
        f"{escape(offer.label)}</button>"
        for offer in offers
    )
    return f'<div class="offers">{buttons}{more}</div>' if buttons or more else ""


def remedies_html(status: PoolStatus, error: AppError, *, place: str, loaders: Mapping[str, LoaderSpec]) -> str:
    """What can be done about the load that failed with `error`, as buttons, the fitting ones only."""
    offers = retry_offers(status)
    loader = _loader_tried(status, error)
    links = ""
    for action in actions_for(error):
        if action in (Action.INSTALL, Action.REPAIR) and loader in loaders:
            label = f"{action.value.capitalize()} {loaders[loader].title}"
            links += link_html("Backend", f"backend-card-{loader}", label, place=place)
        elif action not in NOT_LINKED:
            where = PLACES[action]
            links += link_html(where.tab, where.elem_id, f"{action.value[:1].upper()}{action.value[1:]}", place=place)
    links += link_html("Diagnostics", "diagnostics-loads", "See earlier loads", place=place)
    return offers_html(offers, place=place, more=links)


def link_html(tab: str, elem_id: str, label: str, *, place: str) -> str:
    """A button that opens a tab and brings one of its parts into view."""
    return (
        f'<button type="button" id="{escape(place)}-to-{escape(elem_id)}" data-act="go" data-tab="{escape(tab)}" '
        f'data-at="{escape(elem_id)}">{escape(label)}</button>'
    )


def taken(status: PoolStatus, mark: str) -> LoadRequest:
    """The load that the button with this mark stands for; raises `InvalidRequest` where it is no longer offered."""
    if status.state is not PoolState.LOADING:
        for offer in [*better_offers(status), *retry_offers(status)]:
            if offer.mark == mark:
                return offer.request
    raise InvalidRequest("That is no longer offered.", hint="Look at what the page says now.")


def act_on_press(context: AppContext, shown: gr.HTML) -> None:
    """Start the load whose button is pressed in `shown`, which was drawn with `PRESS`."""

    async def press(event: gr.EventData) -> None:
        pool = context.pool
        try:
            await pool.load(taken(pool.status, str(getattr(event, "offer", ""))))
        except AppError as error:
            # What a load ran into is shown from the pool's status; this is for what was refused before it began.
            if pool.status.failure is not error and not isinstance(error, Cancelled):
                gr.Warning(escape(one_sentence(error)))

    options: dict[str, Any] = {**SILENT, "trigger_mode": "multiple"}
    shown.select(press, None, None, concurrency_limit=None, **options)


def _with_less(parameters: Mapping[str, Any], tried: Mapping[str, Any]) -> dict[Action, tuple[str, dict[str, Any]]]:
    """The same parameters with half of the context, half of the layers, none of them; where that is less than tried."""
    found: dict[Action, tuple[str, dict[str, Any]]] = {}
    context, layers = tried.get("context_size"), tried.get("gpu_layers")
    if isinstance(context, int) and context // 2 >= SMALLEST_CONTEXT:
        label = f"Load with a context of {number(context // 2)} tokens"
        found[Action.SMALLER_CONTEXT] = label, {**parameters, "context_size": context // 2}
    if isinstance(layers, int) and layers > 1:
        found[Action.FEWER_LAYERS] = (
            f"Load with {plural(layers // 2, 'GPU layer')}",
            {**parameters, "gpu_layers": layers // 2},
        )
    if layers:
        found[Action.ON_CPU] = "Load on the CPU", {**parameters, "gpu_layers": 0}
    return found


def _tried(status: PoolStatus) -> Mapping[str, Any]:
    """The parameters of the last step that failed."""
    failed = [rung.attempt.parameters for rung in status.ladder if rung.state == "failed"]
    return failed[-1] if failed else {}


def _loader_tried(status: PoolStatus, error: AppError) -> str:
    """The loader whose failure `error` is. Where it sums up several, the first that failed that way."""
    rungs = [(rung.attempt.loader, rung.error.code) for rung in status.ladder if rung.error is not None]
    alike = [loader for loader, code in rungs if code == error.code]
    asked = status.asked.loader if status.asked is not None else ""
    return next(iter([*alike, asked]))
