"""The samples of the documentation: every fenced block and every command within a line, with the place it stands at.

A fence says by its first word what it holds, and so what the suite does with it:

    console   commands behind `$ `, run one after the other in one shell; other lines are what they print
    python    run as the cells of a notebook: those of one page share their names; one with hooks is an extension
    yaml, json   read by what reads them in the app; the second word names the file: ```yaml settings.yaml
    text      neither: output, trees, signatures

There is no other kind, and nothing is shown by mere indentation, so that no sample can be overlooked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from webui.paths import PROJECT_ROOT

PROMPT = "$ "
LANGUAGES = ("console", "python", "yaml", "json", "text")
COMMAND = re.compile(r"(?:\w+=\S* )*(?:python3? |python3\.\d+ |\.venv/bin/|curl |git |pip )\S")
"""How a command begins where it is named in a sentence."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One block. `line` is that of its first line of text; `name` is the second word of its fence, "" without one."""

    page: str
    line: int
    language: str
    name: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Mention:
    """A command within a sentence."""

    page: str
    text: str


def page_paths() -> list[str]:
    """README.md, CONTRIBUTING.md and everything in docs/, from the checkout's root, in the order to be read in."""
    docs = sorted(PROJECT_ROOT.glob("docs/**/*.md"), key=lambda path: (path.name != "README.md", str(path)))
    return ["README.md", "CONTRIBUTING.md", *(path.relative_to(PROJECT_ROOT).as_posix() for path in docs)]


def samples() -> list[Sample]:
    """All blocks of all pages, in order."""
    return [sample for page in page_paths() for sample in samples_of(page, _text(page))]


def samples_of(page: str, text: str) -> list[Sample]:
    """The blocks of one page; indented ones count as of the language "indented"."""
    return [_sample(page, token) for token in _tokens(text) if token.type in ("fence", "code_block")]


def mentions() -> list[Mention]:
    """Every command that a sentence or a cell of a table names, each once per page."""
    found = [
        Mention(page, child.content)
        for page in page_paths()
        for token in _tokens(_text(page))
        for child in token.children or ()
        if child.type == "code_inline" and COMMAND.match(child.content)
    ]
    return list(dict.fromkeys(found))


def links() -> Iterator[tuple[str, str]]:
    """(page, target) of every link and picture."""
    for page in page_paths():
        for token in _tokens(_text(page)):
            for child in token.children or ():
                target = child.attrGet("href") or child.attrGet("src")
                if target:
                    yield page, str(target)


@cache
def anchors(page: Path) -> set[str]:
    """What `#…` may name in a page: its headings, as forges write them, and its own marks."""
    text = page.read_text(encoding="utf-8")
    tokens = _tokens(text)
    titles = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    named = {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-") for title in titles}
    return named | set(re.findall(r'<a id="([^"]+)">', text))


def commands_of(text: str) -> list[str]:
    """The commands of a console block: each line behind `$ `, with the lines that continue it."""
    commands: list[str] = []
    continued = False
    for line in text.splitlines():
        if continued:
            commands[-1] += "\n" + line
        elif line.startswith(PROMPT):
            commands.append(line.removeprefix(PROMPT))
        else:
            continue
        continued = line.endswith("\\")
    return commands


def _sample(page: str, token: Token) -> Sample:
    first = token.map[0] + 1 if token.map else 0
    language, _, name = token.info.strip().partition(" ")
    if token.type == "code_block":
        return Sample(page, first, "indented", "", token.content)
    return Sample(page, first + 1, language, name.strip(), token.content)


def _text(page: str) -> str:
    return (PROJECT_ROOT / page).read_text(encoding="utf-8")


def _tokens(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)
