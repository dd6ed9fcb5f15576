"""Every type of frame against everyone: what comes of it, and that a refusal changes nothing and reaches nobody."""

import asyncio
import json
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from jasaweb_rt.database import sessions, users
from jasaweb_rt.database.sessions import Standing
from jasaweb_rt.database.users import NewUser
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.messages import CLIENT_MESSAGES
from tests.support.bad_json import faults_of
from tests.support.credentials import LOGGED_OUT, connection_tokens_of_nobody, log_out
from tests.support.frame_table import DONE, FRAMES, PASSED_OVER, FrameRow
from tests.support.people import insert_people, password_hash
from tests.support.snapshot import snapshot
from tests.support.sockets import WAIT_SECONDS, closed, frame, opened, socket_url
from tests.support.tokens import connection_token

LAST = json.dumps({"type": "dance", "data": {}, "id": "last"})
"""Its answer comes behind all that the frames before it have done: a user's frames are carried out in turn."""


@pytest.fixture(autouse=True)
async def stored(gateway: Gateway, connection: asyncpg.Connection) -> None:
    """The people of the tests, one more client, a log-out, and something unread of each client."""
    await insert_people(connection)
    await log_out(connection)
    await users.insert_missing(connection, [NewUser("third", "third@jasaweb.test", password_hash(), "T", "client")])
    await connection.execute(
        "insert into public.real_time_notifications (id, user_id, type, title, message)"
        " select 'n-' || name, name, 'user_message', 'Hello', 'World' from unnest(array['client', 'other']) name"
    )


def named(row: FrameRow) -> str:
    return f"{row.kind} {row.what}".strip()


def right_frame(row: FrameRow) -> dict[str, Any]:
    data = {"token": connection_token("second-admin")} if row.kind == "refresh" else row.data
    return {"type": row.kind, "data": data, "id": "mine"}


@asynccontextmanager
async def live(gateway: Gateway, user_id: str, role: str) -> AsyncIterator[ClientConnection]:
    """A socket that the database has confirmed."""
    async with opened(gateway.server, user_id, role) as socket:
        assert (await frame(socket))["type"] == "sync"
        yield socket


async def said_of(socket: ClientConnection, text: str) -> list[str]:
    """Sends a frame; the codes of all errors that come of it, or that the connection was closed."""
    codes: list[str] = []
    try:
        await socket.send(text)
        await socket.send(LAST)
        while True:
            answer = await frame(socket)
            if answer["type"] == "error":
                if answer["data"]["ref"] == "last":
                    return codes
                codes.append(answer["data"]["code"])
    except ConnectionClosed:
        return ["closed"]


async def comes_of(
    gateway: Gateway, connection: asyncpg.Connection, row: FrameRow, user_id: str, role: str, outcome: str
) -> None:
    async with live(gateway, "second-admin", "admin") as bystander, live(gateway, user_id, role) as socket:
        before = await snapshot(connection)
        codes = await said_of(socket, json.dumps(right_frame(row)))
        assert codes == ([] if outcome in (DONE, PASSED_OVER) else [outcome])
        assert (await snapshot(connection) != before) is (outcome == DONE)
        if outcome != DONE:
            gateway.server.broadcast_to_all('{"type": "mark"}')
            assert await frame(bystander) == {"type": "mark"}


def test_every_type_stands_in_the_table() -> None:
    assert {row.kind for row in FRAMES} == set(CLIENT_MESSAGES)


@pytest.mark.parametrize("row", FRAMES, ids=named)
async def test_who_may_send_what(
    gateway: Gateway, connection: asyncpg.Connection, subtests: pytest.Subtests, row: FrameRow
) -> None:
    # First those who are refused, so that there is something left to be done for the others.
    senders = [
        ("another client", "other", "client", row.other),
        ("another client whose token says administrator", "other", "admin", row.other),
        ("the client", "client", "client", row.client),
        ("an administrator", "admin", "admin", row.admin),
    ]
    for who, user_id, role, outcome in senders:
        with subtests.test(who):
            await comes_of(gateway, connection, row, user_id, role, outcome)


@pytest.mark.parametrize("row", FRAMES, ids=named)
async def test_who_was_deleted_does_nothing_more(
    gateway: Gateway, connection: asyncpg.Connection, row: FrameRow
) -> None:
    """Whether the socket is closed already or not."""
    await connection.execute(
        "update public.real_time_notifications set user_id = 'third' where id = 'n-client';"
        " update public.projects set user_id = 'third' where id = 'p-client'"
    )
    async with live(gateway, "third", "client") as socket:
        await connection.execute("delete from public.users where id = 'third'")
        before = await snapshot(connection)
        codes = await said_of(socket, json.dumps(right_frame(row)))
        assert codes in (["closed"], [] if row.gone == PASSED_OVER else [row.gone])
        assert await snapshot(connection) == before


async def test_who_was_made_a_client_is_one_at_the_next_frame(
    gateway: Gateway, connection: asyncpg.Connection, subtests: pytest.Subtests
) -> None:
    async with live(gateway, "admin", "admin") as socket:
        await connection.execute("update public.users set role = 'client' where id = 'admin'")
        before = await snapshot(connection)
        for row in (row for row in FRAMES if row.client == "forbidden"):
            with subtests.test(named(row)):
                assert await said_of(socket, json.dumps(right_frame(row))) in (["forbidden"], ["closed"])
        assert await snapshot(connection) == before


async def test_nobody_opens_a_socket_or_refreshes_one(
    gateway: Gateway, connection: asyncpg.Connection, subtests: pytest.Subtests
) -> None:
    before = await snapshot(connection)
    tokens = {"no token": None, **connection_tokens_of_nobody()}
    for fault, token in tokens.items():
        with subtests.test(fault):
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            async with connect(socket_url(gateway.server), additional_headers=headers) as socket:
                ended = (4001, "Session expired") if fault == LOGGED_OUT else (1008, "Invalid authentication")
                assert await closed(socket) == ended
        if token is not None and fault != "of a user who was deleted":
            with subtests.test(f"refresh, {fault}"):
                async with live(gateway, "admin", "admin") as socket:
                    text = json.dumps({"type": "refresh", "data": {"token": token}})
                    assert await said_of(socket, text) == ["invalid_token"]
    assert await snapshot(connection) == before


@pytest.mark.parametrize("kind", CLIENT_MESSAGES)
async def test_wrong_data_is_refused_by_the_name_of_the_field(
    gateway: Gateway, connection: asyncpg.Connection, subtests: pytest.Subtests, kind: str
) -> None:
    row = next(row for row in FRAMES if row.kind == kind)
    before = await snapshot(connection)
    for fault in faults_of(row.data):
        with subtests.test(fault.name):
            text = b'{"type": "%s", "id": "mine", "data": %s}' % (kind.encode(), fault.text)
            try:
                decoded = text.decode()
            except UnicodeDecodeError:
                continue  # no text frame: 1007
            if len(text) > 60_000:
                continue  # 1009
            async with live(gateway, "admin", "admin") as socket:
                await socket.send(decoded)
                error = await frame(socket)
                assert error["type"] == "error"
                assert error["data"]["code"] in ("invalid_data", "invalid_frame")
                assert fault.words in error["data"]["message"]
                await socket.send(LAST)
                assert (await frame(socket))["data"]["code"] == "unknown_type"
    assert await snapshot(connection) == before


def masked(text: str) -> bytes:
    """A text frame of a client (RFC 6455 section 5.2); its mask is 0."""
    payload = text.encode()
    return b"\x81\xfe" + struct.pack("!H", len(payload)) + bytes(4) + payload


async def test_who_has_logged_out_does_nothing_before_the_database_is_asked_either(
    gateway: Gateway,
    connection: asyncpg.Connection,
    slow_answers: tuple[threading.Event, threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Frames that come with the handshake are there before the session is known to have ended."""

    async def nobody(*_: object) -> dict[str, Standing]:
        return {}

    monkeypatch.setattr(sessions, "standings", nobody)
    await gateway.compare()  # what was looked at before is done with
    before = await snapshot(connection)
    rows = [row for row in FRAMES if DONE in (row.client, row.admin)]
    handshake = (
        "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Authorization: Bearer {connection_tokens_of_nobody()[LOGGED_OUT]}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(*gateway.server.address)
    try:
        writer.write(handshake.encode() + b"".join(masked(json.dumps(right_frame(row))) for row in rows))
        said = b""
        async with asyncio.timeout(WAIT_SECONDS):
            while said.count(b'"forbidden"') < len(rows):
                said += await _more(reader)
            assert b"Session expired" not in said
            _, go_on = slow_answers
            go_on.set()
            while struct.pack("!H", 4001) + b"Session expired" not in said:
                said += await _more(reader)
        assert await snapshot(connection) == before
    finally:
        writer.transport.abort()


async def _more(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(65_536)
    assert data, "the server has closed"
    return data
