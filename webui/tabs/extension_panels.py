"""What extensions add to the app's own tabs: folded parts, each built by its extension."""

from __future__ import annotations

import gradio as gr

from webui.context import AppContext


def build(context: AppContext, place: str) -> None:
    """Draw the panels that extensions have for the tab `place`, one folded part each, where the caller stands."""
    for title, build_panel in context.extensions.panels(place):
        with gr.Accordion(title, open=False, elem_classes="panel-extension"):
            build_panel(context)
