"""Connections that make the server hold as much for them as they can, and a server that the system kills for memory."""

import asyncio
import random
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import connect

from tests.support.faults import lives, messages, own_token, rows_are_right, serves_in_full, store, until_ready
from tests.support.hoarders import COMPRESSED, CONTINUATION, FIN, TEXT, Hoarder, deflated
from tests.support.live_sockets import socket_of, socket_url
from tests.support.people import bearer, insert_people
from tests.support.ports import free_port
from tests.support.program import Program, environment, program
from tests.support.sockets import WAIT_SECONDS

QUEUE, MESSAGE = 128 * 1024, 16 * 1024
BOUND = QUEUE + 4 * MESSAGE + 64 * 1024
"""What docs/faults.md says that a connection may hold."""
NEVER_READ, FRAGMENTS, GATHERED, CLAIMS = 80, 40, 40, 40
ALL = NEVER_READ + FRAGMENTS + GATHERED + CLAIMS
SLACK = 64 * 1024 * 1024
"""For what has nothing to do with single connections: pages of the database in Python, the allocator's own."""
SETTINGS = {
    "SEND_QUEUE_BYTES": str(QUEUE),
    "MAX_MESSAGE_BYTES": str(MESSAGE),
    "MAX_CONNECTIONS_PER_USER": "0",
    "MAX_CONNECTIONS_PER_IP": "0",
    "CONNECT_RATE_PER_IP": "0",
    "MESSAGE_RATE": "0",
    # Who takes nothing would be closed for that.
    "PING_INTERVAL": "3600",
    "PONG_TIMEOUT": "3600",
}


@pytest.fixture
async def server(tmp_path: Path, database_url: str, connection: asyncpg.Connection) -> AsyncIterator[Program]:
    """A server with small limits for a connection, and none for how many there are."""
    await insert_people(connection)
    async with program(tmp_path, environment(database_url, **SETTINGS), "serve") as running:
        await running.url()
        yield running


def memory(pid: int, name: str) -> int:
    """A measure of a process's memory in bytes: `VmRSS` as it is, `VmHWM` the most that it ever was."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def target(user_id: str, query: str = "") -> str:
    """Where a socket of that user is asked for."""
    return f"/ws?token={own_token(user_id)}{query}"


@contextmanager
def closing(hoarders: list[Hoarder]) -> Iterator[None]:
    """Closes all of them in the end."""
    try:
        yield
    finally:
        for hoarder in hoarders:
            hoarder.close()


async def queued(http: httpx.AsyncClient, user_id: str) -> list[int]:
    """How many bytes wait for each connection of that user."""
    answer = await http.get(
        "/api/admin/websocket/connections", params={"userId": user_id, "limit": 500}, headers=bearer("admin")
    )
    assert answer.status_code == 200, answer.text
    return [connection["queuedBytes"] for connection in answer.json()["items"]]


async def test_200_that_hoard_stay_within_the_bound_and_nobody_else_notices(
    server: Program, http: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    # A replay that is more than the kernel takes of it (some 3 MB): 400 times 16 KB.
    await connection.execute(
        """
        insert into public.real_time_notifications (id, user_id, type, title, message, data)
        select gen_random_uuid()::text, 'client', 'user_message', 't', 'm', jsonb_build_object('x', repeat('x', 16000))
        from generate_series(1, 400)
        """
    )
    await rows_are_right(connection)
    url = http.base_url
    hoarders: list[Hoarder] = []
    async with socket_of(http, "other") as honest:
        await store(connection, "other", "before")
        assert await messages(honest, 1) == ["before"]
        before = memory(server.pid, "VmRSS")
        with closing(hoarders):
            while len(hoarders) < NEVER_READ:
                hoarders.append(await Hoarder.open(url, target("client", "&last_seq=0"), compression=False))
            while len(hoarders) < ALL:
                hoarders.append(await Hoarder.open(url, target("second-admin")))
            others = iter(hoarders[NEVER_READ:])
            noise = random.Random(6).randbytes(MESSAGE)  # noqa: S311  # does not shrink
            for _ in range(FRAGMENTS):
                hoarder = next(others)
                await hoarder.send(TEXT, b"x" * (MESSAGE // 2))
                await hoarder.send(CONTINUATION, b"x" * (MESSAGE // 2))
            for _ in range(GATHERED):
                hoarder = next(others)
                await hoarder.send(TEXT | COMPRESSED, noise[: MESSAGE // 2])
                await hoarder.send(CONTINUATION, noise[MESSAGE // 2 :])
            for _ in range(CLAIMS):
                await next(others).send(FIN | TEXT, b"x", claims=MESSAGE)
            async with asyncio.timeout(2 * WAIT_SECONDS):
                # None of them takes any more of its replay.
                while min(waiting := await queued(http, "client")) == 0 or len(waiting) < NEVER_READ:
                    await asyncio.sleep(0.1)
            assert max(waiting) <= QUEUE
            await store(connection, "other", "meanwhile")
            assert await messages(honest, 1) == ["meanwhile"]
            assert memory(server.pid, "VmHWM") - before < ALL * BOUND + SLACK
            await until_ready(http)
            await too_much_is_refused(http)
        await serves_in_full(http, connection, "other")
    assert "Traceback" not in server.output


async def too_much_is_refused(http: httpx.AsyncClient) -> None:
    """What would be more than a message may have ends its connection with 1009, however it is sent."""
    for parts in (
        [(TEXT, b"x" * MESSAGE), (CONTINUATION, b"x")],
        [(FIN | TEXT | COMPRESSED, deflated(bytes(64 * 1024 * 1024))[:MESSAGE])],
        [(FIN | TEXT | COMPRESSED, deflated(b" " * (8 * MESSAGE)))],
    ):
        one = await Hoarder.open(http.base_url, target("second-admin"))
        with closing([one]):
            for first_byte, payload in parts:
                await one.send(first_byte, payload)
            assert b"\x03\xf1" in (await one.end())[-64:]


async def test_a_server_that_is_killed_for_memory_loses_nothing(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await insert_people(connection)
    port = free_port()
    environ = environment(database_url, PORT=str(port))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        async with program(tmp_path, environ, "serve") as server:
            await server.url()
            await until_ready(http)
            async with socket_of(http, "client") as socket:
                await store(connection, "client", "before")
                assert await messages(socket, 1) == ["before"]
                # As the kernel does it where memory is short: nothing of the process runs any more.
                assert await server.end(signal.SIGKILL) == -signal.SIGKILL
        await store(connection, "client", "while it was away")
        async with program(tmp_path, environ, "serve") as server:
            await server.url()
            await lives(http)
            async with connect(f"{socket_url(http)}?token={own_token('client')}&last_seq=1") as socket:
                assert await messages(socket, 1) == ["while it was away"]
            await serves_in_full(http, connection)
            await rows_are_right(connection)
