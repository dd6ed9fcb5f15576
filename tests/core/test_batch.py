"""`batch=1`: frames that wait together come as one JSON array, to who asked for it and to nobody else."""

import asyncio
import json
import random
from contextlib import suppress
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from jasaweb_rt._core import FanoutServer
from tests.core.conftest import StartServer
from tests.support.sockets import WAIT_SECONDS, closed, opened, settled, until

MAX_ARRAY_BYTES = 65_535


# Behind a proxy that strips extensions, and as browsers connect.
either_form = pytest.mark.parametrize("compression", [None, "deflate"])


def burst(first: int, last: int, padding: int = 0) -> list[tuple[str, str]]:
    """Numbered frames, each with so many digits that compress to some half."""
    noise = (random.Random(number).randbytes(padding // 2).hex() for number in range(first, last))  # noqa: S311
    return [("anna", json.dumps({"n": first + index, "x": digits})) for index, digits in enumerate(noise)]


async def texts(socket: ClientConnection, last: int) -> list[str]:
    """Messages as they come, up to the one that holds number `last`."""
    received: list[str] = []
    async with asyncio.timeout(WAIT_SECONDS):
        while not received or last not in numbers(received[-1:]):
            text = await socket.recv()
            assert isinstance(text, str)
            received.append(text)
    return received


async def rest(socket: ClientConnection) -> list[str]:
    """Messages as they come, until the server's Close."""
    received: list[str] = []
    with suppress(websockets.ConnectionClosed):
        while True:
            received.append(str(await asyncio.wait_for(socket.recv(), WAIT_SECONDS)))
    return received


def numbers(received: list[str]) -> list[int]:
    """The numbers in messages, arrays taken apart."""
    messages = [json.loads(text) for text in received]
    return [frame["n"] for message in messages for frame in (message if isinstance(message, list) else [message])]


def arrays(received: list[str]) -> list[list[Any]]:
    return [message for text in received if isinstance(message := json.loads(text), list)]


@either_form
async def test_what_was_sent_together_comes_as_arrays(server: FanoutServer, compression: str | None) -> None:
    async with opened(server, "anna", query="?batch=1", compression=compression) as socket:
        assert server.broadcast_many(burst(0, 1000, padding=600)) == 1000
        received = await texts(socket, 999)
        assert numbers(received) == list(range(1000))
        assert len(received) < 100
        assert all(len(array) > 1 for array in arrays(received))
        assert all(len(text) <= MAX_ARRAY_BYTES for text in received)
        stats = await settled(server)
        assert stats.arrays == len(arrays(received))
        assert stats.compressions == (1000 if compression else 0)
        # Compressed, the digits take half of their length.
        assert (stats.bytes_written < 0.8 * sum(map(len, received))) == (compression is not None)


async def test_each_is_compressed_once_for_all_who_get_it(server: FanoutServer) -> None:
    async with (
        opened(server, "anna", query="?batch=1") as first,
        opened(server, "anna", query="?batch=1") as second,
        opened(server, "anna") as lone,
    ):
        server.broadcast_many(burst(0, 100, padding=1000))
        for socket in (first, second, lone):
            assert numbers(await texts(socket, 99)) == list(range(100))
        assert server.stats().compressions == 100


async def test_large_and_small_in_turn_are_one_array(server: FanoutServer) -> None:
    mixed = [*burst(0, 1), *burst(1, 2, padding=2000), *burst(2, 3), *burst(3, 4, padding=2000), *burst(4, 5)]
    async with opened(server, "anna", query="?batch=1") as socket:
        server.broadcast_many(mixed)
        assert await texts(socket, 4) == ["[" + ",".join(frame for _, frame in mixed) + "]"]


async def test_one_alone_is_a_plain_object(server: FanoutServer) -> None:
    async with opened(server, "anna", query="?batch=1") as socket:
        server.broadcast_to_user("anna", '{"n": 1}')
        assert await texts(socket, 1) == ['{"n": 1}']
    assert server.stats().arrays == 0


@pytest.mark.parametrize("query", ["", "?batch=0"])
async def test_who_did_not_ask_never_gets_one(server: FanoutServer, query: str) -> None:
    async with opened(server, "anna", query=query) as plain, opened(server, "anna", query="?batch=1") as batching:
        server.broadcast_many(burst(0, 500))
        assert await texts(plain, 499) == [frame for _, frame in burst(0, 500)]
        assert numbers(await texts(batching, 499)) == list(range(500))


@pytest.mark.parametrize("value", ["2", "true", "", "1&batch=1"])
async def test_another_value_is_refused_with_the_mend(server: FanoutServer, value: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with opened(server, "anna", query=f"?batch={value}"):
            pass
    assert refused.value.response.status_code == 400
    assert json.loads(refused.value.response.body) == {"success": False, "error": "batch must be 0 or 1"}


async def test_what_is_no_object_is_left_as_it_is(server: FanoutServer) -> None:
    frames = ["[1]", '{"n": 1}', "", '{"n": 2}', '{"n": 3}', "text", '{"n": 4} ']
    async with opened(server, "anna", query="?batch=1") as socket:
        server.broadcast_many([("anna", frame) for frame in frames])
        received = [await asyncio.wait_for(socket.recv(), WAIT_SECONDS) for _ in range(6)]
        assert received == ["[1]", '{"n": 1}', "", '[{"n": 2},{"n": 3}]', "text", '{"n": 4} ']


@either_form
async def test_a_flood_keeps_its_order_beside_pings(start_server: StartServer, compression: str | None) -> None:
    server = start_server(ping_interval=0.02, pong_timeout=WAIT_SECONDS, coalesce_ms=1, compress_min_bytes=150)
    async with opened(server, "anna", query="?batch=1", compression=compression) as socket:
        reading = asyncio.create_task(texts(socket, 4999))
        for first in range(0, 5000, 50):
            server.broadcast_many(burst(first, first + 50, padding=first % 300))
            await asyncio.sleep(0)
        received = await reading
        assert numbers(received) == list(range(5000))
        assert arrays(received)


@either_form
async def test_a_client_that_does_not_read_gets_whole_arrays_and_4002(
    start_server: StartServer, compression: str | None
) -> None:
    server = start_server(send_queue_bytes=65_536, coalesce_ms=0)
    async with opened(server, "anna", query="?batch=1", max_queue=1, compression=compression) as socket:
        socket.transport.pause_reading()
        sent = 0
        while server.stats().slow_consumers == 0:
            server.broadcast_many(burst(sent, sent + 25, padding=2000))
            sent += 25
            await until(lambda: server.stats().backlog_bytes == 0)
        socket.transport.resume_reading()
        received = await rest(socket)
        assert await closed(socket) == (4002, "Slow consumer")
        assert arrays(received)
        assert numbers(received) == list(range(len(numbers(received))))
        assert len(numbers(received)) < sent


async def test_a_drain_sends_what_waits_before_its_close(start_server: StartServer) -> None:
    server = start_server()
    async with opened(server, "anna", query="?batch=1", max_queue=None) as socket:
        server.broadcast_many(burst(0, 300))
        stopping = asyncio.create_task(asyncio.to_thread(server.stop, 5))
        assert numbers(await texts(socket, 299)) == list(range(300))
        assert (await closed(socket))[0] == 1001
        await stopping
