"""Every command and code sample of README.md, CONTRIBUTING.md and docs/ does what it says."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import samples as read
from tests.docs.conftest import AddressFor, DeskOf
from tests.docs.mentioned import problem
from tests.docs.readers import READERS, reader_of
from tests.docs.samples import LANGUAGES, Mention, Sample, anchors, commands_of, page_paths
from tests.docs.substitutes import SUBSTITUTES, as_run, without_remark
from webui.extensions import ExtensionHost
from webui.paths import PROJECT_ROOT, Paths
from webui.settings import Settings

SAMPLES = read.samples()
MENTIONS = read.mentions()
MOST_SUBSTITUTES = 12
EXTENSION = re.compile(r"^from webui\.hooks import", re.MULTILINE)
HIDDEN_COMMAND = re.compile(r"^\s*(\$ |python3? |curl |pip |git )", re.MULTILINE)


def of(*languages: str) -> list[pytest.param]:  # type: ignore[valid-type]
    return [pytest.param(sample, id=sample.place) for sample in SAMPLES if sample.language in languages]


def cells(*, extensions: bool) -> dict[str, list[Sample]]:
    """Page → its Python samples of the one or the other kind."""
    found: dict[str, list[Sample]] = {}
    for sample in SAMPLES:
        if sample.language == "python" and bool(EXTENSION.search(sample.text)) == extensions:
            found.setdefault(sample.page, []).append(sample)
    return found


@pytest.mark.engine
@pytest.mark.parametrize("sample", of("console"))
def test_commands_run(sample: Sample, desk_of: DeskOf, address_for: AddressFor) -> None:
    assert commands_of(sample.text), f"{sample.place} is a console without a command"
    desk_of(sample.page).run_commands(sample, address_for([sample]))


@pytest.mark.engine
@pytest.mark.parametrize("page", cells(extensions=False))
def test_python_samples_run(page: str, desk_of: DeskOf, address_for: AddressFor) -> None:
    mine = cells(extensions=False)[page]
    desk_of(page).run_cells(mine, address_for(mine))


@pytest.fixture
def forgotten_extensions() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "extensions"]:
        del sys.modules[name]


@pytest.mark.parametrize("page", cells(extensions=True))
def test_extensions_load(page: str, tmp_path: Path, forgotten_extensions: None) -> None:
    paths = Paths(home=tmp_path / "home", project_root=tmp_path).ensure()
    for number, sample in enumerate(cells(extensions=True)[page]):
        folder = paths.extensions / f"sample_{number}"
        folder.mkdir()
        (folder / "__init__.py").write_text(sample.text, encoding="utf-8")
    host = ExtensionHost(paths, Settings.load(paths, environment={}))
    host.load()
    assert host.problems == []
    assert [extension.state for extension in host.extensions] == ["loaded"] * (number + 1)


@pytest.mark.parametrize("sample", of("yaml", "json"))
def test_files_are_read_without_complaint(sample: Sample, tmp_path: Path) -> None:
    reader = reader_of(sample.name)
    assert reader, f"{sample.place}: say which file it is behind ```{sample.language}; known are {', '.join(READERS)}"
    reader(sample.text, tmp_path / "home")


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    other = [f"{sample.place} ({sample.language or 'no language'})" for sample in SAMPLES]
    other = [place for place, sample in zip(other, SAMPLES, strict=True) if sample.language not in LANGUAGES]
    assert not other, f"begin these with ``` and one of {', '.join(LANGUAGES)}: {'; '.join(other)}"


def test_no_command_is_shown_as_mere_text() -> None:
    texts = (sample for sample in SAMPLES if sample.language == "text")
    hidden = [sample.place for sample in texts if HIDDEN_COMMAND.search(sample.text)]
    assert not hidden, f"commands belong into console blocks: {', '.join(hidden)}"


@pytest.mark.parametrize("mention", [pytest.param(one, id=f"{one.page}: {one.text}") for one in MENTIONS])
def test_commands_in_sentences_are_commands(mention: Mention) -> None:
    assert problem(mention.text) is None


def test_what_is_run_in_another_form_is_little_and_has_a_reason() -> None:
    shown = {
        without_remark(command)
        for sample in SAMPLES
        if sample.language == "console"
        for command in commands_of(sample.text)
    }
    assert [entry.command for entry in SUBSTITUTES if entry.command not in shown] == []
    assert all(len(entry.reason) > 20 and entry.instead != entry.command for entry in SUBSTITUTES)
    assert len(SUBSTITUTES) <= MOST_SUBSTITUTES


def test_every_page_of_docs_is_in_its_index() -> None:
    listed = {target for page, target in read.links() if page == "docs/README.md"}
    pages = {page.removeprefix("docs/") for page in page_paths() if page.startswith("docs/")} - {"README.md"}
    assert pages <= listed, f"not in docs/README.md: {', '.join(sorted(pages - listed))}"


def test_links_lead_somewhere() -> None:
    broken = []
    for page, target in read.links():
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = (PROJECT_ROOT / page).parent / path if path else PROJECT_ROOT / page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(f"{page}: {target}")
    assert broken == []


def test_a_page_is_read_as_people_see_it() -> None:
    text = "A list:\n\n- one\n\n  ```console\n  $ a \\\n      b\n  printed\n  $ c # why\n  ```\n\n    indented\n"
    first, *rest = read.samples_of("page", f"{text}\n```python\nx = 1\n```\n\n    old\n")
    assert (first.language, first.line, commands_of(first.text)) == ("console", 6, ["a \\\n    b", "c # why"])
    assert [(sample.language, sample.line) for sample in rest] == [("python", 15), ("indented", 18)]


def test_long_measurements_are_made_short() -> None:
    assert as_run("python3 app.py bench $MODEL --runs 9   # slow").startswith("python3 app.py bench $MODEL --runs 9 --")
    assert as_run("python3 app.py bench $MODEL").endswith("--runs 1 --tokens 4 --depths 0")
    assert as_run("python3 app.py bench --compare last") == "python3 app.py bench --compare last"
    assert as_run("python3 app.py models") == "python3 app.py models"
