"""What it costs to take client frames out of the core, by their number."""

import socket
import threading
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches.bindings.conftest import timed
from benches.messages import requests
from jasaweb_rt import FanoutServer

NUMBERS = (1, 100, 4_000)
_ROUNDS = 50
_WAIT_SECONDS = 10.0
_PAYLOAD = b'{"type":"ack","data":{"seq":1}}'
# A text frame as clients send it (RFC 6455 section 5.2); masked by zeros, the payload stays as it is.
_FRAME = bytes([0x81, 0x80 | len(_PAYLOAD), 0, 0, 0, 0]) + _PAYLOAD
_NONCE = b"all read"
_PING = bytes([0x89, 0x80 | len(_NONCE), 0, 0, 0, 0]) + _NONCE


@pytest.fixture
def client(server: FanoutServer) -> Iterator[socket.socket]:
    """A socket of one user, past its handshake."""
    with socket.create_connection(server.address, timeout=10) as sender:
        sender.sendall(requests(["user-1"])[0])
        sender.recv(4096)
        yield sender


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.benchmark(group="drain_events, by frames that wait")
def test_drain(benchmark: BenchmarkFixture, server: FanoutServer, client: socket.socket, number: int) -> None:
    server.drain_events()

    def send() -> None:
        client.sendall(_FRAME * number + _PING)
        seen = b""
        while _NONCE not in seen:  # the pong, which answers what lies behind the frames
            received = client.recv(4096)
            assert received
            seen += received

    assert timed(benchmark, lambda: len(server.drain_events()), send, _ROUNDS) == number


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.benchmark(group="on_message, from send(2) to the last callback")
def test_callback(benchmark: BenchmarkFixture, server: FanoutServer, client: socket.socket, number: int) -> None:
    missing = 0
    complete = threading.Event()

    def count(batch: list[tuple[str, str, str, bytes]]) -> None:
        nonlocal missing
        missing -= len(batch)
        if missing == 0:
            complete.set()

    def expect() -> None:
        nonlocal missing
        missing = number
        complete.clear()

    def send() -> bool:
        client.sendall(_FRAME * number)
        return complete.wait(_WAIT_SECONDS)

    server.on_message(count)
    assert timed(benchmark, send, expect, _ROUNDS)
