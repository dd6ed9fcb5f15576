"""The load client against a real server: what it counts is what happened."""

import json
import socket
import time
from collections.abc import Iterator

import pytest

from jasaweb_rt._core import FanoutServer, LoadClient, ServerStoppedError
from tests.core.conftest import StartServer
from tests.support.sockets import WAIT_SECONDS, until
from tests.support.tokens import connection_token


@pytest.fixture
def load_client() -> Iterator[LoadClient]:
    client = LoadClient()
    yield client
    client.stop()


def upgrade(user_id: str, *extra: str) -> bytes:
    """A request for a socket, with `extra` headers."""
    lines = [
        f"GET /ws?token={connection_token(user_id)} HTTP/1.1",
        "Host: rt.test",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *extra,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def stamped(size: int = 100) -> str:
    return json.dumps({"type": "bench", "data": {"stamp": time.monotonic_ns(), "pad": "x" * size}})


async def test_every_message_of_every_connection_is_counted_and_timed(
    server: FanoutServer, load_client: LoadClient
) -> None:
    users = [f"user-{number}" for number in range(50)]
    opened, seconds = load_client.connect(server.address, [upgrade(user) for user in users], in_flight=7)
    assert opened == 50
    assert seconds > 0
    await until(lambda: load_client.report().messages == 50)  # the welcomes
    load_client.clear()
    for size in (10, 200, 70_000):
        server.broadcast_to_all(stamped(size))
    await until(lambda: load_client.report().messages == 150)
    report = load_client.report()
    assert (report.open, report.timed, report.compressed) == (50, 150, 0)
    assert report.bytes > 50 * 70_000
    assert [received for _, received, _ in report.publications] == [50, 50, 50]
    assert all(last > stamp for stamp, _, last in report.publications)
    median, slowest = report.delay(0.5), report.delay(1.0)
    assert median is not None
    assert slowest is not None
    assert 0 < median <= slowest


async def test_pings_are_answered_and_ends_are_counted_by_their_code(
    start_server: StartServer, load_client: LoadClient
) -> None:
    server = start_server(ping_interval=0.05, pong_timeout=WAIT_SECONDS)
    load_client.connect(server.address, [upgrade("user-1")] * 3)
    [first, *_] = server.connections()
    # A ping goes out only when the one before was answered.
    await until(lambda: all(one.last_activity > first.connected_at + 0.6 for one in server.connections()))
    assert load_client.report().closed == []
    server.disconnect(first.connection_id)
    await until(lambda: load_client.report().closed == [(4500, 1)])
    load_client.close(1)
    await until(lambda: server.stats().connections == 1)
    assert load_client.report().open == 1


async def test_what_is_refused_is_counted_by_its_status(start_server: StartServer, load_client: LoadClient) -> None:
    server = start_server(max_connections=2)
    opened, _ = load_client.connect(server.address, [upgrade("user-1")] * 3, in_flight=1)
    assert opened == 2
    assert load_client.report().refused == [(503, 1)]


async def test_one_that_does_not_read_is_closed_once_it_reads_again(
    start_server: StartServer, load_client: LoadClient
) -> None:
    server = start_server(send_queue_bytes=100_000)
    load_client.connect(server.address, [upgrade("user-1")])
    load_client.pause(1, True)

    while not server.stats().slow_consumers:
        server.broadcast_to_all(stamped(50_000))
        await until(lambda: server.stats().backlog_bytes == 0)
    load_client.pause(1, False)
    await until(lambda: load_client.report().closed in ([(4002, 1)], [(1006, 1)]))


async def test_who_is_paused_reads_what_came_meanwhile_when_it_goes_on(
    server: FanoutServer, load_client: LoadClient
) -> None:
    load_client.connect(server.address, [upgrade(f"user-{number}") for number in range(3)], in_flight=1)
    await until(lambda: load_client.report().messages == 3)  # the welcomes
    load_client.clear()
    load_client.pause(2, True)
    load_client.pause(2, True)
    for _ in range(5):
        server.broadcast_to_all(stamped())
    await until(lambda: load_client.report().timed == 5)
    load_client.pause(2, False)
    await until(lambda: load_client.report().timed == 15)
    server.broadcast_to_all(stamped())
    await until(lambda: load_client.report().timed == 18)


async def test_what_comes_compressed_is_counted_and_not_timed(server: FanoutServer, load_client: LoadClient) -> None:
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    load_client.connect(server.address, [upgrade("user-1", offer), upgrade("user-2")])
    await until(lambda: load_client.report().messages == 2)  # the welcomes
    load_client.clear()
    server.broadcast_to_all(stamped(1_000))
    await until(lambda: load_client.report().messages == 2)
    report = load_client.report()
    assert (report.compressed, report.timed) == (1, 1)


def test_after_its_stop_every_call_says_so(load_client: LoadClient) -> None:
    load_client.stop()
    with pytest.raises(ServerStoppedError):
        load_client.report()


def test_a_share_is_between_none_and_all(load_client: LoadClient) -> None:
    assert load_client.report().delay(0.99) is None
    with pytest.raises(ValueError, match="quantile"):
        load_client.report().delay(1.5)


def test_a_server_that_is_not_there_is_a_refusal(load_client: LoadClient) -> None:
    # Bound, so that nobody else listens there.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        assert load_client.connect(silent.getsockname(), [upgrade("user-1")])[0] == 0
    assert load_client.report().refused == [(0, 1)]
