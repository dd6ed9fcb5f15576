"""Three servers behind one address are one, also where some of it dies."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from tests.support.live_sockets import socket_url
from tests.support.people import session_token
from tests.support.ports import free_port
from tests.support.program import Program, environment, python
from tests.support.sockets import WAIT_SECONDS, frame

pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]
CLIENT = "demo-client"
_INSERT = (
    "insert into public.real_time_notifications (id, user_id, type, title, message)"
    " values ($1, 'demo-client', 'user_message', $1, 'From SQL')"
)


class Cluster:
    """The program, once it says that all are ready."""

    def __init__(self, program: Program, http: httpx.AsyncClient, database_url: str) -> None:
        self.program = program
        self.http = http
        self.database_url = database_url

    def process(self, name: str) -> int:
        """Process id of a node or of a NATS server, as it was told."""
        (found,) = re.findall(rf"^ +{name} .* process (\d+)$", self.program.output, re.MULTILINE)
        return int(found)

    def address(self, name: str) -> str:
        """Where a node itself can be asked."""
        (found,) = re.findall(rf"^ +{name}  (\S+)  process", self.program.output, re.MULTILINE)
        return str(found)

    async def socket(self, last_seq: int | None = None) -> tuple[ClientConnection, int]:
        """A socket of the demo's client, and up to which `seq` it has seen."""
        headers = {"Authorization": f"Bearer {session_token(CLIENT)}"}
        answer = await self.http.post("/api/websocket/token", headers=headers)
        token = answer.raise_for_status().json()["token"]
        query = "" if last_seq is None else f"&last_seq={last_seq}"
        socket = await connect(f"{socket_url(self.http)}?token={token}{query}", ping_interval=None)
        await frame(socket)
        synced = await frame(socket)
        assert synced["type"] == "sync"
        return socket, synced["data"]["headSeq"]

    async def come_back(self, last_seq: int) -> ClientConnection:
        """A socket that goes on behind `last_seq`, as soon as the address leads to no server any more that has died."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                with contextlib.suppress(httpx.HTTPError, OSError, EOFError, websockets.WebSocketException):
                    return (await self.socket(last_seq))[0]
                await asyncio.sleep(0.05)


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    port = free_port()
    environ = environment() | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    arguments = ("-m", "tests.cluster", "--port", str(port), "--folder", str(folder / "data"))
    async with python(folder, environ, *arguments) as program:
        url = (await program.line(r"servers are one, on (http://\S+)", 150))[1]
        database_url = (await program.line(r"DATABASE_URL='?([^' ]+)"))[1]
        # Each request by a connection of its own, which goes to a node that lives.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS, limits=limits) as http:
            yield Cluster(program, http, database_url)
        assert await program.end(signal.SIGINT, 90) == 0


async def told(socket: ClientConnection) -> dict[str, Any]:
    """The next frame that says something: a node tells counts again whenever it has compared them."""
    while (seen := await frame(socket))["type"] == "read":
        pass
    return seen


async def nodes_of(connection: asyncpg.Connection, count: int) -> set[str]:
    """Ids of the nodes that have the `count` open connections."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            rows = await connection.fetch(
                "select connection_id from public.websocket_connections where status = 'active'"
            )
            if len(rows) == count:
                return {row["connection_id"].rpartition("-")[0] for row in rows}
            await asyncio.sleep(0.05)


async def announce(cluster: Cluster, sockets: list[ClientConnection], mark: str) -> None:
    """Sends directly, by whichever node, and returns once each of `sockets` has it."""
    word = {"audience": "all", "type": "system_announcement", "durable": False, "title": mark, "message": "to all"}
    answer = await cluster.http.post(
        "/api/admin/websocket/broadcast", json=word, headers={"Authorization": f"Bearer {session_token('demo-admin')}"}
    )
    assert answer.status_code == 200
    for socket in sockets:
        assert (await told(socket))["data"]["title"] == mark


async def test_a_node_and_a_nats_server_die_and_nobody_misses_anything(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running, AsyncExitStack() as stack:
        connection = await asyncpg.connect(running.database_url)
        stack.push_async_callback(connection.close)
        opened = [await running.socket() for _ in range(6)]
        devices = [socket for socket, _ in opened]
        (last,) = {head for _, head in opened}
        assert len(await nodes_of(connection, 6)) == 3
        await announce(running, devices, "direct")
        for victim in ("", "nats-2", "node-1"):
            if victim:
                os.kill(running.process(victim), signal.SIGKILL)
            await connection.execute(_INSERT, f"behind {victim}")
            for place in range(len(devices)):
                while True:
                    try:
                        seen = await told(devices[place])
                        break
                    except websockets.ConnectionClosed:
                        devices[place] = await running.come_back(last)
                assert (seen["data"]["title"], seen["seq"]) == (f"behind {victim}", last + 1)
            last += 1
        await running.program.line(r"^node-1 \| ended with .*; it is started again")
        await running.program.line(r"^nats-2 \| ended; it is started again")
        await ready(running.address("node-1"))
        await gather_closes(devices)


async def ready(url: str) -> None:
    """Returns once the server at `url` is ready."""
    async with asyncio.timeout(WAIT_SECONDS), httpx.AsyncClient(base_url=url) as http:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await http.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


async def gather_closes(sockets: list[ClientConnection]) -> None:
    await asyncio.gather(*(socket.close() for socket in sockets))
