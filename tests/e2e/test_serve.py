"""Starting, and what is said where that cannot be; stopping, and what is left."""

import asyncio
import fcntl
import os
import re
import signal
import socket
import stat
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from jasaweb_rt.auth import connection_token
from tests.support.databases import add_users
from tests.support.people import bearer, insert_people
from tests.support.program import TOKEN_SECRET, environment, names, program, run
from tests.support.sockets import frame, until

STOPPING = "stopping; a second signal ends at once"
LEFT_BY_A_CLEAN_STOP = {"jwt_secret", "postgres", "postgres.log", "postgres.lock"}


ALL_ADDRESSES = "0.0.0.0"  # noqa: S104  # refused, or so we test


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for what a server keeps outside its data directory; its name is short, as sockets need it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


async def test_the_demo_from_an_empty_folder_to_a_clean_stop(tmp_path: Path, temporary: Path) -> None:
    environ = environment() | {"TMPDIR": str(temporary)}
    del environ["JASAWEB_RT_JWT_SECRET"]
    del environ["JASAWEB_RT_TOKEN_SECRET"]
    async with program(tmp_path, environ, "serve", "--demo") as server:
        await server.line("jasaweb-rt notify demo-client")
        assert "JASAWEB_RT_JWT_SECRET is not set: made one and kept it in .jasaweb/jwt_secret" in server.output
        url = await server.url()
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            for name in ("admin", "client", "other"):
                credentials = {"email": f"{name}@jasaweb.test", "password": "demo-password"}
                response = await http.post("/api/auth/login", json=credentials, headers={"Origin": url})
                assert response.status_code == 200
            assert (await http.get("/api/projects")).json()["total"] == 1
            assert (await http.get("/api/notifications")).json()["unread"] == 1
            http.cookies.clear()
            assert 'data-demo="true"' in (await http.get("/login")).text
        code, database = await run(tmp_path, environ, "database-url")
        assert (code, database.startswith("postgresql://")) == (0, True)
        assert await server.end(signal.SIGTERM) == 0
        assert "Traceback" not in server.output
    with pytest.raises((FileNotFoundError, ConnectionError)):
        await asyncpg.connect(database.strip(), timeout=2)
    assert set(names(tmp_path / ".jasaweb")) <= LEFT_BY_A_CLEAN_STOP
    assert names(tmp_path) == [".jasaweb"]
    assert stat.S_IMODE((tmp_path / ".jasaweb" / "jwt_secret").stat().st_mode) == 0o600
    assert names(temporary) == []

    async with program(tmp_path, environ, "serve", "--demo") as again:
        url = await again.url()
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            credentials = {"email": "client@jasaweb.test", "password": "demo-password"}
            await http.post("/api/auth/login", json=credentials, headers={"Origin": url})
            assert (await http.get("/api/projects")).json()["total"] == 3
            assert (await http.get("/api/notifications")).json()["total"] == 2
        assert await again.end(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("settings", "arguments", "code", "words"),
    [
        ({"PROT": "1"}, [], 2, "JASAWEB_RT_PROT is not a setting; did you mean JASAWEB_RT_PORT?"),
        ({"JWT_SECRET": "short"}, [], 2, "JASAWEB_RT_JWT_SECRET is too short"),
        ({"JWT_SECRET": ""}, [], 2, "JASAWEB_RT_JWT_SECRET is empty"),
        ({"NATS_URL": "x:4222"}, [], 2, "JASAWEB_RT_NATS_URL must list URLs"),
        ({"HOST": ALL_ADDRESSES}, ["--demo"], 2, "listens on loopback only"),
        ({}, ["--demo", "--host", ALL_ADDRESSES], 2, "listens on loopback only"),
    ],
)
async def test_a_configuration_that_cannot_be_is_refused_in_one_sentence(
    tmp_path: Path, settings: dict[str, str], arguments: list[str], code: int, words: str
) -> None:
    ended, output = await run(tmp_path, environment("postgresql://nowhere/x", **settings), "serve", *arguments)
    assert ended == code
    assert words in output
    assert len(output.strip().splitlines()) == 1


async def test_a_database_that_is_down_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound and not listening: refuses
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://user:very-secret@127.0.0.1:{taken.getsockname()[1]}/site"
        code, output = await run(tmp_path, environment(url), "serve")
    assert code == 1
    assert "PostgreSQL at 127.0.0.1" in output
    assert "is not available" in output
    assert "very-secret" not in output
    assert "Traceback" not in output


async def test_a_port_that_is_taken_is_named(tmp_path: Path, database_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, output = await run(tmp_path, environment(database_url, PORT=str(port)), "serve")
    assert code == 2
    assert f"Cannot listen on 127.0.0.1 port {port}" in output
    assert "Traceback" not in output


async def test_the_demo_refuses_a_database_with_other_people(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await insert_people(connection)
    code, output = await run(tmp_path, environment(database_url), "serve", "--demo")
    assert code == 2
    assert "holds other users (1)" in output
    assert await connection.fetchval("select count(*) from public.users where id like 'demo-%'") == 0


async def test_two_servers_do_not_share_a_data_directory(tmp_path: Path) -> None:
    async with program(tmp_path, environment(), "serve") as first:
        await first.url()
        code, output = await run(tmp_path, environment(), "serve")
        assert code == 1
        assert "Traceback" not in output
        assert await first.end(signal.SIGTERM) == 0


async def test_200_clients_are_told_to_come_back_while_they_receive(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    users = [f"user-{number}" for number in range(20)]
    await add_users(connection, *((user, "client") for user in users))
    environ = environment(database_url, MAX_CONNECTIONS_PER_IP="0", CONNECT_RATE_PER_IP="0")
    async with program(tmp_path, environ, "serve") as server:
        url = (await server.url()).replace("http", "ws") + "/ws"
        async with AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(
                    connect(url, additional_headers={"Authorization": f"Bearer {token(user)}"})
                )
                for user in users
                for _ in range(10)
            ]
            received = [0] * len(sockets)
            readers = [asyncio.ensure_future(count_frames(one, received, n)) for n, one in enumerate(sockets)]
            writer = asyncio.ensure_future(notify_for_ever(database_url, users))
            try:
                async with asyncio.timeout(30):
                    while min(received) < 5:
                        await asyncio.sleep(0.02)
                assert await server.end(signal.SIGTERM) == 0
            finally:
                writer.cancel()
                await asyncio.wait([writer])
            ends = await asyncio.gather(*readers)
    assert {code for code, _ in ends} == {1001}
    assert all(re.fullmatch(r"Server shutting down; retry after \d+ ms", reason) for _, reason in ends)
    assert "Traceback" not in server.output


async def count_frames(socket: ClientConnection, received: list[int], number: int) -> tuple[int, str]:
    """Counts what arrives until the end; the close code and reason."""
    try:
        while True:
            await socket.recv()
            received[number] += 1
    except ConnectionClosed as end:
        return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")


async def notify_for_ever(url: str, users: list[str]) -> None:
    """Stores a notification for each user, again and again."""
    connection = await asyncpg.connect(url)
    try:
        while True:
            await connection.execute(
                "insert into public.real_time_notifications (id, user_id, type, title, message) "
                "select gen_random_uuid(), user_id, 'user_message', 't', 'm' from unnest($1::text[]) as u (user_id)",
                users,
            )
            await asyncio.sleep(0.01)
    finally:
        connection.terminate()


def token(user_id: str) -> str:
    """A connection token as the token route issues it."""
    end = int(time.time()) + 600
    return connection_token.issue(
        user_id=user_id, role="client", name=user_id, secret=TOKEN_SECRET, session_exp=end
    ).token


async def test_a_second_signal_ends_at_once(tmp_path: Path, database_url: str) -> None:
    async with program(tmp_path, environment(database_url, DRAIN_SECONDS="60"), "serve") as server:
        port = int((await server.url()).rsplit(":", 1)[1])
        # A request whose body never comes keeps the drain waiting.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(
                b"POST /api/webhooks/midtrans HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n"
            )
            async with asyncio.timeout(20):
                assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
            server.send_signal(signal.SIGTERM)
            await server.line(STOPPING)
            async with asyncio.timeout(20):
                # One that comes right behind the first means the same.
                while not server.ended:
                    server.send_signal(signal.SIGTERM)
                    await asyncio.sleep(0.1)
            assert await server.end() == 1
        finally:
            writer.close()
            await writer.wait_closed()
        assert "Ended without waiting." in server.output


async def fill_log(http: httpx.AsyncClient) -> None:
    """Makes the server log, by lines that are shorter than what it says at a stop."""
    while True:
        await http.get("/healthz")


def left_in(pipe: int, size: int) -> int:
    """Bytes that a pipe of this size, one page, still takes."""
    return size - int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0])


async def test_a_log_that_nobody_reads_does_not_hold_a_stop(tmp_path: Path, database_url: str) -> None:
    reading, writing = os.pipe()
    # The least there is: in one page, what it still takes is what is left of it.
    size = fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 1)
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).parent / "jasaweb-rt"), "serve", "--access-log"),
        cwd=tmp_path,
        env=environment(database_url, DRAIN_SECONDS="2"),
        stderr=writing,
    )
    try:
        os.close(writing)
        said = b""
        while not (listening := re.search(rb"listening on (http://\S+)\n", said)):
            more = await asyncio.to_thread(os.read, reading, 65536)
            assert more, said
            said += more
        async with httpx.AsyncClient(base_url=listening[1].decode(), timeout=60) as http:
            filling = asyncio.ensure_future(fill_log(http))
            await until(lambda: left_in(reading, size) < len("2026-01-02 03:04:05 INFO    ") + len(STOPPING))
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 30) == 1
            filling.cancel()
            await asyncio.wait([filling])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(reading)


async def test_a_signal_while_it_starts_ends_it(tmp_path: Path, temporary: Path) -> None:
    async with program(tmp_path, environment() | {"TMPDIR": str(temporary)}, "serve") as server:
        await server.line("embedded PostgreSQL")
        assert await server.end(signal.SIGTERM) == 0
    assert "Traceback" not in server.output
    assert names(temporary) == []


async def test_a_database_that_dies_comes_back_and_nothing_else_ends(tmp_path: Path) -> None:
    async with program(tmp_path, environment(), "serve", "--demo") as server:
        url = await server.url()
        _, database = await run(tmp_path, environment(), "database-url")
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            issued = (await http.post("/api/websocket/token", headers=bearer("demo-client"))).json()
            async with connect(f"{issued['connectionUrl']}?token={issued['token']}") as held:
                assert (await frame(held))["type"] == "system_announcement"
                assert (await frame(held))["type"] == "sync"
                killed = postmaster_of(tmp_path)
                assert killed is not None
                os.kill(killed, signal.SIGKILL)
                async with asyncio.timeout(40):
                    while postmaster_of(tmp_path) in {None, killed} or not await accepts(database.strip()):
                        assert (await http.get("/readyz")).status_code in {200, 503}
                        await asyncio.sleep(0.05)
                stored = await run(
                    tmp_path,
                    environment(),
                    *("notify", "demo-client", "--type", "user_message", "--title", "t", "--message", "after"),
                )
                assert stored[0] == 0
                assert (await frame(held))["data"]["message"] == "after"
                async with asyncio.timeout(30):
                    while (await http.get("/readyz")).status_code != 200:
                        await asyncio.sleep(0.05)
        assert await server.end(signal.SIGTERM) == 0


def postmaster_of(folder: Path) -> int | None:
    """Process id of the embedded server that runs in `folder`; None while there is none."""
    try:
        return int((folder / ".jasaweb" / "postgres" / "postmaster.pid").read_text().split("\n")[0])
    except (FileNotFoundError, ValueError):
        return None


async def accepts(url: str) -> bool:
    """Whether a database takes connections."""
    try:
        connection = await asyncpg.connect(url, timeout=2)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    await connection.close()
    return True
