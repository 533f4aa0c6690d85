"""The list of models on the left of the Model tab: which rows there are, in which order, and how they look.

Pure functions over the catalogue's entries. The rows are buttons; the page's script sends the chosen row's path back,
and `entry_at` accepts it only if the catalogue itself holds it, so that no path from a browser reaches the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from webui.models.catalogue import BrokenModel, Entry
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.tabs.model_fit import Fit
from webui.tabs.present import date, empty_html, escape, format_name, one_sentence, plural, quantity, size, verdict_html

CHOOSE_ROW = """
element.addEventListener('click', (event) => {
  const row = event.target.closest('[data-path]');
  if (!row) return;
  element.querySelectorAll('[data-path]').forEach((other) => other.setAttribute('aria-pressed', String(other === row)));
  trigger('select', {model: row.dataset.path});
});
"""
"""Runs in the browser: marks the row at once and reports its path; not as `path`, which Gradio takes for a file."""


FITS: Mapping[Fit, str] = {
    "fits": verdict_html("ok", "fits") + " · ",
    "changed": verdict_html("warning", "fits with other settings") + " · ",
    "paged": verdict_html("warning", "larger than what is free: slow") + " · ",
    "too large": verdict_html("problem", "too large for now") + " · ",
    "unknown": "",
}


def entry_at(entries: Sequence[Entry], path: str) -> Entry | None:
    """The entry with exactly this path, or None: the check that keeps a forged request away from the disk."""
    return next((entry for entry in entries if str(entry.path) == path), None)


def matching(entries: Sequence[Entry], search: str) -> list[Entry]:
    """Entries in which every word of `search` occurs, sound ones first, each part sorted by name."""
    words = search.casefold().split()
    found = [entry for entry in entries if all(word in _haystack(entry) for word in words)]
    return sorted(found, key=lambda entry: (isinstance(entry, BrokenModel), _name(entry).casefold(), str(entry.path)))


def catalogue_html(
    entries: Sequence[Entry],
    *,
    search: str,
    chosen: str,
    folder: Path | None,
    fit: Callable[[ModelFacts], Fit] = lambda facts: "unknown",
) -> str:
    """The rows for `search`; `chosen` is the path of the row that is marked, `fit` says whether a model fits here."""
    if not entries:
        where = f" in {folder}" if folder is not None else ""
        return empty_html(f"No models{where} yet. Put GGUF files, llamafiles or transformers directories there.")
    found = matching(entries, search)
    if not found:
        return empty_html("No model matches.")
    rows = "".join(_row(entry, fit, pressed=str(entry.path) == chosen) for entry in found)
    shown = plural(len(entries), "model") if len(found) == len(entries) else f"{len(found)} of {len(entries)} models"
    return f'<div class="catalogue-rows">{rows}</div><p class="catalogue-count">{shown}</p>'


def _row(entry: Entry, fit: Callable[[ModelFacts], Fit], *, pressed: bool) -> str:
    broken = isinstance(entry, BrokenModel)
    detail = (
        f'<span class="row-reason">✗ {escape(one_sentence(entry.error))}</span>'
        if isinstance(entry, BrokenModel)
        else f'<span class="row-facts">{FITS[fit(entry)]}{escape(" · ".join(_facts(entry)))}</span>'
    )
    return (
        f'<button type="button" class="catalogue-row{" broken" if broken else ""}" data-path="{escape(entry.path)}" '
        f'title="{escape(entry.path)}" aria-pressed="{"true" if pressed else "false"}">'
        f'<span class="row-name">{escape(_name(entry))}</span>{detail}</button>'
    )


def _facts(facts: ModelFacts) -> list[str]:
    """What tells models apart: only what is known, since a row has no room for unknowns."""
    parts = [size(facts.file_bytes)]
    if facts.quantization:
        parts.append(facts.quantization)
    if facts.parameter_count is not None:
        parts.append(f"{quantity(facts.parameter_count)} parameters")
    if facts.context_length:
        parts.append(f"{facts.context_length:,} context")
    if facts.quantization is None:
        parts.append(format_name(facts))
    parts.append(date(_modified(facts.path)))
    return parts


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:  # the file went away since the catalogue was read
        return None


def _name(entry: Entry) -> str:
    return model_id(entry) if isinstance(entry, ModelFacts) else entry.path.name


def _haystack(entry: Entry) -> str:
    parts = [_name(entry), entry.path.name]
    if isinstance(entry, ModelFacts):
        parts += [entry.name, entry.quantization or "", entry.architecture or "", format_name(entry)]
    return " ".join(parts).casefold()
