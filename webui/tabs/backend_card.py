"""How a backend is described on its card, and how its place in the order changes: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from webui.hardware.facts import HardwareFacts
from webui.loaders.contract import LoaderSpec
from webui.settings import Backends
from webui.setup.backends import BackendState, check
from webui.tabs.present import (
    UNKNOWN,
    Tone,
    escape,
    facts_html,
    verdict_html,
)

FORMAT_WORDS = {
    "gguf": "GGUF",
    "ggml": "older GGML files",
    "transformers": "transformers directories",
    "llamafile": "llamafiles",
}


SEND_ACTION = """
const SHOWN_ABOVE = ['plan', 'install', 'repair', 'test', 'roll back'];
let used = '';
const send = (item, more) => {
  used = item.id;
  if (SHOWN_ABOVE.includes(item.dataset.action)) element.closest('[role=tabpanel]')?.scrollIntoView();
  trigger('select', {action: item.dataset.action, name: item.dataset.name, ...more});
};
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-action]');
  if (button) send(button, {});
});
element.addEventListener('change', (event) => {
  const box = event.target.closest('input[data-action]');
  if (box) send(box, {on: box.checked});
});
watch('value', () => { if (used) document.getElementById(used)?.focus({preventScroll: true}); used = ''; });
"""
"""Runs in the browser: reports what was pressed, and returns the focus to it when the cards are drawn anew. What is
shown above the cards, a plan or a log, is brought into view."""


def moved(order: Sequence[str], name: str, places: int) -> tuple[str, ...]:
    """`order` with `name` moved by `places` (up is negative), stopping at either end."""
    rest = [other for other in order if other != name]
    target = max(0, min(len(rest), list(order).index(name) + places))
    return (*rest[:target], name, *rest[target:])


def cards_html(settings: Backends, loaders: Mapping[str, LoaderSpec], hardware: HardwareFacts) -> str:
    """All cards, first the backend that is tried first. Looks at what is installed, which takes a few file accesses."""
    order = [name for name in settings.order if name in loaders]
    cards = [
        card_html(
            place,
            loaders[name],
            check(name, loaders, hardware=hardware),
            enabled=settings.enabled(name),
            last=place == len(order),
        )
        for place, name in enumerate(order, start=1)
    ]
    return f'<div class="backend-cards">{"".join(cards)}</div>'


def card_html(place: int, spec: LoaderSpec, state: BackendState, *, enabled: bool, last: bool) -> str:
    """One backend: its place, whether it works here and why not, what it is for, and what can be done with it."""
    reason = "its last installation was cut off: repair it, or roll it back" if state.interrupted else state.reason
    tone: Tone = "plain" if not enabled else "ok" if state.installed and not state.interrupted else "problem"
    sentence = reason if enabled else f"switched off; {reason}"
    hint = f"<p>{escape(state.hint)}</p>" if state.hint else ""
    opens = [FORMAT_WORDS.get(str(item), str(item)) for item in sorted(spec.formats)]
    rows = [
        ("Installed", _version(state)),
        ("Devices here", ", ".join(state.devices) or (UNKNOWN if state.installed else "none until it is installed")),
        ("Can open", ", ".join(opens)),
    ]
    return (
        f'<section class="backend card" id="backend-card-{escape(spec.name)}" data-backend="{escape(spec.name)}">'
        f'<h3><span class="place">{place}</span> {escape(spec.title)}</h3>{verdict_html(tone, sentence)}{hint}'
        f'<p class="summary">{escape(spec.summary)}</p>{facts_html(rows)}'
        f'<div class="card-actions">{_switch(spec, enabled)}'
        f"{_button(spec, 'up', '↑', f'Try {spec.title} earlier', place > 1)}"
        f"{_button(spec, 'down', '↓', f'Try {spec.title} later', not last)}"
        f"{_install(spec, state)}</div></section>"
    )


def _switch(spec: LoaderSpec, enabled: bool) -> str:
    name = escape(spec.name)
    return (
        f'<label class="switch"><input type="checkbox" id="backend-enabled-{name}" data-action="enabled" '
        f'data-name="{name}"{" checked" if enabled else ""}> Enabled</label>'
    )


def _install(spec: LoaderSpec, state: BackendState) -> str:
    """The buttons for its installation: none of it is done before the plan has been seen."""
    buttons = ""
    if state.requirements:
        word = "Repair" if state.installed or state.interrupted else "Install"
        buttons += _button(spec, "plan", word, f"{word} {spec.title}: shows first what will be done", True)
    if state.installed:
        buttons += _button(spec, "test", "Test", f"Try {spec.title} with a tiny model", True)
    if state.before is not None or state.interrupted:
        label = f"Put {state.before} back" if state.before else "Undo the installation that was cut off"
        buttons += _button(spec, "roll back", "Roll back", label, True)
    return buttons


def _button(spec: LoaderSpec, action: str, text: str, label: str, usable: bool) -> str:
    name, key = escape(spec.name), action.replace(" ", "-")
    return (
        f'<button type="button" id="backend-{key}-{name}" data-action="{action}" data-name="{name}" '
        f'aria-label="{escape(label)}" title="{escape(label)}"{"" if usable else " disabled"}>{text}</button>'
    )


def _version(state: BackendState) -> str:
    """The installed version, and the one the app was tried with where that is another."""
    if not state.installed:
        return "no"
    found = state.version or "yes, version unknown"
    return f"{found} (made for {state.pinned})" if state.pinned and state.version != state.pinned else found
