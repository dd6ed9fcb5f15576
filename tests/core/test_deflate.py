"""permessage-deflate (RFC 7692) with a client library that speaks it."""

import base64
import json
import os

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Offer

from jasaweb_rt._core import ClientFrame, FanoutServer
from tests.core.conftest import StartServer
from tests.support.sockets import closed, frame, opened, settled, until

LARGE = json.dumps({"type": "notification", "data": [{"id": n, "message": "the same again"} for n in range(500)]})


async def received(server: FanoutServer, count: int) -> list[bytes]:
    """The next `count` frames of clients."""
    found: list[bytes] = []

    def is_complete() -> bool:
        found.extend(event.frame for event in server.drain_events() if isinstance(event, ClientFrame))
        return len(found) >= count

    await until(is_complete, "what the client sent")
    return found


async def test_a_large_frame_is_compressed_once_for_all(start_server: StartServer) -> None:
    server = start_server(workers=2)
    async with (
        opened(server, "anna") as anna,
        opened(server, "budi") as budi,
        opened(server, "citra", compression=None) as plain,
    ):
        before = await settled(server)
        assert server.broadcast_to_users(["anna", "budi"], LARGE) == 2
        assert [await frame(socket) for socket in (anna, budi)] == [json.loads(LARGE)] * 2
        after = server.stats()
        assert after.compressions == before.compressions + 1
        assert after.bytes_written - before.bytes_written < len(LARGE) / 4
        assert server.broadcast_to_user("citra", LARGE) == 1
        assert await frame(plain) == json.loads(LARGE)
        assert server.stats().compressions == after.compressions


async def test_a_small_frame_goes_out_as_it_is(start_server: StartServer) -> None:
    server = start_server(compress_min_bytes=1000)
    async with opened(server, "anna") as anna:
        for size in (999, 1000):
            text = json.dumps("x" * (size - 2))
            server.broadcast_to_user("anna", text)
            assert await anna.recv() == text
        assert server.stats().compressions == 1


async def test_no_extension_is_agreed_on_where_it_is_off(start_server: StartServer) -> None:
    server = start_server(compress_min_bytes=0)
    async with opened(server, "anna") as anna:
        assert anna.response is not None
        assert "Sec-WebSocket-Extensions" not in anna.response.headers
        server.broadcast_to_user("anna", LARGE)
        assert await frame(anna) == json.loads(LARGE)
        assert server.stats().compressions == 0


@pytest.mark.parametrize(
    ("offer", "accepted"),
    [
        (Offer(), True),
        (Offer(client_max_window_bits=9), True),
        (Offer(server_max_window_bits=15, client_max_window_bits=15), True),
        (Offer(server_no_context_takeover=True, client_no_context_takeover=True), True),
        (Offer(server_max_window_bits=12, client_max_window_bits=12), False),
    ],
)
async def test_both_ways_with_any_offer(server: FanoutServer, offer: Offer, accepted: bool) -> None:
    server.fileno()
    async with opened(server, "anna", compression=None, extensions=[offer]) as anna:
        assert anna.response is not None
        assert ("Sec-WebSocket-Extensions" in anna.response.headers) is accepted
        for _ in range(2):
            server.broadcast_to_user("anna", LARGE)
            assert await frame(anna) == json.loads(LARGE)
            await anna.send(LARGE)
            await anna.send([LARGE[:10], "", LARGE[10:]])
        assert await received(server, 4) == [LARGE.encode()] * 4


async def test_a_message_is_as_long_as_it_becomes(server: FanoutServer) -> None:
    server.fileno()
    async with opened(server, "anna") as anna:
        await anna.send(" " * 65_536)
        await anna.send(" " * 65_537)
        assert (await closed(anna))[0] == 1009
    assert await received(server, 1) == [b" " * 65_536]


async def test_what_hardly_shrinks_arrives(server: FanoutServer) -> None:
    server.fileno()
    async with opened(server, "anna") as anna:
        # Base64 of noise shrinks by its alphabet alone.
        noise = base64.b64encode(os.urandom(32_000)).decode()
        await anna.send(noise)
        assert await received(server, 1) == [noise.encode()]
        server.broadcast_to_user("anna", noise)
        assert await anna.recv() == noise
