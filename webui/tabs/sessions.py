"""The page as Gradio's `Blocks`, with what it remembers of each open page kept from growing.

Gradio keeps its own copy of every component that an event has updated, for each session. That copy has another id than
the component it stands for, and is entered a second time under that id whenever the component is an input too; leaving
a component as it is (`gr.skip`) counts as an update. A page whose timers tick would so take a megabyte a minute for as
long as it is open. Sessions of pages that were left are kept as well, ten thousand of them by default.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.state_holder import SessionState

MOST_SESSIONS = 100
"""Open pages, or pages that may be come back to; the one that was silent longest gives way. Each takes about 1 MB."""


class Page(gr.Blocks):
    """See the module."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.state_session_capacity = MOST_SESSIONS

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list[Any] | dict[Any, Any], state: SessionState | None
    ) -> list[Any]:
        """Gradio's own, without a new copy where nothing is updated, and with the component's id on the others."""
        if _all_skipped(predictions):
            return [gr.skip() for _ in block_fn.outputs]
        shown = await super().postprocess_data(block_fn, predictions, state)
        if state is not None:
            for component in block_fn.outputs:
                kept = state.blocks_config.blocks.get(component._id)
                if kept is not None:
                    kept._id = component._id
        return shown


def _all_skipped(predictions: Any) -> bool:
    """Whether an event's answer leaves every output as it is."""
    if _is_skip(predictions):
        return True
    answers = list(predictions.values()) if isinstance(predictions, dict) else predictions
    return isinstance(answers, list | tuple) and bool(answers) and all(map(_is_skip, answers))


def _is_skip(answer: Any) -> bool:
    return isinstance(answer, dict) and answer == gr.skip()
