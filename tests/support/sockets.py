"""Real WebSocket clients for tests."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect

from jasaweb_rt._core import FanoutServer, OverloadedError, Stats, SyncRequest
from tests.support.tokens import connection_token

WAIT_SECONDS = 40.0


def socket_url(server: FanoutServer, query: str = "") -> str:
    """Where `server` takes sockets."""
    host, port = server.address
    return f"ws://{host}:{port}/ws{query}"


@asynccontextmanager
async def opened(
    server: FanoutServer, user_id: str, role: str = "client", query: str = "", *, token: str = "", **options: Any
) -> AsyncIterator[ClientConnection]:
    """A socket of `user_id`, or of whom `token` is for, whose welcome was read. It sends no pings of its own."""
    headers = {"Authorization": f"Bearer {token or connection_token(user_id, role)}"}
    options = {"ping_interval": None, **options}
    async with connect(socket_url(server, query), additional_headers=headers, **options) as socket:
        welcome = await frame(socket)
        assert (welcome["type"], welcome["data"]["title"]) == ("system_announcement", "Connected")
        yield socket


@asynccontextmanager
async def opened_many(
    server: FanoutServer, *users: tuple[str, str], count: int = 1
) -> AsyncIterator[dict[str, list[ClientConnection]]]:
    """`count` sockets of each `(user_id, role)`, by user."""
    async with AsyncExitStack() as stack:
        yield {
            user_id: [await stack.enter_async_context(opened(server, user_id, role)) for _ in range(count)]
            for user_id, role in users
        }


async def frame(socket: ClientConnection) -> dict[str, Any]:
    """The next frame."""
    async with asyncio.timeout(WAIT_SECONDS):
        decoded: dict[str, Any] = json.loads(await socket.recv())
        return decoded


async def frames(socket: ClientConnection, count: int) -> list[dict[str, Any]]:
    """The next `count` frames."""
    return [await frame(socket) for _ in range(count)]


async def closed(socket: ClientConnection) -> tuple[int, str]:
    """Reads to the end: the close code and reason that the server gave (1006 where it gave none)."""
    async with asyncio.timeout(WAIT_SECONDS):
        try:
            while True:
                await socket.recv()
        except websockets.ConnectionClosed as end:
            return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")


async def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Waits until `condition` holds."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


async def settled(server: FanoutServer) -> Stats:
    """The counters once each shard has ended the turn that it is in: a write is counted after its bytes have gone."""

    def answered() -> bool:
        try:
            server.connections()  # answered between two turns
        except OverloadedError:
            return False
        return True

    await until(answered, "an answer of every shard")
    return server.stats()


async def next_request(server: FanoutServer, behind: SyncRequest | None = None) -> SyncRequest:
    """The next request of a session, other events passed over; fails where several have asked.

    A session asks again every 5 s while nobody answers: that is no other request, nor is one like `behind`.
    """
    found: dict[tuple[object, ...], SyncRequest] = {}

    def key(request: SyncRequest) -> tuple[object, ...]:
        return request.connection_id, request.after, request.first

    def look() -> bool:
        requests = [event for event in server.drain_events() if isinstance(event, SyncRequest)]
        found.update({key(request): request for request in requests if behind is None or key(request) != key(behind)})
        return bool(found)

    await until(look, "a sync request")
    (request,) = found.values()
    return request
