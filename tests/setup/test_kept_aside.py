"""Putting aside what an installation may change takes long for large packages: the app goes on, and may cancel it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import pytest

from webui.setup import installing


async def test_the_app_goes_on_meanwhile_and_a_cancel_undoes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, undone = threading.Event(), list[object]()
    monkeypatch.setattr(installing, "_keep", lambda plan, *, usable: go_on.wait(30))
    monkeypatch.setattr(installing, "_undo", lambda kept, *, at_once: undone.append(kept))
    plan = cast("Any", None)
    task = asyncio.create_task(installing._kept_aside(plan, usable=True))
    await asyncio.sleep(0)
    go_on.set()
    assert cast("Any", await task) is True
    go_on.clear()
    task = asyncio.create_task(installing._kept_aside(plan, usable=True))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undone == [True]
