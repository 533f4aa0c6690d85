"""The whole server with the page, and its beginning and end as a process."""

from __future__ import annotations

import errno
import gzip
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.app_process import running_app
from tests.builders.gguf import tiny_llama_spm
from tests.server.running import RunningServer, running_server
from webui import server as server_room
from webui.context import AppContext
from webui.errors import InvalidSetting
from webui.paths import Paths
from webui.security import KnownHosts
from webui.server import bind, create_api, share, somebody_looks
from webui.settings import Settings

shared_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    home = tmp_path_factory.mktemp("paged")
    async with running_server(home, page=True, server__auth="me:pass word") as running:
        yield running


@shared_loop
async def test_the_page_asks_for_the_login(server: RunningServer) -> None:
    page = await server.client.get("/")
    assert page.status_code == 200
    assert '"auth_required": true' in page.text or '"auth_required":true' in page.text
    assert (await server.client.get("/config")).status_code == 401
    wrong = await server.client.post("/login", data={"username": "me", "password": "no"})
    assert wrong.status_code == 400
    async with httpx.AsyncClient(base_url=server.url, timeout=30, trust_env=False) as client:
        right = await client.post("/login", data={"username": "me", "password": "pass word"})
        assert right.status_code == 200
        assert (await client.get("/config")).status_code == 200
        blocked = server.context.paths.home / "chats" / "chats.sqlite3"
        assert blocked.exists()
        assert (await client.get(f"/gradio_api/file={blocked}")).status_code == 403


@shared_loop
async def test_the_page_is_compressed_and_the_api_is_beside_it(server: RunningServer) -> None:
    async with server.client.stream("GET", "/", headers={"accept-encoding": "gzip"}) as response:
        assert response.headers["content-encoding"] == "gzip"
        raw = b"".join([part async for part in response.aiter_raw()])
    assert b"gradio_config" in gzip.decompress(raw)
    assert (await server.client.get("/health")).json()["loader"] == "toy"
    assert (await server.chat("hello")).json()["choices"][0]["message"]["content"].startswith("[user] hello")
    assert (await server.client.get("/v1/nothing")).json()["error"]["code"] == "not_found"


@shared_loop
async def test_an_exposed_server_is_not_built(tmp_path: Path) -> None:
    settings = Settings.load(Paths(tmp_path), environment={}, command_line={"server.host": "0.0.0.0"})
    context = AppContext.create(Paths(tmp_path), settings, loaders={})
    with pytest.raises(InvalidSetting, match="--auth"):
        create_api(context)
    await context.close()


def test_a_taken_port_is_one_sentence_with_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSetting, match=f"Port {port} is in use") as caught:
            bind("127.0.0.1", port)
    free = int(caught.value.hint.split("--port ")[1].split(".")[0])
    assert free != port
    bind("127.0.0.1", free).close()


def test_a_host_that_is_not_here_is_one_sentence() -> None:
    with pytest.raises(InvalidSetting, match="not an address"):
        bind("no such host", 0)
    with pytest.raises(InvalidSetting, match="cannot listen"):
        bind("192.0.2.1", 0)


def test_a_port_of_the_system_s_is_one_sentence() -> None:
    error = server_room._cannot_bind("127.0.0.1", 80, OSError(errno.EACCES, "denied"))
    assert error.message == "Port 80 may not be used by this user."


@shared_loop
async def test_a_failed_public_address_is_explained_and_nothing_else_happens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gradio import networking

    def refuse(*args: object) -> str:
        raise RuntimeError("no network")

    monkeypatch.setattr(networking, "setup_tunnel", refuse)
    await share(1, KnownHosts("127.0.0.1"))
    assert "no network" in capsys.readouterr().err


@shared_loop
async def test_a_public_address_becomes_a_name_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gradio import networking

    monkeypatch.setattr(networking, "setup_tunnel", lambda *args: "https://abc.gradio.live")
    hosts = KnownHosts("127.0.0.1")
    await share(1, hosts)
    assert hosts.knows("abc.gradio.live")
    assert "https://abc.gradio.live" in capsys.readouterr().out


def test_a_signal_ends_the_server_in_order(tmp_path: Path) -> None:
    model = tiny_llama_spm(tmp_path / "tiny.gguf")
    with running_app(tmp_path / "home", [model]) as app:
        app.wait_for("ready")
        children = app.workers()
        assert children
        # An open page's event stream must not hold the end up.
        with httpx.stream("GET", f"{app.url}/gradio_api/heartbeat/x", timeout=30) as page:
            assert page.status_code == 200
            app.process.send_signal(signal.SIGTERM)
            assert app.process.wait(timeout=30) == 0
        assert not [child for child in children if child.is_running()]
        output = app.log.read_text()
        assert "Traceback" not in output
        assert "ASGI" not in output


@pytest.mark.parametrize(
    ("terminal", "environment", "platform", "expected"),
    [
        (True, {"DISPLAY": ":0"}, "linux", True),
        (True, {"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        (True, {}, "linux", False),  # a text browser would take the terminal over
        (True, {}, "darwin", True),
        (True, {}, "win32", True),
        (True, {"SSH_CONNECTION": "10.0.0.1", "DISPLAY": ":0"}, "linux", False),
        (False, {"DISPLAY": ":0"}, "linux", False),
    ],
)
def test_a_browser_is_opened_only_where_somebody_looks(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, environment: dict[str, str], platform: str, expected: bool
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert somebody_looks(terminal, environment) is expected
