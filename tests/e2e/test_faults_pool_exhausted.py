"""PostgreSQL has no connection for us: ours are all held up by somebody's lock, or others have all that there are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import connect

from jasaweb_rt.database.embedded import EmbeddedPostgres
from jasaweb_rt.database.migrations import migrate
from tests.support.faults import lives, messages, own_token, serves_in_full, store, until_only
from tests.support.live_sockets import socket_of, socket_url
from tests.support.people import bearer, insert_people
from tests.support.program import Program, environment, program
from tests.support.sockets import WAIT_SECONDS, frame

REQUESTS = 20


@pytest.fixture
async def server(tmp_path: Path, database_url: str, connection: asyncpg.Connection) -> AsyncIterator[Program]:
    """A server to which one address may make requests as fast as it likes."""
    await insert_people(connection)
    async with program(tmp_path, environment(database_url, CONNECT_RATE_PER_IP="0"), "serve") as running:
        await running.url()
        yield running


async def test_requests_behind_a_lock_are_refused_in_time_and_sockets_never_notice(
    http: httpx.AsyncClient, server: Program, connection: asyncpg.Connection, database_url: str
) -> None:
    over = asyncio.Event()
    async with socket_of(http, "client") as socket:
        blocker = await asyncpg.connect(database_url)
        try:
            await blocker.execute("begin; lock table public.projects in access exclusive mode")
            async with httpx.AsyncClient(base_url=http.base_url, timeout=120) as many:
                asked = [asyncio.ensure_future(ask_until(over, many)) for _ in range(REQUESTS)]
                await until_only(http, "database")
                await lives(http)
                await store(connection, "client", "meanwhile")
                assert await messages(socket, 1) == ["meanwhile"]
                # A token cannot be had of it now, but who has one gets in.
                async with connect(f"{socket_url(http)}?token={own_token('client')}&last_seq=0") as late:
                    assert (await frame(late))["type"] == "system_announcement"
                    assert (await frame(late))["type"] == "sync"
                    assert await messages(late, 1) == ["meanwhile"]
                await server.line("All 10 connections to PostgreSQL are in use, and none became free within 5 s")
                await server.line("PostgreSQL did not finish a request in time")
                over.set()
                answers = [answer for answers in await asyncio.gather(*asked) for answer in answers]
        finally:
            await blocker.close()
        for answer in answers:
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
            assert answer.json() == {"success": False, "error": "The database is busy; try again later"}
        assert len(answers) >= REQUESTS
        assert server.output.count("All 10 connections to PostgreSQL are in use") < 5
        assert server.output.count("PostgreSQL did not finish a request in time") < 5
        assert "Traceback" not in server.output

        await serves_in_full(http, connection)
        assert (await http.get("/api/projects", headers=bearer("client"))).json()["total"] == 1
        await store(connection, "client", "afterwards")
        assert (await messages(socket, 2))[-1] == "afterwards"


async def ask_until(over: asyncio.Event, http: httpx.AsyncClient) -> list[httpx.Response]:
    """Asks for what is locked, again and again; all answers."""
    answers = []
    while not over.is_set():
        answers.append(await http.get("/api/projects", headers=bearer("client")))
    return answers


@pytest.fixture
async def small_database(tmp_path: Path) -> AsyncIterator[str]:
    """URL of a PostgreSQL that takes 25 connections, with the people of the tests."""
    settings = {"fsync": "off", "max_connections": "25", "superuser_reserved_connections": "0"}
    server = EmbeddedPostgres(tmp_path / "small", settings=settings)
    server.start()
    try:
        await server.wait_ready()
        await migrate(server.url)
        connection = await asyncpg.connect(server.url)
        await insert_people(connection)
        await connection.close()
        yield server.url
    finally:
        await asyncio.to_thread(server.stop)


async def take_every_connection(url: str, stack: AsyncExitStack) -> list[asyncpg.Connection]:
    """Connects until PostgreSQL takes no more, and ends those of the server for it."""
    taken: list[asyncpg.Connection] = []
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                taken.append(await asyncpg.connect(url))
            except asyncpg.TooManyConnectionsError:
                if not await taken[0].fetchval(
                    """
                    select count(pg_terminate_backend(pid)) from pg_stat_activity
                    where application_name like 'jasaweb-rt%' and backend_type = 'client backend'
                    """
                ):
                    return taken
            else:
                stack.push_async_callback(taken[-1].close)


async def test_a_server_that_gets_no_connection_keeps_its_sockets_and_comes_back_by_itself(
    tmp_path: Path, small_database: str
) -> None:
    async with (
        program(tmp_path, environment(small_database, CONNECT_RATE_PER_IP="0"), "serve") as server,
        httpx.AsyncClient(base_url=await server.url(), timeout=120) as http,
        socket_of(http, "client") as socket,
    ):
        async with AsyncExitStack() as stack:
            taken = await take_every_connection(small_database, stack)
            await until_only(http, "database", "relay")
            await lives(http)
            answer = await http.get("/api/projects", headers=bearer("client"))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert answer.json()["error"] == "The database is not available; try again later"
            await store(taken[0], "client", "while it had none")
            await server.line("relay: PostgreSQL .* is not available .*; trying again")
        assert await messages(socket, 1) == ["while it had none"]
        connection = await asyncpg.connect(small_database)
        try:
            await serves_in_full(http, connection)
        finally:
            await connection.close()
        assert "too many clients already" in server.output
        assert server.output.count("relay: ") < 10
        assert "Traceback" not in server.output
