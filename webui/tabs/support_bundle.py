"""The support bundle on the Diagnostics tab: one button makes it, the page shows what is in it, a link saves it.

The file travels in the link itself, so nothing lies on the server's disk for others to find.
"""

from __future__ import annotations

import base64

import gradio as gr

from webui.context import AppContext
from webui.diagnostics.bundle import SHOWABLE, Bundle, Part
from webui.diagnostics.bundle_parts import Source, gather_bundle
from webui.errors import AppError
from webui.tabs.present import escape, failure_html, fold_html, plural, size

SHOWN_CHARACTERS = 6000
"""Of each file, on the page; the bundle has the whole."""


def build(context: AppContext) -> None:
    """Draw the part where the caller stands."""
    with gr.Row(elem_classes="tab-head"):
        gr.HTML("<h2 class='part'>Support bundle</h2>")
        make = gr.Button("Make a support bundle", size="sm", scale=0, min_width=180, elem_id="diagnostics-bundle-make")
    shown = gr.CheckboxGroup(
        [(about, name) for name, about in SHOWABLE.items()],
        label="Left out, unless it is ticked",
        elem_id="diagnostics-bundle-shown",
    )
    found = gr.HTML(elem_id="diagnostics-bundle", elem_classes="may-be-empty")

    async def gathered(wanted: list[str]) -> str:
        try:
            return bundle_html(await gather_bundle(Source(context.paths, context.loaders, context), wanted))
        except AppError as error:
            return failure_html(error)

    make.click(gathered, shown, found, concurrency_limit=None, show_progress="minimal", api_visibility="private")


def bundle_html(bundle: Bundle) -> str:
    """What is in it, each file to be unfolded, and the link that saves it."""
    raw = bundle.to_zip()
    name = escape(bundle.file_name)
    link = f"data:application/zip;base64,{base64.b64encode(raw).decode()}"
    save = f'<a class="save" download="{name}" href="{link}">Save {name}</a>'
    head = (
        f"{plural(len(bundle.parts), 'file')}, {size(len(raw))}. Look at what is in it before you send it to anybody."
    )
    parts = "".join(_part_html(part) for part in bundle.parts)
    return f'<div class="bundle"><p>{save}</p><p class="aside">{escape(head)}</p>{parts}</div>'


def _part_html(part: Part) -> str:
    figures = f'<span class="figures">{size(part.size)}</span>'
    head = f'<span class="name">{escape(part.name)}</span> {figures} {escape(part.about)}'
    cut = "\n…" if len(part.text) > SHOWN_CHARACTERS else ""
    body = f"<pre>{escape(part.text[:SHOWN_CHARACTERS] + cut)}</pre>"
    return fold_html(head, body, key=f"bundle-{part.name}", kind="part")
