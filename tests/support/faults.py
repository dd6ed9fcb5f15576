"""A whole server while something fails, and behind that: what it says of itself, and that all of it works."""

import asyncio
import time
import uuid
from typing import Any

import asyncpg
import httpx
from websockets.asyncio.client import ClientConnection

from jasaweb_rt.auth import connection_token
from tests.support.live_sockets import socket_of
from tests.support.program import TOKEN_SECRET
from tests.support.sockets import WAIT_SECONDS, frame

RECOVERY_SECONDS = 90.0
"""For a database to be started again, and everything to connect to it, with pauses of 5 s and a memory of 15 s."""

CONDITIONS = ("database", "relay", "listener", "disk")
"""What `/readyz` names, beside `draining`."""


def own_token(user_id: str) -> str:
    """A connection token that was not asked of the server, which may not be able to give one."""
    end = int(time.time()) + 600
    return connection_token.issue(
        user_id=user_id, role="client", name=user_id, secret=TOKEN_SECRET, session_exp=end
    ).token


async def failing(http: httpx.AsyncClient) -> set[str]:
    """What `/readyz` names as failed; its status fits that."""
    response = await http.get("/readyz")
    body: dict[str, Any] = response.json()
    failed = {name for name in CONDITIONS if body["checks"][name] == "failed"}
    assert response.status_code == (503 if failed else 200), body
    assert body["success"] == (not failed)
    return failed


async def until_failing(http: httpx.AsyncClient, *names: str) -> None:
    """Waits until `/readyz` names these, be it among others."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not set(names) <= await failing(http):
            await asyncio.sleep(0.2)


async def until_only(http: httpx.AsyncClient, *names: str) -> None:
    """Waits until `/readyz` names just these: on a busy machine the database may be late now and then, too."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await failing(http) != set(names):
            await asyncio.sleep(0.2)


async def until_ready(http: httpx.AsyncClient) -> None:
    """Waits until nothing fails any more."""
    async with asyncio.timeout(RECOVERY_SECONDS):
        while await failing(http):
            await asyncio.sleep(0.2)


async def lives(http: httpx.AsyncClient) -> None:
    """Whatever fails, the process is alive."""
    response = await http.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"success": True})


async def store(connection: asyncpg.Connection, user_id: str, *messages: str) -> None:
    """Commits a notification for each message, as any program would."""
    for message in messages:
        await connection.execute(
            """
            insert into public.real_time_notifications (id, user_id, type, title, message)
            values ($1, $2, 'user_message', 'A title', $3)
            """,
            str(uuid.uuid4()),
            user_id,
            message,
        )


async def messages(socket: ClientConnection, count: int) -> list[str]:
    """The messages of the next `count` notifications; other frames are passed over."""
    found: list[str] = []
    while len(found) < count:
        received = await frame(socket)
        if "seq" in received:
            found.append(received["data"]["message"])
    return found


async def serves_in_full(http: httpx.AsyncClient, connection: asyncpg.Connection, user_id: str = "client") -> None:
    """Once `/readyz` says so: a token, a socket, a durable notification on it, and the rows of both."""
    await until_ready(http)
    message = f"after all, {uuid.uuid4()}"
    async with socket_of(http, user_id) as socket:
        await store(connection, user_id, message)
        assert await messages(socket, 1) == [message]
        async with asyncio.timeout(WAIT_SECONDS):
            while not await connection.fetchval(
                """
                select exists (select from public.websocket_messages m
                               join public.websocket_connections c on c.id = m.connection_id
                               where m.payload::text like '%' || $1 || '%' and c.status = 'active')
                """,
                message,
            ):
                await asyncio.sleep(0.05)


async def rows_are_right(connection: asyncpg.Connection) -> None:
    """Nothing waits in the outbox, and each notification has its place in the feed."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await connection.fetchval("select count(*) from jasaweb_rt.outbox"):
            await asyncio.sleep(0.05)
    stored, fed = await connection.fetchrow(
        "select (select count(*) from public.real_time_notifications), (select count(*) from jasaweb_rt.feed)"
    )
    assert stored == fed
