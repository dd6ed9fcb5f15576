"""A server with connections that read, and users who are sent to."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches.messages import TOKEN_SECRET, requests
from jasaweb_rt import FanoutServer
from jasaweb_rt._core import LoadClient

T = TypeVar("T")

USERS = [f"user-{number}" for number in range(1_000)]
_SETTLE_SECONDS = 20.0
_LOOK_SECONDS = 0.001


@pytest.fixture
def server() -> Iterator[FanoutServer]:
    """A server without limits on who comes and what they send."""
    server = FanoutServer(
        token_secret=TOKEN_SECRET, max_connections=0, max_connections_per_ip=0, connect_rate_per_ip=0, message_rate=0
    )
    server.start()
    yield server
    server.stop(0)


@pytest.fixture
def connected(server: FanoutServer) -> Iterator[FanoutServer]:
    """The server with each of `USERS` connected once."""
    client = LoadClient()
    try:
        opened, _ = client.connect(server.address, requests(USERS))
        assert opened == len(USERS)
        yield server
    finally:
        client.stop()


def until(condition: Callable[[], bool]) -> None:
    """Waits for `condition`.

    Raises:
        TimeoutError: it did not come true.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it should have come to rest")
        time.sleep(_LOOK_SECONDS)


def timed(benchmark: BenchmarkFixture, act: Callable[[], T], setup: Callable[[], None], rounds: int) -> T:
    """Times `act` call by call, `rounds` times, `setup` before each; returns what it returned last."""
    return cast("T", benchmark.pedantic(act, setup=setup, rounds=rounds, warmup_rounds=5))  # type: ignore[no-untyped-call]


def at_rest(server: FanoutServer) -> None:
    """Waits until nothing that was sent is still to be queued, so that no call pays for the one before it."""
    until(lambda: server.stats().backlog_bytes == 0)
