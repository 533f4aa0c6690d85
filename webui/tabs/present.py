"""How facts, figures and failures are put into words and HTML: pure functions, no gradio.

Whatever comes from a file, an engine or an error goes through `escape` here, so that no tab has to remember it: a
model called `<img onerror=…>` is shown by that name. Functions whose name ends in `_html`, and the panels, return HTML
that is ready to be shown; the others return plain text. Unknown values are said to be unknown, never guessed.
"""

from __future__ import annotations

import hashlib
import html
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from webui.errors import AppError
from webui.models.facts import ModelFacts, ModelFormat

UNKNOWN = "unknown"
_UNKNOWN_CLASS = ' class="unknown"'

Tone = Literal["plain", "ok", "warning", "problem"]
MARKS: Mapping[Tone, str] = {"plain": "·", "ok": "✓", "warning": "!", "problem": "✗"}

FORMAT_NAMES: Mapping[ModelFormat, str] = {
    ModelFormat.GGUF: "GGUF",
    ModelFormat.GGML: "GGML",
    ModelFormat.TRANSFORMERS: "transformers directory",
    ModelFormat.LLAMAFILE: "llamafile",
}


def escape(text: object) -> str:
    """`text` as HTML text or attribute value. Control characters other than line breaks and tabs are dropped."""
    kept = "".join(char for char in str(text) if char in "\n\t" or char.isprintable() or ord(char) > 0x9F)
    return html.escape(kept, quote=True)


def place(path: Path) -> str:
    """A path as people write it, from their home where it lies there: `~/models/big.gguf`."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 (Path.home raises where nobody has a home)
    at_home = len(home.parts) > 1 and path.is_relative_to(home)
    return f"~{os.sep}{path.relative_to(home)}" if at_home else str(path)


# Figures


def size(count: int | None) -> str:
    """Bytes in binary units with three significant figures: `93.8 MiB`."""
    if count is None:
        return UNKNOWN
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{int(value)} B" if unit == "B" else f"{_three_figures(value)} {unit}"


def quantity(count: int | None) -> str:
    """A large count as people say it: `135 M`, `7.24 B`."""
    if count is None:
        return UNKNOWN
    value = float(count)
    for unit in ("", " K", " M", " B", " T"):
        if abs(value) < 1000 or unit == " T":
            break
        value /= 1000
    return str(int(value)) if not unit else f"{_three_figures(value)}{unit}"


def number(count: int | None) -> str:
    """A whole number with thin separators: `8,192`."""
    return UNKNOWN if count is None else f"{count:,}"


def duration(seconds: float | None) -> str:
    """A length of time to the precision people compare: `12 ms`, `3.4 s`, `2 min 5 s`, `1 h 2 min`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def speed(tokens_per_second: float | None) -> str:
    """`41.3 tokens/s`."""
    return UNKNOWN if tokens_per_second is None else f"{_three_figures(tokens_per_second)} tokens/s"


def percent(share: float | None) -> str:
    """A share between 0 and 1 as `42 %`."""
    return UNKNOWN if share is None else f"{share * 100:.0f} %"


def compared(planned: int, measured: int) -> str:
    """What was planned beside what it became, in bytes: `planned 412 MiB, measured 405 MiB (−1.7 %)`."""
    off = f" ({(measured - planned) / planned * 100:+.1f} %)".replace("-", "−") if planned else ""
    return f"planned {size(planned)}, measured {size(measured)}{off}"


def date(timestamp: float | None) -> str:
    """A Unix time as a local date: `21 Nov 2026`."""
    if timestamp is None:
        return UNKNOWN
    day = datetime.fromtimestamp(timestamp)
    return f"{day.day} {day:%b %Y}"


def clock(timestamp: float | None) -> str:
    """A Unix time as local time of day: `14:03:09`."""
    return UNKNOWN if timestamp is None else time.strftime("%H:%M:%S", time.localtime(timestamp))


def moment(timestamp: float | None) -> str:
    """A Unix time as local day and time of day: `21 Nov 14:03:09`."""
    if timestamp is None:
        return UNKNOWN
    day = datetime.fromtimestamp(timestamp)
    return f"{day.day} {day:%b} {clock(timestamp)}"


def _three_figures(value: float) -> str:
    whole = abs(value)
    return f"{value:.0f}" if whole >= 100 else f"{value:.1f}" if whole >= 10 else f"{value:.2f}"


def plural(count: int, one: str, many: str = "") -> str:
    """`1 layer`, `2 layers`."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


# Pieces of HTML


def facts_html(rows: Iterable[tuple[str, str]], *, elem_class: str = "facts") -> str:
    """Label and value pairs as a description list; `unknown` is set apart so that it does not read like a value."""
    cells = "".join(
        f"<div><dt>{escape(label)}</dt><dd{_UNKNOWN_CLASS if value == UNKNOWN else ''}>{escape(value)}</dd></div>"
        for label, value in rows
    )
    return f'<dl class="{elem_class}">{cells}</dl>'


def verdict_html(tone: Tone, text: str) -> str:
    """One line with the mark of its tone: the mark carries the meaning for those who do not see the colour."""
    return f'<span class="verdict {tone}"><span class="mark">{MARKS[tone]}</span> {escape(text)}</span>'


def list_html(items: Sequence[str], *, tone: Tone = "plain") -> str:
    """Sentences as a list; nothing at all for an empty one."""
    if not items:
        return ""
    return f'<ul class="sentences {tone}">' + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def empty_html(text: str) -> str:
    """What stands where there is nothing to show yet."""
    return f'<p class="empty">{escape(text)}</p>'


def monitor_html(key: str, text: str = "") -> str:
    """A place that the page's script keeps filled with what the machine is doing."""
    return f'<div data-monitor="{escape(key)}">{escape(text)}</div>'


def log_html(lines: Sequence[str], *, empty: str = "Nothing yet.") -> str:
    """Lines of output, oldest first, in a box that scrolls."""
    if not lines:
        return empty_html(empty)
    return f'<pre class="log">{escape(chr(10).join(lines))}</pre>'


def fold_html(head: str, body: str, *, key: str, kind: str) -> str:
    """`body` folded behind `head`, both HTML. The page keeps it open by its `key` when it is drawn anew."""
    return (
        f'<details class="{escape(kind)}" data-fold="{escape(key)}"><summary>{head}</summary>'
        f'<div class="fold">{body}</div></details>'
    )


def evidence_html(lines: Sequence[str], *, title: str = "Last lines of the engine", key: str = "") -> str:
    """The lines that prove a failure, folded. `key` tells them from the same lines of another failure."""
    if not lines:
        return ""
    text = "\n".join(lines)
    mark = hashlib.blake2b(f"{key}{text}".encode(errors="replace"), digest_size=8).hexdigest()
    return fold_html(escape(f"{title} ({len(lines)})"), f"<pre>{escape(text)}</pre>", key=mark, kind="evidence")


def failure_html(error: AppError, *, title: str = "", tone: Tone = "problem", actions: str = "", key: str = "") -> str:
    """A failure in full: what failed, why, what to do next, and the evidence folded. `actions` is HTML of buttons."""
    head = f'<div class="failure-title">{escape(title)}</div>' if title else ""
    cause = f'<div class="failure-cause">Why: {escape(error.cause)}</div>' if error.cause else ""
    hint = f'<div class="failure-hint">What to do: {escape(error.hint)}</div>' if error.hint else ""
    return (
        f'<div class="failure {tone}" role="alert" data-code="{escape(error.code)}">{head}'
        f'<div class="failure-message"><span class="mark">{MARKS[tone]}</span> {escape(error.message)}</div>'
        f"{cause}{hint}{actions}{evidence_html(error.evidence, key=key)}</div>"
    )


def running_html(seconds: float) -> str:
    """Seconds that count on in the browser, so that nothing has to be sent for a clock to tick."""
    return f'<span data-running="{max(0.0, seconds):.1f}">{escape(whole_seconds(seconds))}</span>'


def whole_seconds(seconds: float) -> str:
    """`12 s`, `2 min 5 s`: a time that is still growing. The page's script words it the same way."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def progress_html(step: str, share: float | None, seconds: float | None) -> str:
    """What is happening, how long it has taken, and a bar; a bar without a share shows that work goes on."""
    width = f' style="width:{max(0.0, min(1.0, share)) * 100:.0f}%"' if share is not None else ""
    known = "" if share is not None else " unknown"
    tail = [running_html(seconds)] if seconds is not None else []
    if share is not None:
        tail.insert(0, escape(percent(share)))
    return (
        f'<div class="progress" role="status"><div class="progress-text"><span>{escape(step)}</span>'
        f'<span class="figures">{" · ".join(tail)}</span></div>'
        f'<div class="progress-bar{known}"><div{width}></div></div></div>'
    )


# Facts of a model


def model_rows(facts: ModelFacts) -> list[tuple[str, str]]:
    """The facts of one model at a glance, the ones people compare first."""
    layers = number(facts.block_count)
    heads = number(facts.head_count)
    if facts.head_count_kv is not None and facts.head_count_kv != facts.head_count:
        heads += f" ({number(facts.head_count_kv)} for keys and values)"
    rows = [
        ("Size", size(facts.file_bytes)),
        ("Quantisation", facts.quantization or UNKNOWN),
        ("Parameters", quantity(facts.parameter_count)),
        ("Context", f"{number(facts.context_length)} tokens" if facts.context_length else UNKNOWN),
        ("Name in the file", facts.name),
        ("Architecture", facts.architecture or UNKNOWN),
        ("Layers", layers),
        ("Heads", heads),
        ("Embedding", number(facts.embedding_length)),
        ("Vocabulary", number(facts.vocabulary_size)),
        ("Tokenizer", facts.tokenizer or UNKNOWN),
        ("Chat template", "in the file" if facts.chat_template else "none in the file"),
        ("Format", format_name(facts)),
    ]
    if facts.expert_count:
        rows.append(("Experts", number(facts.expert_count)))
    if len(facts.files) > 1:
        rows.append(("Files", number(len(facts.files))))
    return rows


def format_name(facts: ModelFacts) -> str:
    """`GGUF v3`, with the byte order where it is the unusual one."""
    name = FORMAT_NAMES[facts.format]
    if facts.gguf_version is not None:
        name += f" v{facts.gguf_version}"
    return f"{name}, big-endian" if facts.byte_order == "big" else name


def one_sentence(error: AppError) -> str:
    """A failure on one line, for lists: what failed and why."""
    return f"{error.message.rstrip('.')}: {error.cause}" if error.cause else error.message


def same(left: Any, right: Any) -> bool:
    """Whether two values of a control mean the same: an empty text and no value do, and so do 1 and 1.0."""
    return (left in (None, "") and right in (None, "")) or (
        left == right and isinstance(left, bool) == isinstance(right, bool)
    )
