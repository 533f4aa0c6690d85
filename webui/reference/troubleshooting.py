"""docs/troubleshooting.md: every failure with what it means and what to do, from the table of remedies."""

from __future__ import annotations

from pathlib import Path

from webui.errors import AppError, tree
from webui.reference.tables import GENERATED, code
from webui.remedies import PLACES, REMEDIES, Remedy

HEAD = """\
# Troubleshooting

Whatever goes wrong has a name, and the name stands here with what to do. The page shows a failure where it happened:
what failed, why, what to do next, and folded beneath it the last lines of the engine, which prove it. On the command
line the cause and a hint are two lines on standard error; a program finds the name as `code` in the error's JSON.

Before a load fails, the app has tried what may help, in this order: safer engine flags, fewer GPU layers, a smaller
cache, a smaller context, the CPU, the next loader that can open the file. Each step is shown with its reason, and what
a loaded model had to do without is said behind the amber dot of the top line. What worked is remembered for the file,
the machine and the engine's version. With **Fall back** off on the **Backend** tab, the first failure is the last.

The **Diagnostics** tab shows what failed in the last weeks, newest first; `python3 app.py failures` prints it.
`python3 app.py doctor` checks what a person would look at first.
"""
CATEGORIES = {
    "installation": "Installation",
    "hardware": "The machine and its engines",
    "model": "The model",
    "configuration": "Settings and requests",
    "application": "Anything else",
}


def page(docs: Path) -> str:
    """A list of contents, then a section for each error, by category. `docs` is where its images are looked for."""
    kinds = sorted(tree(), key=lambda kind: list(CATEGORIES).index(kind.category))  # stable: the order of the tree
    parts, contents = [], []
    for category, title in CATEGORIES.items():
        mine = [kind for kind in kinds if kind.category == category]
        links = [f"[{REMEDIES[kind.code].title}](#{kind.code})" for kind in mine]
        contents.append(f"- **{title}**: {', '.join(links)}")
        parts.append(f"## {title}\n")
        parts += [_section(kind, REMEDIES[kind.code], docs) for kind in mine]
    return "\n".join([GENERATED, HEAD, "\n".join(contents) + "\n", *parts])


def _section(kind: type[AppError], remedy: Remedy, docs: Path) -> str:
    image = f"images/failure-{kind.code}.png"
    lines = [f'<a id="{kind.code}"></a>', "", f"### {remedy.title}", "", f"{code(kind.code)}. {remedy.meaning}", ""]
    if (docs / image).is_file():
        lines += [f"![{remedy.title}]({image})", ""]
    lines += [f"{number}. {step}" for number, step in enumerate(remedy.steps, start=1)]
    if remedy.actions:
        offers = ", ".join(f"{action.value} ({PLACES[action].tab} tab)" for action in remedy.actions)
        lines += ["", f"On the page: {offers}."]
    return "\n".join(lines) + "\n"
