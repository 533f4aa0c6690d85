"""How a backend is described on its card, and how its place in the order changes: pure functions."""

from __future__ import annotations

import time
from collections.abc import Sequence

from webui.loaders.contract import LoaderSpec
from webui.setup.backends import BackendState
from webui.tabs.backend_install import Installation
from webui.tabs.present import (
    UNKNOWN,
    Tone,
    escape,
    facts_html,
    failure_html,
    log_html,
    progress_html,
    verdict_html,
)

FORMAT_WORDS = {
    "gguf": "GGUF",
    "ggml": "older GGML files",
    "transformers": "transformers directories",
    "llamafile": "llamafiles",
}


def moved(order: Sequence[str], name: str, places: int) -> tuple[str, ...]:
    """`order` with `name` moved by `places` (up is negative), stopping at either end."""
    rest = [other for other in order if other != name]
    target = max(0, min(len(rest), list(order).index(name) + places))
    return (*rest[:target], name, *rest[target:])


def card_html(place: int, spec: LoaderSpec, state: BackendState, *, enabled: bool) -> str:
    """One backend: its place, whether it works here and why not, what it is for."""
    tone: Tone = "plain" if not enabled else "ok" if state.installed else "problem"
    sentence = state.reason if enabled else f"switched off; {state.reason}"
    opens = [FORMAT_WORDS.get(str(item), str(item)) for item in sorted(spec.formats)]
    rows = [
        ("Installed", _version(state)),
        ("Devices here", ", ".join(state.devices) or (UNKNOWN if state.installed else "none until it is installed")),
        ("Can open", ", ".join(opens)),
    ]
    return (
        f'<div class="backend" data-backend="{escape(spec.name)}"><h3><span class="place">{place}</span> '
        f"{escape(spec.title)}</h3>{verdict_html(tone, sentence)}"
        f'<p class="summary">{escape(spec.summary)}</p>{facts_html(rows)}</div>'
    )


def _version(state: BackendState) -> str:
    """The installed version, and the one the app was tried with where that is another."""
    if not state.installed:
        return "no"
    found = state.version or "yes, version unknown"
    return f"{found} (made for {state.pinned})" if state.pinned and state.version != state.pinned else found


def installation_html(installation: Installation | None) -> str:
    """The log of the last installation with its end; nothing where there was none."""
    if installation is None:
        return ""
    if installation.running:
        step = f"{installation.name}: {installation.step}"
        head = progress_html(step, installation.share, time.time() - installation.started_at)
    elif installation.error is not None:
        head = failure_html(installation.error, title=f"{installation.name} was not installed")
    else:
        head = verdict_html("ok", f"{installation.name} is installed")
    return f"{head}{log_html(list(installation.lines))}"
