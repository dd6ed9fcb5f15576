"""A full disk: under the embedded PostgreSQL, under a start, and behind the log."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.faults import lives, messages, rows_are_right, serves_in_full, store, until_failing, until_ready
from tests.support.live_sockets import nothing_waits, socket_of
from tests.support.people import bearer, insert_people
from tests.support.ports import free_port
from tests.support.program import START_SECONDS, Program, environment, program, run
from tests.support.small_disk import SmallDisk, fill
from tests.support.sockets import WAIT_SECONDS, frame

FULL = {"success": False, "error": "The database has no room left; try again later"}
MANY = 5_000
"""More messages than fit into the room that PostgreSQL has in its files."""


@pytest.fixture
def disk(data_dir: Path) -> SmallDisk:
    """A disk for the data directory, with room for an embedded PostgreSQL and little more."""
    data_dir.mkdir()
    return SmallDisk(data_dir, megabytes=224)


@pytest.fixture
async def server(tmp_path: Path, disk: SmallDisk) -> AsyncIterator[Program]:
    """A server with its embedded PostgreSQL on that disk, and the people of the tests."""
    environ = environment(CONNECT_RATE_PER_IP="0")
    async with program(tmp_path, environ, "serve", through=disk.through) as running:
        await running.url()
        connection = await asyncpg.connect(database_url(disk, running))
        await insert_people(connection)
        await connection.close()
        yield running


def database_url(disk: SmallDisk, server: Program) -> str:
    """URL of the embedded PostgreSQL, whose socket lies elsewhere."""
    return (disk.of(server.pid) / "postgres.url").read_text().strip()


async def received(socket: ClientConnection, count: int) -> list[str]:
    """The contents of the next `count` messages; other frames are passed over."""
    contents: list[str] = []
    while len(contents) < count:
        told = await frame(socket)
        if told["type"] == "user_message":
            contents.append(told["data"].get("content", told["data"]["message"]))
    return contents


async def send(http: httpx.AsyncClient, content: str) -> httpx.Response:
    """A message of the client to an administrator, by HTTP; it is stored."""
    message = {"toUserId": "admin", "subject": "A subject", "content": content}
    return await http.post("/api/messages", json=message, headers=bearer("client"))


async def test_what_cannot_be_written_is_refused_and_what_was_is_delivered(
    server: Program, disk: SmallDisk, http: httpx.AsyncClient
) -> None:
    connection = await asyncpg.connect(database_url(disk, server))
    # What is written before PostgreSQL notices goes into a segment of its log that is there already.
    await connection.execute("select pg_switch_wal()")
    await connection.execute("checkpoint")
    async with socket_of(http, "admin") as socket:
        filler = fill(disk.of(server.pid))
        accepted = []
        for number in range(MANY):
            answer = await send(http, content := f"{number} " + "x" * 1000)
            if answer.status_code == 503:
                break
            assert answer.status_code == 201, answer.text
            accepted.append(content)
        assert (answer.status_code, answer.headers["retry-after"], answer.json()) == (503, "5", FULL)
        await until_failing(http, "disk")
        await lives(http)
        # What is stored nowhere needs no room.
        assert await received(socket, len(accepted)) == accepted
        await nothing_waits(http, socket)
        await server.line(r"The disk of \S+ has \d+ MiB left; free some, or PostgreSQL stops writing")
        assert server.output.count("has no room left on its disk") < 20

        filler.unlink()
        await serves_in_full(http, connection)
        await server.line("PostgreSQL's disk has room again")
        assert (await send(http, "afterwards")).status_code == 201
        assert await received(socket, 1) == ["afterwards"]
        await rows_are_right(connection)
        await everything_was_logged(connection, len(accepted) + 1)
    await connection.close()
    assert "Traceback" not in server.output


async def everything_was_logged(connection: asyncpg.Connection, count: int) -> None:
    """The message log has each of the administrator's messages, as delivered."""
    async with asyncio.timeout(WAIT_SECONDS):
        while count != await connection.fetchval(
            """
            select count(*) from public.websocket_messages m
            join public.websocket_connections c on c.id = m.connection_id
            where c.user_id = 'admin' and m.delivered
            """
        ):
            await asyncio.sleep(0.05)


async def use_up_the_log(connection: asyncpg.Connection) -> None:
    """Writes until PostgreSQL cannot make a new segment of its write-ahead log, for which it gives itself up."""
    try:
        for _ in range(100):
            await connection.execute("select pg_switch_wal(), pg_logical_emit_message(false, 'test', 'x')")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        connection.terminate()
    else:
        raise AssertionError("it had room for a hundred segments")


async def test_a_postgresql_that_ends_for_want_of_room_is_started_again_until_there_is(
    server: Program, disk: SmallDisk, http: httpx.AsyncClient
) -> None:
    url = database_url(disk, server)
    async with socket_of(http, "client") as socket:
        connection = await asyncpg.connect(url)
        await store(connection, "client", "before")
        assert await messages(socket, 1) == ["before"]
        filler = fill(disk.of(server.pid))
        await use_up_the_log(connection)
        await server.line(
            r"The embedded PostgreSQL ended with status \d+ \(the disk of \S+ has 0 MiB left; free some\); "
            "it is started again"
        )
        await until_failing(http, "database", "relay", "disk")
        await lives(http)
        answer = await send(http, "in vain")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")

        filler.unlink()
        await until_ready(http)
        connection = await asyncpg.connect(url)
        await store(connection, "client", "afterwards")
        assert await messages(socket, 1) == ["afterwards"]
        await serves_in_full(http, connection)
        await rows_are_right(connection)
        stored = await connection.fetch(
            "select message from public.real_time_notifications where user_id = 'client' order by created_at"
        )
        assert [row["message"] for row in stored][:2] == ["before", "afterwards"]
        await connection.close()
    assert server.output.count("it is started again") < 10
    assert "Traceback" not in server.output


async def test_a_start_without_room_ends_in_one_sentence(tmp_path: Path, data_dir: Path) -> None:
    data_dir.mkdir()
    disk = SmallDisk(data_dir, megabytes=8)
    code, output = await run(tmp_path, environment(), "serve", through=disk.through)
    assert code == 1
    assert output.strip().splitlines()[-1].startswith("Error: The embedded PostgreSQL could not create ")
    assert "No space left on device" in output
    assert "Traceback" not in output
    assert len(output.strip().splitlines()) == 1


async def test_a_log_that_cannot_be_written_holds_nothing_up(
    tmp_path: Path, postgres_url: str, connection: asyncpg.Connection, database_url: str
) -> None:
    await insert_people(connection)
    port = free_port()
    # Every write to this device finds no room.
    into_nowhere = ("sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh")
    environ = environment(database_url, PORT=str(port))
    async with program(tmp_path, environ, "serve", "--access-log", through=into_nowhere) as server:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            await until_it_answers(http)
            await serves_in_full(http, connection)
        assert await server.end(signal.SIGTERM) == 0


async def until_it_answers(http: httpx.AsyncClient) -> None:
    """Waits until the server is there, which cannot say so."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                await lives(http)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
            else:
                return
