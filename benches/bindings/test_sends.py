"""What a send costs its caller, by audience and payload. The writing is the core's threads' and not in it."""

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches.bindings.conftest import USERS, at_rest, timed
from benches.messages import message
from jasaweb_rt import FanoutServer
from jasaweb_rt.messages import SystemAnnouncement

AUDIENCES = (1, 10, 100, 1_000)
PAYLOADS = (64, 1_024, 16_384)
_ROUNDS = 200


def measure(benchmark: BenchmarkFixture, server: FanoutServer, send: Callable[[], int], connections: int) -> None:
    """Times `send`, which reaches so many connections, call by call."""
    assert timed(benchmark, send, lambda: at_rest(server), _ROUNDS) == connections


@pytest.mark.parametrize("size", PAYLOADS)
@pytest.mark.benchmark(group="broadcast_to_user, by payload")
def test_to_user(benchmark: BenchmarkFixture, connected: FanoutServer, size: int) -> None:
    frame = message(0, size)
    measure(benchmark, connected, lambda: connected.broadcast_to_user(USERS[0], frame), 1)


@pytest.mark.benchmark(group="broadcast_to_user, by payload")
def test_to_user_by_struct(benchmark: BenchmarkFixture, connected: FanoutServer) -> None:
    frame = SystemAnnouncement(title="Maintenance", message="Tonight at ten", priority="low")
    measure(benchmark, connected, lambda: connected.broadcast_to_user(USERS[0], frame), 1)


@pytest.mark.parametrize("audience", AUDIENCES)
@pytest.mark.benchmark(group="broadcast_to_users, by audience")
def test_to_users(benchmark: BenchmarkFixture, connected: FanoutServer, audience: int) -> None:
    frame, users = message(0, 256), USERS[:audience]
    measure(benchmark, connected, lambda: connected.broadcast_to_users(users, frame), audience)


@pytest.mark.parametrize("audience", AUDIENCES)
@pytest.mark.benchmark(group="broadcast_many, by audience")
def test_many(benchmark: BenchmarkFixture, connected: FanoutServer, audience: int) -> None:
    items = [(user, message(number, 256)) for number, user in enumerate(USERS[:audience])]
    measure(benchmark, connected, lambda: connected.broadcast_many(items), audience)


@pytest.mark.parametrize("size", PAYLOADS)
@pytest.mark.benchmark(group="broadcast_to_all, by payload")
def test_to_all(benchmark: BenchmarkFixture, connected: FanoutServer, size: int) -> None:
    frame = message(0, size)
    measure(benchmark, connected, lambda: connected.broadcast_to_all(frame), len(USERS))
