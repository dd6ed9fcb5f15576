"""A whole server behind nginx and behind Caddy, with the files of `deploy/`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.certificates import CertificateFiles
from tests.support.people import bearer, insert_people
from tests.support.ports import free_port
from tests.support.program import environment, program
from tests.support.proxies import Proxy, caddy, nginx
from tests.support.sockets import WAIT_SECONDS, closed, frame

_INSERT = (
    "insert into public.real_time_notifications (id, user_id, type, title, message)"
    " values ($1, 'client', 'user_message', $1, 'From SQL')"
)
ELSEWHERE = "127.0.0.2"
"""Address of a client that is not the proxy's."""

Before = Callable[[Path, int], AbstractAsyncContextManager[Proxy]]
both = pytest.mark.parametrize("before", [nginx, caddy], ids=["nginx", "caddy"])


@asynccontextmanager
async def behind(before: Before, folder: Path, database_url: str, **settings: str) -> AsyncIterator[Proxy]:
    """A proxy before a server that trusts it and wants TLS as a public one does; `settings` of that server."""
    (folder / "server").mkdir()
    (folder / "proxy").mkdir()
    port = free_port()
    environ = environment(
        database_url,
        PORT=str(port),
        TRUSTED_PROXIES="127.0.0.1",
        REQUIRE_TLS="true",
        METRICS_NETWORKS=f"{ELSEWHERE}/32",
        PING_INTERVAL="0.2",
        **settings,
    )
    async with program(folder / "server", environ, "serve") as server:
        await server.url()
        async with before(folder / "proxy", port) as proxy:
            yield proxy


@asynccontextmanager
async def http_of(proxy: Proxy) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(local_address=ELSEWHERE, verify=proxy.tls)
    async with httpx.AsyncClient(base_url=proxy.url, timeout=WAIT_SECONDS, transport=transport) as client:
        yield client


async def open_socket(http: httpx.AsyncClient, proxy: Proxy, query: str = "", **headers: str) -> ClientConnection:
    """A socket of `client` from `ELSEWHERE`, whose welcome was read."""
    issued = (await http.post("/api/websocket/token", headers=bearer("client"))).json()
    assert issued["connectionUrl"] == f"wss://localhost:{proxy.port}/ws"
    socket = await connect(
        f"{issued['connectionUrl']}?token={issued['token']}{query}",
        ssl=proxy.tls,
        host="127.0.0.1",
        local_addr=(ELSEWHERE, 0),
        additional_headers=headers,
        ping_interval=None,
    )
    assert (await frame(socket))["type"] == "system_announcement"
    return socket


async def synced(socket: ClientConnection) -> dict[str, Any]:
    answer = await frame(socket)
    assert answer["type"] == "sync"
    return answer


@both
async def test_a_socket_and_pages_through_a_proxy(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection, before: Before
) -> None:
    await insert_people(connection)
    async with behind(before, tmp_path, database_url) as proxy, http_of(proxy) as http:
        page = await http.get("/login")
        assert page.status_code == 200
        assert "; Secure" in page.headers["set-cookie"]  # by the proxy's word it came over https
        # The metrics are for the client's own address, which the proxy tells.
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.get("/ws")).status_code == 426
        assert (await http.post("/api/websocket/token")).status_code == 401
        # What a client says of where it is counts for nothing.
        claims = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
        async with await open_socket(http, proxy, **claims) as socket:
            await synced(socket)
            await connection.execute(_INSERT, "first")
            assert (await frame(socket))["data"]["title"] == "first"
            assert await rows(connection) == [(ELSEWHERE, "active")]


async def rows(connection: asyncpg.Connection) -> list[tuple[str, str]]:
    """Address and status of each connection, once there is one."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not (found := await connection.fetch("select client_ip, status from public.websocket_connections")):
            await asyncio.sleep(0.02)
    return [(row["client_ip"], row["status"]) for row in found]


async def test_nginx_is_reloaded_and_the_socket_stays(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await insert_people(connection)
    async with (
        behind(nginx, tmp_path, database_url) as proxy,
        http_of(proxy) as http,
        await open_socket(http, proxy) as socket,
    ):
        await synced(socket)
        await proxy.tell("-s", "reload")
        await connection.execute(_INSERT, "behind a reload")
        assert (await frame(socket))["data"]["title"] == "behind a reload"


async def test_nginx_speaks_tls_to_the_server(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await insert_people(connection)
    files = CertificateFiles(tmp_path)
    before = partial(nginx, certificate=files.cert)
    async with (
        behind(before, tmp_path, database_url, TLS_CERT=str(files.cert), TLS_KEY=str(files.key)) as proxy,
        http_of(proxy) as http,
        await open_socket(http, proxy) as socket,
    ):
        await synced(socket)
        await connection.execute(_INSERT, "twice encrypted")
        assert (await frame(socket))["data"]["title"] == "twice encrypted"
        assert await rows(connection) == [(ELSEWHERE, "active")]


async def test_caddy_is_reloaded_and_who_was_closed_resumes(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    """Caddy ends the upgraded connections of a configuration that is replaced."""
    await insert_people(connection)
    async with behind(caddy, tmp_path, database_url) as proxy, http_of(proxy) as http:
        socket = await open_socket(http, proxy)
        last = (await synced(socket))["data"]["headSeq"]
        again = ("--force", "--adapter", "caddyfile", "--config", str(proxy.folder / "Caddyfile"))
        await proxy.tell("reload", *again)
        await closed(socket)
        await connection.execute(_INSERT, "behind a reload")
        async with await open_socket(http, proxy, f"&last_seq={last}") as socket:
            await synced(socket)
            assert (await frame(socket))["data"]["title"] == "behind a reload"
