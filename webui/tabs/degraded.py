"""The banner over a model that runs with less than was asked for: the reason, and the buttons that would do better."""

from __future__ import annotations

import gradio as gr

from webui.context import AppContext
from webui.pool import PoolStatus
from webui.tabs.offers import PRESS, act_on_press, better_offers, link_html, offers_html
from webui.tabs.present import MARKS, escape


def build_slim(context: AppContext) -> gr.HTML:
    """Draw the banner of the Chat tab where the caller stands; the top line keeps it true."""
    banner = gr.HTML(js_on_load=PRESS, elem_id="chat-degraded", apply_default_css=False)
    act_on_press(context, banner)
    return banner


def banner_html(status: PoolStatus, *, place: str, link: bool = False) -> str:
    """What the loaded model has to do without, and what would do better; nothing where it has all it was asked for.

    `place` makes the buttons' ids unique on the page; with `link` there is one that leads to the Model tab.
    """
    degraded = status.degraded
    if degraded is None or status.facts is None:
        return ""
    more = link_html("Model", "model-status", "See how it was loaded", place=place) if link else ""
    return (
        f'<div class="banner" role="status"><div class="banner-text"><span class="mark">{MARKS["warning"]}</span> '
        f"{escape(degraded.sentence)}</div>{offers_html(better_offers(status), place=place, more=more)}</div>"
    )
