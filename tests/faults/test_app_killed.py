"""The app ended in every way there is: nothing may be left behind."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import httpx
import psutil
import pytest

from tests.app_process import AppProcess, running_app

pytestmark = [pytest.mark.engine, pytest.mark.skipif(sys.platform == "win32", reason="the signals are of POSIX")]
LONG = {
    "messages": [{"role": "user", "content": "Tell a very long story about a fox and a bear in the forest."}],
    "max_tokens": 400,
    "temperature": 0,
}


def ask_in_background(app: AppProcess) -> threading.Thread:
    def ask() -> None:
        try:
            httpx.post(f"{app.url}/v1/chat/completions", json=LONG, timeout=60)
        except httpx.TransportError:
            return  # the app was killed in the middle of it: that is the test

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_no_worker_is_left_two_seconds_after_the_app_ends(tmp_path: Path, starter_model: Path, how: int) -> None:
    with running_app(tmp_path, [starter_model]) as app:
        app.wait_for("ready")
        thread = ask_in_background(app)
        while app.health()["queue"]["running"] == 0:
            pass
        workers = app.workers()
        assert workers
        app.process.send_signal(how)
        app.process.wait(timeout=30)
        thread.join()
        _gone, alive = psutil.wait_procs(workers, timeout=2)
        assert alive == []


def test_a_worker_killed_in_mid_reply_is_named_and_replaced(tmp_path: Path, starter_model: Path) -> None:
    with running_app(tmp_path, [starter_model]) as app:
        app.wait_for("ready")
        pieces: list[str] = []
        with httpx.stream("POST", f"{app.url}/v1/chat/completions", json={**LONG, "stream": True}, timeout=60) as reply:
            for line in reply.iter_lines():
                pieces.append(line)
                if len(pieces) == 8:
                    app.workers()[0].send_signal(signal.SIGKILL)
        text = "\n".join(pieces)
        assert '"content"' in text
        assert "SIGKILL" in text
        after = httpx.post(
            f"{app.url}/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8},
            timeout=60,
        )
        assert after.status_code == 200
        assert after.json()["choices"][0]["message"]["content"]
