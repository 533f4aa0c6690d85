"""Work that only happens while a tab is looked at: filling it when it is opened, and ticking while it stays open.

Gradio keeps the timer of a tab running after the tab is left, and fires no event on the tab that is left. The timer is
therefore switched by a line of script that runs on every change of tabs and looks which one is selected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.context import Context
from gradio.events import Dependency

SILENT: dict[str, Any] = {"show_progress": "hidden", "show_progress_on": [], "api_visibility": "private"}
"""Options of an event that shows no progress. Without the second, Gradio goes through the outputs of every event that
has ever fired each time one does, which costs a page of many controls half of its time.
"""


def enclosing_tab() -> gr.Tab | None:
    """The tab the caller draws in; None where a part is drawn on its own."""
    block = Context.block
    while block is not None and not isinstance(block, gr.Tab):
        block = block.parent
    return block


def when_opened(
    show: Callable[..., Any], outputs: Component | Sequence[Component], inputs: Sequence[Component] | None = None
) -> Dependency | None:
    """Call `show` each time the enclosing tab is opened (or the page, where there is no tab); returns the event."""
    tab = enclosing_tab()
    quiet: dict[str, Any] = {"queue": False, **SILENT}
    if tab is not None:
        return tab.select(show, inputs, outputs, **quiet)
    if Context.root_block is not None:
        return Context.root_block.load(show, inputs, outputs, **quiet)
    return None


def ticking(seconds: float, label: str) -> gr.Timer:
    """A timer that runs while the enclosing tab, whose label is `label`, is the selected one."""
    timer = gr.Timer(seconds)
    tab = enclosing_tab()
    if tab is not None and isinstance(tab.parent, gr.Tabs):
        script = (
            "async () => { await new Promise((done) => setTimeout(done, 50)); "
            "const tab = document.querySelector('[role=tab][aria-selected=true]'); "
            f"return {{__type__: 'update', active: tab?.textContent.trim() === {json.dumps(label)}}}; }}"
        )
        tab.parent.change(None, None, timer, js=script, queue=False, show_progress="hidden", api_visibility="private")
    return timer


def seen_mark(name: str) -> gr.Textbox:
    """An unseen field that holds the mark of what this page shows; a tick that would show the same sends nothing.

    It lives on the page and not in a `gr.State`: answers may overtake each other on their way, and then only the page
    knows which of them it shows.
    """
    return gr.Textbox(visible=False, elem_id=f"{name}-seen")


def mark_of(*shown: object) -> str:
    """A short mark of what is shown."""
    return hashlib.blake2b("\0".join(map(str, shown)).encode(), digest_size=8).hexdigest()
