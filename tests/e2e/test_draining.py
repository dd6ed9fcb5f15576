"""How a server ends: readiness first, then the sockets; and how another one takes its port over."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.support.databases import add_users
from tests.support.live_sockets import connection_token
from tests.support.nats_server import nats_server
from tests.support.ports import free_port
from tests.support.program import Program, environment, program, run
from tests.support.roamers import roaming, write_for_ever
from tests.support.sockets import until

USERS = [f"user-{number}" for number in range(20)]
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@asynccontextmanager
async def silent_socket(http: httpx.AsyncClient) -> AsyncIterator[None]:
    """A WebSocket whose client never says anything, nor reads."""
    token = await connection_token(http, "client")
    reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    try:
        fields = "".join(f"{name}: {value}\r\n" for name, value in UPGRADE.items())
        writer.write(f"GET /ws?token={token} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode())
        async with asyncio.timeout(30):
            assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
        yield
    finally:
        writer.transport.abort()


async def test_who_watches_readiness_hears_of_a_stop_before_the_port_is_closed(
    server: Program, http: httpx.AsyncClient
) -> None:
    # It does not answer its Close, which keeps the drain waiting.
    async with silent_socket(http):
        for _ in range(4):
            assert (await http.get("/readyz")).status_code == 200
        server.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            while (response := await http.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.02)
        assert response.status_code == 503
        assert response.json()["checks"]["draining"] is True
        refused = await http.get("/ws", headers=UPGRADE)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert await server.end() == 0


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[list[int]]:
    """Asks for `/healthz` again and again, each time by a new connection; the answers."""
    statuses: list[int] = []

    async def ask() -> None:
        while True:
            async with httpx.AsyncClient(timeout=30) as http:
                try:
                    statuses.append((await http.get(f"{url}/healthz")).status_code)
                except (httpx.ReadError, httpx.RemoteProtocolError):
                    # The kernel resets what comes in the very moment at which a port is closed; browsers try again.
                    statuses.append((await http.get(f"{url}/healthz")).status_code)

    task = asyncio.ensure_future(ask())
    try:
        yield statuses
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.timeout(400)
async def test_a_successor_takes_the_port_over_while_the_server_before_drains(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await add_users(connection, *((user_id, "client") for user_id in USERS))
    port = free_port()
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(nats_server(tmp_path))
        settings = {"NATS_URL": nats.url, "MAX_CONNECTIONS_PER_IP": "0", "CONNECT_RATE_PER_IP": "0"}
        environ = environment(database_url, PORT=str(port), **settings)
        first = await stack.enter_async_context(program(tmp_path, environ, "serve"))
        url = await first.url()
        code, output = await run(tmp_path, environ, "serve")
        assert (code, f"Cannot listen on 127.0.0.1 port {port}" in output) == (2, True), output
        clients = await stack.enter_async_context(roaming(USERS, f"ws://127.0.0.1:{port}/ws"))
        await until(lambda: all(client.joined for client in clients))
        writing = asyncio.ensure_future(write_for_ever(database_url, USERS))
        try:
            async with asking(url) as statuses:
                await until(lambda: statuses)
                second = await stack.enter_async_context(program(tmp_path, environ, "serve", "--take-over"))
                await second.url()
                assert await first.end(signal.SIGTERM) == 0, first.output
                asked = len(statuses)
                await until(lambda: all(client.joined >= 2 for client in clients) and len(statuses) > asked)
        finally:
            writing.cancel()
            await asyncio.wait([writing])
        heads = dict(await connection.fetch("select user_id, head_seq from jasaweb_rt.counters"))
        await until(lambda: all(len(client.seen) >= heads[client.user_id] for client in clients))
        for client in clients:
            assert client.seen == list(range(1, heads[client.user_id] + 1))
        assert set(statuses) == {200}
        assert await second.end(signal.SIGTERM) == 0, second.output


async def test_what_cannot_be_taken_over_is_said(tmp_path: Path, database_url: str) -> None:
    for settings, sentence in [
        (environment(database_url), "--take-over needs the port of the server before"),
        (environment(PORT=str(free_port())), "--take-over needs DATABASE_URL"),
    ]:
        code, output = await run(tmp_path, settings, "serve", "--take-over")
        assert code == 2
        assert sentence in output


async def test_a_supervisor_is_told_of_begin_and_end(tmp_path: Path, database_url: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.setblocking(False)
        environ = environment(database_url) | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        async with program(tmp_path, environ, "serve") as server, asyncio.timeout(60):
            loop = asyncio.get_running_loop()
            assert await loop.sock_recv(supervisor, 100) == b"READY=1"
            await server.url()
            server.send_signal(signal.SIGTERM)
            assert await loop.sock_recv(supervisor, 100) == b"STOPPING=1"
            assert await server.end() == 0


def is_running(pid: int) -> bool:
    """Whether the process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def roll(folder: Path, environ: dict[str, str]) -> int:
    """Runs `roll.sh`; the process that serves from then on."""
    script = Path(__file__).parents[2] / "deploy" / "roll.sh"
    program = await asyncio.create_subprocess_exec(
        str(script), str(folder / "pid"), str(folder / "log"), cwd=folder, env=environ, stdin=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(90):
        assert await program.wait() == 0
    return int((folder / "pid").read_text())


@pytest.mark.timeout(400)
async def test_the_script_starts_a_server_and_then_replaces_it(tmp_path: Path, database_url: str) -> None:
    port = free_port()
    programs = str(Path(sys.executable).parent)
    environ = environment(database_url, PORT=str(port))
    environ["PATH"] = f"{programs}{os.pathsep}{environ['PATH']}"
    pids = []
    try:
        for _ in range(3):
            pids.append(await roll(tmp_path, environ))
            await until(lambda: not any(map(is_running, pids[:-1])), "the end of the server before")
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
                assert (await http.get("/healthz")).status_code == 200
        assert len(set(pids)) == 3
    finally:
        for pid in filter(is_running, pids):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not any(map(is_running, pids)))
