"""What the samples share: one server with its model loaded, and a desk for each page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.app_process import AppProcess, running_app
from tests.docs.desk import SHOWN_ADDRESS, Desk
from tests.docs.prepared import PREPARED
from tests.docs.samples import Sample

DeskOf = Callable[[str], Desk]
AddressFor = Callable[[list[Sample]], str]


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory, starter_model: Path) -> Iterator[AppProcess]:
    """The app as `python3 app.py` starts it, on a port of its own."""
    with running_app(tmp_path_factory.mktemp("server-home"), [starter_model]) as process:
        process.wait_for("ready")
        yield process


@pytest.fixture(scope="package")
def desk_of(tmp_path_factory: pytest.TempPathFactory, starter_model: Path) -> DeskOf:
    """Page → its desk; made when it is first asked for."""
    desks: dict[str, Desk] = {}

    def desk(page: str) -> Desk:
        if page not in desks:
            before = next(reversed(desks.values()), None)
            desks[page] = Desk(tmp_path_factory.mktemp("desk"))
            desks[page].prepare(starter_model, before.home / "cache" if before else None)
            PREPARED.get(page, lambda person: None)(desks[page].person)
        return desks[page]

    return desk


@pytest.fixture
def address_for(request: pytest.FixtureRequest) -> AddressFor:
    """The address that stands for the shown one; the server is started where a sample asks one."""

    def address(samples: list[Sample]) -> str:
        if not any(SHOWN_ADDRESS in sample.text for sample in samples):
            return SHOWN_ADDRESS
        process: AppProcess = request.getfixturevalue("server")
        return process.url.removeprefix("http://")

    return address
