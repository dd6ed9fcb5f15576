"""A server without file descriptors for more connections."""

import asyncio
import json
import re
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.support.faults import (
    lives,
    messages,
    own_token,
    serves_in_full,
    store,
    until_failing,
    until_only,
    until_ready,
)
from tests.support.live_sockets import socket_of, socket_url, sockets_of
from tests.support.people import bearer, insert_people
from tests.support.program import Program, environment, program

LIMIT, HARD_LIMIT = 256, 1024
NO_LIMITS = {
    "MAX_CONNECTIONS": "0",
    "MAX_CONNECTIONS_PER_USER": "0",
    "MAX_CONNECTIONS_PER_IP": "0",
    "CONNECT_RATE_PER_IP": "0",
}
UPDATE = {"type": "project_update", "data": {"projectId": "p-client", "newStatus": "review"}}
NO_ROOM = {"success": False, "error": "The server has no room for more connections; try again later"}


@pytest.fixture
async def server(tmp_path: Path, database_url: str, connection: asyncpg.Connection) -> AsyncIterator[Program]:
    """A server that may have few files open, and sets no limit of its own."""
    await insert_people(connection)
    limited = ("prlimit", f"--nofile={LIMIT}:{HARD_LIMIT}", "--")
    async with program(tmp_path, environment(database_url, **NO_LIMITS), "serve", through=limited) as running:
        await running.url()
        yield running


def new_client(http: httpx.AsyncClient) -> httpx.AsyncClient:
    """One whose connections are all new."""
    return httpx.AsyncClient(base_url=http.base_url, timeout=30)


async def metric(http: httpx.AsyncClient, name: str) -> float:
    """A measure without labels."""
    found = re.search(rf"^jasaweb_rt_{name} (\S+)$", (await http.get("/metrics")).text, re.MULTILINE)
    assert found, name
    return float(found[1])


async def take_every_place(http: httpx.AsyncClient, stack: AsyncExitStack) -> tuple[int, InvalidStatus]:
    """Opens sockets until one is refused: how many there are, and the refusal."""
    url = f"{socket_url(http)}?token={own_token('other')}"
    for count in range(LIMIT):
        try:
            await stack.enter_async_context(connect(url, ping_interval=None))
        except InvalidStatus as refusal:
            return count, refusal
    raise AssertionError("nobody was refused")


async def test_newcomers_are_turned_away_while_those_inside_are_served(
    server: Program, http: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    async with sockets_of(http, "client", "admin") as (socket, admin):
        async with AsyncExitStack() as stack:
            count, refusal = await take_every_place(http, stack)
            assert count > LIMIT // 2
            assert refusal.response.status_code == 503
            assert refusal.response.headers["Retry-After"] == "5"
            await server.line("file descriptors run short: new connections are turned away")
            assert server.output.count("file descriptors run short") < 4
            await store(connection, "client", "while there was no room")
            assert await messages(socket, 1) == ["while there was no room"]
            await admin.send(json.dumps(UPDATE))
            assert await messages(socket, 1) == ['Project "School site" status updated to review']
            async with new_client(http) as newcomer:
                answer = await newcomer.get("/api/projects", headers=bearer("client"))
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
                assert answer.json() == NO_ROOM
                assert answer.headers["connection"] == "close"
                # Who watches the server gets the true answer: the way to the application, and its way to the database,
                # can still be opened.
                await lives(newcomer)
                await until_only(newcomer, "listener")
                assert await metric(newcomer, "accepting") == 0
                assert await metric(newcomer, "connections_turned_away_total") >= 5
        await serves_in_full(http, connection)
        await server.line("new connections are let in again")
        assert await metric(http, "accepting") == 1
        async with new_client(http) as newcomer:
            await serves_in_full(newcomer, connection, "other")
    assert "Traceback" not in server.output


async def test_nothing_can_be_opened_and_then_it_can_again(
    server: Program, http: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    async with socket_of(http, "client") as socket:
        await until_ready(http)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (16, HARD_LIMIT))
        async with new_client(http) as newcomer:
            waiting = asyncio.ensure_future(newcomer.get("/api/projects", headers=bearer("client"), timeout=120))
            await until_failing(http, "listener")
            await lives(http)
            await store(connection, "client", "while nothing could be opened")
            assert await messages(socket, 1) == ["while nothing could be opened"]
            await server.line("new connections cannot be accepted, and wait until it is over")
            assert not waiting.done()
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (LIMIT, HARD_LIMIT))
            # It lay in the backlog meanwhile.
            assert (await waiting).status_code == 200
        await serves_in_full(http, connection)
        assert server.output.count("new connections cannot be accepted") < 4
    assert "Traceback" not in server.output
