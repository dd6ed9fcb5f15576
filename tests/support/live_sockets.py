"""Sockets on a whole server, opened as the guide's clients do it: a token by HTTP, then the upgrade."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from websockets.asyncio.client import ClientConnection, connect

from tests.support.people import bearer
from tests.support.sockets import frame

MARK = {"title": "mark", "message": "Everything before this has arrived"}


async def connection_token(http: httpx.AsyncClient, user_id: str) -> str:
    """A connection token of `user_id`, from the token route."""
    token: str = (await http.post("/api/websocket/token", headers=bearer(user_id))).json()["token"]
    return token


def socket_url(http: httpx.AsyncClient) -> str:
    """Where the server of `http` takes sockets."""
    return str(http.base_url.copy_with(scheme="ws", path="/ws"))


@asynccontextmanager
async def socket_of(http: httpx.AsyncClient, user_id: str) -> AsyncIterator[ClientConnection]:
    """A socket of `user_id`; its welcome and its sync were read."""
    async with connect(f"{socket_url(http)}?token={await connection_token(http, user_id)}") as socket:
        assert (await frame(socket))["data"]["title"] == "Connected"
        assert (await frame(socket))["type"] == "sync"
        yield socket


@asynccontextmanager
async def sockets_of(http: httpx.AsyncClient, *user_ids: str) -> AsyncIterator[list[ClientConnection]]:
    """A socket of each, in this order."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(socket_of(http, user_id)) for user_id in user_ids]


async def nothing_waits(http: httpx.AsyncClient, *sockets: ClientConnection) -> None:
    """Sends a word to everyone, which must be the very next frame of each of `sockets`."""
    word = {"audience": "all", "type": "system_announcement", "durable": False, **MARK}
    response = await http.post("/api/admin/websocket/broadcast", json=word, headers=bearer("admin"))
    assert response.status_code == 200
    for socket in sockets:
        assert (await frame(socket))["data"] == MARK
