"""Who may talk to the server: names, origins, keys and sizes, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.server.running import RunningServer, running_server
from webui.errors import InvalidSetting
from webui.security import PAGE_HEADERS, KnownHosts, host_name
from webui.settings.exposure import check_exposure, is_loopback

shared_loop = pytest.mark.asyncio(loop_scope="module")
KEY = "a secret kéy"
BEARER = {"authorization": b"Bearer " + KEY.encode()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    home = tmp_path_factory.mktemp("guarded")
    async with running_server(
        home, server__api_key=KEY, server__allowed_hosts="models.example, Other.Example"
    ) as running:
        yield running


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost:7860", "LOCALHOST", "[::1]:80", "models.example", "other.example:1"]
)
@shared_loop
async def test_our_names_are_answered(server: RunningServer, name: str) -> None:
    assert (await server.client.get("/health", headers={"host": name})).status_code == 200


@pytest.mark.parametrize(
    "name", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.5", "", "[", "a:b:c"]
)
@shared_loop
async def test_other_names_are_refused(server: RunningServer, name: str) -> None:
    response = await server.client.get("/health", headers={"host": name})
    assert response.status_code in (400, 403)
    if response.status_code == 403:
        assert response.json()["error"]["code"] == "access_denied"


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"origin": "{url}"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"origin": "https://models.example"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "http://localhost:1"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://["}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
    ],
)
@shared_loop
async def test_a_change_comes_from_our_own_page_or_from_none(
    server: RunningServer, headers: dict[str, str], allowed: bool
) -> None:
    sent = {name: value.format(url=server.url) for name, value in headers.items()}
    body = {"messages": [{"role": "user", "content": "x"}]}
    response = await server.client.post("/v1/chat/completions", json=body, headers={**sent, **BEARER})  # type: ignore[dict-item]
    assert (response.status_code == 200) is allowed, response.text
    assert (await server.client.get("/health", headers=sent)).status_code == 200, "reading is harmless"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic " + KEY.encode().hex()}, 401),
        ({"x-api-key": ""}, 401),
        (BEARER, 200),
        ({"authorization": b"bearer " + KEY.encode()}, 200),
        ({"x-api-key": KEY.encode()}, 200),
    ],
)
@shared_loop
async def test_the_api_asks_for_the_key(server: RunningServer, headers: dict[str, str], status: int) -> None:
    response = await server.client.get("/v1/models", headers=headers)
    assert response.status_code == status
    if status == 401:
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["type"] == "authentication_error"
        assert KEY not in response.text


@shared_loop
async def test_what_the_key_guards(server: RunningServer) -> None:
    assert (await server.client.get("/extensions/any/thing")).status_code == 401
    assert (await server.client.get("/v1")).status_code == 401
    assert (await server.client.get("/health")).status_code == 200


@shared_loop
async def test_a_body_beyond_the_bound_is_refused(server: RunningServer) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b" " * (1 << 20)

    headers = {**BEARER, "content-type": "application/json"}
    streamed = await server.client.post("/v1/chat/completions", content=endless(), headers=headers)  # type: ignore[arg-type]
    assert (streamed.status_code, streamed.json()["error"]["type"]) == (413, "invalid_request_error")
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
    assert b" 413 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


@shared_loop
async def test_every_answer_carries_the_headers(server: RunningServer) -> None:
    for path in ("/health", "/v1/models"):
        response = await server.client.get(path)
        for name, value in PAGE_HEADERS.items():
            assert response.headers[name] == value
    assert "http" not in PAGE_HEADERS["content-security-policy"].replace("https:", "http:")


def test_loopback_is_recognised() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "[::1]"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.1", "example.org", ""))


def test_beyond_loopback_addresses_are_names_of_ours_and_foreign_names_are_not() -> None:
    hosts = KnownHosts("0.0.0.0")
    assert hosts.knows("192.168.1.5:7860")
    assert hosts.knows("[fe80::1]:7860")
    assert not hosts.knows("evil.example")
    assert not KnownHosts("127.0.0.1").knows("192.168.1.5")
    hosts.add("Public.Example")
    assert hosts.knows("public.example")


@pytest.mark.parametrize(
    ("header", "name"), [("A.b:1", "a.b"), ("[::1]:7860", "::1"), ("a.", "a"), ("", ""), ("[", ""), ("u@evil", "evil")]
)
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    assert host_name(header) == name


def test_nothing_is_exposed_without_login_and_key() -> None:
    check_exposure("127.0.0.1", share=False, auth="", api_key="")
    check_exposure("0.0.0.0", share=True, auth="u:p", api_key="k")
    with pytest.raises(InvalidSetting, match=r"--auth user:password and --api-key KEY are needed"):
        check_exposure("0.0.0.0", share=False, auth="", api_key="")
    with pytest.raises(InvalidSetting, match=r"--share.*--api-key KEY is needed"):
        check_exposure("127.0.0.1", share=True, auth="u:p", api_key="")
