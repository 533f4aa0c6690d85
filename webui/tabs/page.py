"""The page as a whole: the top line, the five tabs, the keyboard sheet, and how it is to be mounted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from webui.context import AppContext
from webui.tabs import backend, chat, degraded, diagnostics, extension_panels, hardware, migration, model, status
from webui.tabs.sessions import Page
from webui.tabs.theme import build_theme

HERE = Path(__file__).parent
TABS = (
    ("model", "Model", model.build),
    ("chat", "Chat", chat.build),
    ("backend", "Backend", backend.build),
    ("hardware", "Hardware", hardware.build),
    ("diagnostics", "Diagnostics", diagnostics.build),
)
SCRIPTS = ("page.js", "live.js", "monitor.js", "plan.js")
FIRST = "chat"
"""The tab a page opens with: also without a model, since its empty state leads to one."""

KEYS = (
    ("Enter", "Send the message"),
    ("Shift + Enter", "New line in the message"),
    ("Esc", "Stop the reply"),
    ("Ctrl + Shift + Backspace", "Take the last question back"),
    ("Ctrl + Shift + Enter", "Regenerate the last reply"),
    ("Alt + Enter", "Continue the last reply"),
    ("Alt + N", "New conversation"),
    ("Alt + 1 … 5", "Model, Chat, Backend, Hardware, Diagnostics"),
    ("/", "Go to the message field"),
    ("?", "This sheet"),
)


def build_page(context: AppContext) -> gr.Blocks:
    """The whole page over `context`. To be mounted with `page_options`."""
    page = Page(title="GGUF Loader", analytics_enabled=False, fill_width=True, fill_height=True)
    with page:
        with gr.Row(elem_id="page-head"):
            line = status.build(context)
            gr.HTML(_tools_html(), elem_id="page-tools", apply_default_css=False)
        with gr.Tabs(selected=FIRST, elem_id="page-tabs"):
            for name, label, build in TABS:
                with gr.Tab(label, id=name, elem_id=f"tab-{name}"):
                    if name == "chat":
                        banner = degraded.build_slim(context)
                    build(context)
                    if name != "chat":  # the chat has them in its side panel
                        extension_panels.build(context, name)
            for title, build_extra in context.extensions.tabs():
                with gr.Tab(title, elem_classes="tab-extension"):
                    build_extra(context)
        status.keep_true(context, line, banner)
        migration.build_dialog(context)
    return page


def page_options() -> dict[str, Any]:
    """The keyword arguments for `gr.mount_gradio_app` that belong to the page's look and behaviour."""
    scripts = "".join(f"<script>{(HERE / name).read_text(encoding='utf-8')}</script>" for name in SCRIPTS)
    return {
        "theme": build_theme(),
        "css_paths": [HERE / "style.css", HERE / "panels.css", HERE / "record.css"],
        "head": scripts,
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "show_error": True,
        "pwa": False,
    }


def _tools_html() -> str:
    rows = "".join(f"<tr><th><kbd>{keys}</kbd></th><td>{action}</td></tr>" for keys, action in KEYS)
    return (
        f'<button type="button" data-act="theme" id="page-theme" {_named("Light or dark")}>◐</button>'
        f'<button type="button" data-act="help" id="page-help" {_named("Keyboard and help")}>?</button>'
        '<dialog id="help-sheet" aria-label="Keyboard"><h2>Keyboard</h2>'
        f'<table>{rows}</table><form method="dialog"><button>Close</button></form></dialog>'
    )


def _named(words: str) -> str:
    """A name for screen readers and for hovering."""
    return f'aria-label="{words}" title="{words}"'
