"""Sends to users, one by one and many at a time, from Python."""

import statistics
import time
from collections.abc import Iterator

from benches.load import Connections, Load
from benches.measures.figures import Figure, Run, ratio
from benches.messages import TOKEN_SECRET, message
from jasaweb_rt import FanoutServer

__all__ = ["absent", "distinct"]

_CALLS = 200_000
_PER_USER = 2
_SECONDS = 6
_PER_SECOND = 40_000


def absent(run: Run) -> Iterator[Figure]:
    """A send to a user who is not connected."""
    server = FanoutServer(token_secret=TOKEN_SECRET)
    server.start()
    frame = message(time.monotonic_ns(), 256)
    taken = []
    try:
        for _ in range(run.rounds):
            began = time.perf_counter()
            for _ in range(_CALLS):
                server.broadcast_to_user("nobody", frame)
            taken.append((time.perf_counter() - began) / _CALLS * 1e6)
    finally:
        server.stop(0)
    yield Figure("`broadcast_to_user` to an absent user", statistics.median(taken), "µs", 0.5, "the loop included")


def distinct(run: Run) -> Iterator[Figure]:
    """A message of its own for each user, on two connections each; making it counts, for both programs."""
    everyone = run.connections // _PER_USER
    for order, users, words, goal in (
        ("each", everyone, "one `broadcast_to_user` each", 1.25),
        ("many", min(everyone, 1_000), "`broadcast_many` of {:,} users", 1.10),
    ):
        rate = _PER_SECOND / (users * _PER_USER)

        def work(users_on: Connections, order: str = order, users: int = users, rate: float = rate) -> Load:
            deliveries = users * _PER_USER
            users_on.load(f"{order} {rate} 2 256 {users}", 2 * deliveries)
            count = max(1, round(rate * _SECONDS))
            return users_on.load(f"{order} {rate} {count} 256 {users}", count * deliveries)

        rounds = run.against_floor(work, per_user=_PER_USER)
        what = f"distinct messages to distinct users, {run.connections:,} connections, two a user, "
        yield ratio(rounds, f"{what}{words.format(users)}: CPU per delivery", "cpu_per_delivery", goal=goal)
