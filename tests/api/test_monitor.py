"""The page's requests for what the machine is doing: its key is needed, and only what is new is told."""

from __future__ import annotations

import time
from pathlib import Path

from starlette.testclient import TestClient

from tests.loaders import toy
from webui.api.page import window_of
from webui.context import AppContext
from webui.hardware.monitor import Window
from webui.hardware.sampling import GpuSample, Sample
from webui.paths import Paths
from webui.server import create_api
from webui.settings import Settings


def opened(home: Path) -> AppContext:
    loaders = {toy.SPEC.name: toy.SPEC}
    paths = Paths(home).ensure()
    return AppContext.create(paths, Settings.load(paths, environment={}, loaders=loaders), loaders=loaders)


def test_samples_come_in_numbered_pieces(tmp_path: Path) -> None:
    context = opened(tmp_path)
    with TestClient(create_api(context), base_url="http://127.0.0.1:7860") as client:
        assert client.get("/page/monitor/wrong").status_code == 404
        assert not context.monitor.running
        place = f"/page/monitor/{context.page_key}"
        deadline = time.monotonic() + 30
        told = client.get(place).json()
        assert told["facts"]["memory"] > 0
        while not told["rows"]:
            assert time.monotonic() < deadline
            told = client.get(place).json()
        assert context.monitor.running
        rest = client.get(place, params={"since": told["first"] + len(told["rows"])}).json()
        assert "facts" not in rest
        assert rest["epoch"] == told["epoch"]
        assert len(rest["rows"]) <= 2
        at, _, used, _, worker, speed, gpus = told["rows"][0]
        assert abs(at - time.time()) < 60
        assert used > 0 and (worker, speed) == (0, 0.0)
        assert len(gpus) == len(told["facts"]["gpus"])
    assert not context.monitor.running


def test_the_order_of_the_figures_is_the_script_s() -> None:
    gpu = GpuSample(use=1.0, memory_used=2, temperature=3.0, power=4.0, worker_memory=5)
    sample = Sample(at=9.04, cpu=1.0, memory_used=2, worker_cpu=3.0, worker_memory=4, gpus=(gpu,), speed=5.0)
    told = window_of(Window("abc", 7, (sample,)))
    assert told == {"epoch": "abc", "first": 7, "rows": [[9.0, 1.0, 2, 3.0, 4, 5.0, [[1.0, 2, 3.0, 4.0, 5]]]]}
