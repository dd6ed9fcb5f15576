"""The samples of README and docs/embedding.md: taken from the page, run as they stand, used as a reader would."""

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.support.databases import add_users
from tests.support.pages import sample
from tests.support.people import bearer, insert_people, session_token
from tests.support.program import Program, environment, python
from tests.support.sockets import frame
from tests.support.tokens import SECRET, connection_token

MOST_LINES = 20


async def listening(url: str, token: str) -> ClientConnection:
    """A socket whose welcome and `sync` were read."""
    socket = await connect(url, subprotocols=[Subprotocol("jasaweb.v1"), Subprotocol(f"bearer.{token}")])
    assert [(await frame(socket))["type"] for _ in range(2)] == ["system_announcement", "sync"]
    return socket


@pytest.mark.parametrize("name", ["shop.py", "approve.py", "watch.py", "progress.py"])
def test_a_sample_is_short(name: str) -> None:
    assert len(sample("README.md", name).splitlines()) <= MOST_LINES


async def test_a_plugin_in_an_application_of_yours(tmp_path: Path, empty_database_url: str) -> None:
    (tmp_path / "shop.py").write_text(sample("README.md", "shop.py"))
    environ = environment(empty_database_url)
    async with python(tmp_path, environ, "-m", "uvicorn", "--port", "0", "shop:app") as shop:
        url = (await shop.line(r"running on (http://\S+)"))[1]
        connection = await asyncpg.connect(empty_database_url)
        await add_users(connection, ("anna", "client"))
        await connection.close()
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            assert (await http.post("/api/websocket/token")).status_code == 401
            body = (await http.post("/api/websocket/token", headers={"x-user": "anna"})).json()
            socket = await listening(body["connectionUrl"], body["token"])
            assert (await http.post("/ship")).status_code == 201
        pushed = await frame(socket)
        assert (pushed["type"], pushed["seq"], pushed["data"]["title"]) == ("project_update", 1, "Shipped")
        await socket.close()


async def test_a_service_without_a_server(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection, server: Program
) -> None:
    (tmp_path / "approve.py").write_text(sample("README.md", "approve.py"))
    url = await server.url()
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        body = (await http.post("/api/websocket/token", headers=bearer("client"))).json()
    socket = await listening(body["connectionUrl"], body["token"])
    environ = environment(database_url) | {"PROJECT": "p-client"}
    async with python(tmp_path, environ, "approve.py") as approve:
        assert (await approve.end(), approve.output) == (0, "")
    pushed = await frame(socket)
    assert (pushed["type"], pushed["data"]["message"]) == ("project_update", "It is approved")
    assert await connection.fetchval("select status::text from projects where id = 'p-client'") == "completed"
    await socket.close()


async def test_a_program_that_listens(tmp_path: Path, connection: asyncpg.Connection, server: Program) -> None:
    (tmp_path / "watch.py").write_text(sample("README.md", "watch.py"))
    environ = environment() | {"SITE": await server.url(), "SESSION": session_token("client")}
    async with python(tmp_path, environ, "watch.py") as watch:
        await watch.line(r"^sync ")
        await connection.execute(
            """insert into real_time_notifications (id, user_id, type, title, message)
               values ('n', 'client', 'user_message', 'Hello', 'From SQL')"""
        )
        assert "From SQL" in (await watch.line(r"^user_message (.*)"))[1]


async def test_the_core_alone(tmp_path: Path) -> None:
    (tmp_path / "progress.py").write_text(sample("README.md", "progress.py"))
    environ = {**os.environ, "PORT": "0", "TOKEN_SECRET": SECRET}
    async with python(tmp_path, environ, "progress.py") as progress:
        port = (await progress.line(r"listening on \('127.0.0.1', (\d+)\)"))[1]
        protocols = [Subprotocol("jasaweb.v1"), Subprotocol(f"bearer.{connection_token('anna')}")]
        async with connect(f"ws://127.0.0.1:{port}/ws", subprotocols=protocols) as socket:
            assert (await frame(socket))["type"] == "system_announcement"
            assert (await frame(socket))["type"] == "progress"
            await socket.send('{"type": "echo"}')
            while (got := await frame(socket))["type"] == "progress":
                assert got["data"]["percent"] <= 100
            assert got == {"type": "echo"}


async def test_the_whole_server_with_hooks(tmp_path: Path, database_url: str, connection: asyncpg.Connection) -> None:
    await insert_people(connection)
    (tmp_path / "with_hooks.py").write_text(sample("docs/embedding.md", "with_hooks.py"))
    async with python(tmp_path, environment(database_url), "with_hooks.py") as program:
        url = (await program.line(r"ready on (http://\S+)"))[1]
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            body = (await http.post("/api/websocket/token", headers=bearer("client"))).json()
            socket = await listening(body["connectionUrl"], body["token"])
            await program.line(r"Client came from 127\.0\.0\.1")
            data = {"toUserId": "admin", "subject": "the logo", "content": "Make it bigger"}
            await socket.send(json.dumps({"type": "user_message", "data": data}))
            await program.line(r"client wrote about the logo")
            paid = await http.patch("/api/invoices/i-client", json={"status": "paid"}, headers=bearer("admin"))
            assert paid.status_code == 200
            await program.line(r"i-client is paid")
        await socket.close()


SPINNING = """
from jasaweb_rt.hooks import ConnectionClosed

@hooks.on_connect
def spins(event: ConnectionOpened) -> None:
    print("spinning", flush=True)
    while True:
        pass

@hooks.on_connect
async def hangs(event: ConnectionOpened) -> None:
    await asyncio.Event().wait()

@hooks.on_disconnect
def last_word(event: ConnectionClosed) -> None:
    print("gone with", event.code, flush=True)

"""
SPINNING_THE_LOOP = """
@hooks.on_connect
async def spins(event: ConnectionOpened) -> None:
    print("spinning", flush=True)
    while True:
        pass

"""


@asynccontextmanager
async def spinning(
    folder: Path, database_url: str, connection: asyncpg.Connection, hooks: str, drain_seconds: int
) -> AsyncIterator[Program]:
    """The sample of a whole server with further hooks, one of which spins since somebody connected.

    None takes too long before the stop does.
    """
    await insert_people(connection)
    head, run = sample("docs/embedding.md", "with_hooks.py").rsplit("\n\n", 1)
    assert "Hooks()" in head
    head = head.replace("Hooks()", "Hooks(time_limit=3600)")
    (folder / "with_hooks.py").write_text(f"import asyncio\n{head}\n{hooks}\n{run}")
    environ = environment(database_url, DRAIN_SECONDS=str(drain_seconds))
    async with python(folder, environ, "with_hooks.py") as program:
        url = (await program.line(r"ready on (http://\S+)"))[1]
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            body = (await http.post("/api/websocket/token", headers=bearer("client"))).json()
        socket = await listening(body["connectionUrl"], body["token"])
        await program.line("spinning")
        yield program
        await socket.close()


async def test_hooks_that_spin_and_hang_do_not_hold_the_end_of_the_server(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    async with spinning(tmp_path, database_url, connection, SPINNING, drain_seconds=20) as program:
        assert await program.end(signal.SIGTERM) == 0
        assert "gone with 1001" in program.output
        assert "spins did not end in time" in program.output
        assert "hangs did not end in time" in program.output


async def test_a_hook_that_spins_the_event_loop_does_not_outlive_the_time_of_a_stop(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    async with spinning(tmp_path, database_url, connection, SPINNING_THE_LOOP, drain_seconds=2) as program:
        assert await program.end(signal.SIGTERM) == 1
        assert "Ended without waiting" in program.output
