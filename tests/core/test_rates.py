"""Rates and bursts as a client meets them: what passes is what the algorithm allows for the time that it took."""

import asyncio
import contextlib
import json
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from jasaweb_rt._core import FanoutServer
from tests.core.conftest import StartServer
from tests.support.sockets import closed, opened, socket_url, until
from tests.support.tokens import SECRET, connection_token

_FEED_SECONDS = 3.0
_LEAST_ATTEMPTS = 60


async def _status(server: FanoutServer) -> int:
    """What a handshake of a client without a token is answered."""
    host, port = server.address
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        return int((await reader.readline()).split()[1])
    finally:
        writer.transport.abort()


async def test_a_feed_of_connections_gets_burst_and_rate_and_no_more(start_server: StartServer) -> None:
    rate, burst = 5, 10
    server = start_server(connect_rate_per_ip=rate, connect_burst_per_ip=burst)
    admitted = attempts = 0
    began = time.monotonic()
    while time.monotonic() - began < _FEED_SECONDS or attempts < _LEAST_ATTEMPTS:
        attempts += 1
        status = await _status(server)
        assert status in {101, 429}
        admitted += status == 101
    elapsed = time.monotonic() - began
    assert min(burst, attempts) <= admitted <= burst + rate * elapsed + 1
    assert server.stats().refusals.rate == attempts - admitted


async def test_a_feed_of_messages_gets_burst_and_rate_and_no_more(start_server: StartServer) -> None:
    rate, burst = 5, 10
    server = start_server(message_rate=rate, message_burst=burst)
    for user in ("anna", "budi", "citra"):
        before = server.stats().frames_received
        began = time.monotonic()
        async with opened(server, user) as socket:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await socket.send("{}")
                    await asyncio.sleep(0)  # lets the Close in
            assert await closed(socket) == (1008, "Rate limit exceeded")
        await until(lambda: server.stats().connections == 0)
        received = server.stats().frames_received - before
        assert burst <= received <= burst + rate * (time.monotonic() - began) + 1


async def test_a_feed_within_the_rate_is_never_refused(start_server: StartServer) -> None:
    server = start_server(message_rate=20, message_burst=50)
    async with opened(server, "anna") as socket:
        sent = 0
        began = time.monotonic()
        while time.monotonic() - began < _FEED_SECONDS:
            await socket.send("{}")
            sent += 1
            await asyncio.sleep(0.1)
        await until(lambda: server.stats().frames_received == sent)
    assert server.stats().drops.client_rate == 0


async def test_the_newest_wins_and_each_user_by_themselves(start_server: StartServer) -> None:
    server = start_server(max_connections_per_user=1)
    async with opened(server, "other") as other:
        sockets = []
        for _ in range(4):
            token = connection_token("anna", secret=SECRET)
            sockets.append(await connect(socket_url(server, f"?token={token}")))
        try:
            for replaced in sockets[:-1]:
                assert await closed(replaced) == (4004, "Replaced by a newer connection")
            await until(lambda: server.stats().connections == 2)
            assert server.broadcast_to_all('{"n":1}') == 2
            async for message in sockets[-1]:
                if json.loads(message) == {"n": 1}:
                    break
            assert json.loads(await other.recv()) == {"n": 1}
        finally:
            for socket in sockets:
                await socket.close()


async def test_no_cap_on_a_users_connections_where_it_is_off(start_server: StartServer) -> None:
    server = start_server(max_connections_per_user=0)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(30):
            await stack.enter_async_context(opened(server, "anna"))
        await until(lambda: server.stats().connections == 30)
