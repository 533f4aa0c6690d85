"""The advice for a machine as HTML: the device, what fits, the loaders in order, settings, and what to install."""

from __future__ import annotations

from webui.planning.recommendation import NAMES, Recommendation
from webui.planning.sizes import Fit
from webui.tabs.present import Tone, escape, list_html, size, verdict_html

WHERE = {"gpu": "on the GPU", "gpu and cpu": "GPU and processor", "cpu": "on the processor"}


def advice_html(advice: Recommendation) -> str:
    """All of it; headings only over what there is."""
    tone: Tone = "ok" if advice.used else "warning"
    parts = [
        f'<p class="advice-device">{verdict_html(tone, advice.device)}</p>',
        f"<p>{escape(advice.guidance)} {escape(advice.layers)}</p>",
        f'<div class="scroll">{_sizes_html(advice.sizes)}</div>',
        _section("Loaders, best first", list_html([_place(advice, index) for index in range(len(advice.order))])),
        _section("Settings", list_html(advice.hints)),
        _section("To install", _offers_html(advice)),
        _section("Not supported", list_html(advice.warnings, tone="warning")),
    ]
    return f'<div class="advice">{"".join(parts)}</div>'


def _section(title: str, body: str) -> str:
    return f"<h3>{escape(title)}</h3>{body}" if body else ""


def _place(advice: Recommendation, index: int) -> str:
    place = advice.order[index]
    return f"{index + 1}. {place.loader} on {NAMES[place.kind]}: {place.reason}."


def _offers_html(advice: Recommendation) -> str:
    rows = "".join(
        f"<li>{escape(offer.sentence)}{f' <code>{escape(offer.command)}</code>' if offer.command else ''}</li>"
        for offer in advice.offers
    )
    return f'<ul class="sentences plain">{rows}</ul>' if rows else ""


def _sizes_html(sizes: tuple[Fit, ...]) -> str:
    heads = "".join(f'<th scope="col">{word}</th>' for word in ("Parameters", "Best quantisation", "Where", "Takes"))
    return f'<table class="sizes"><thead><tr>{heads}</tr></thead><tbody>{"".join(map(_row, sizes))}</tbody></table>'


def _row(fit: Fit) -> str:
    if fit.quantization is None or fit.where is None:
        cells = ("does not fit", "–", f"about {size(fit.needed)} as Q4_K_M")
    else:
        cells = (fit.quantization, WHERE[fit.where], f"about {size(fit.needed)}")
    kind = "" if fit.where else ' class="impossible"'
    return (
        f'<tr{kind}><th scope="row">{fit.billions} B</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
    )
