"""permessage-deflate (RFC 7692) against the same sent plain."""

import statistics
from collections.abc import Iterator

from benches.load import Connections, Load
from benches.measures.figures import RATIO, Figure, Rounds, Run, Subject, Work, ratio
from benches.programs import fan_out

__all__ = ["deflate"]

_SIZE = 16_384
# Bursts of messages of this size may queue up for longer than the default allows for.
_COMMAND = fan_out(send_queue_bytes=64 * 1024 * 1024)
_PLAIN, _DEFLATED = Subject("plain", _COMMAND), Subject("deflated", _COMMAND, deflate=True)
_BURST = 25


def deflate(run: Run) -> Iterator[Figure]:
    """Large messages of words: one at a time, and in floods, which come in bursts or evenly."""
    per_message: list[float] = []
    for words, connections, rate, count, burst, goal in (
        ("one at a time", run.connections, 2, 15, 1, 0.75),
        (f"in bursts of {_BURST}", run.share(1_000), 4, 16, _BURST, 0.40),
        ("200 a second", run.share(500), 200, 800, 1, None),
    ):
        work = _paced(rate, count, burst, per_message)
        rounds = run.loads({_PLAIN: work, _DEFLATED: work}, connections=connections)
        rounds.doubts += _negotiation(rounds)
        what = f"16 KiB messages to {connections:,} clients that offer permessage-deflate, {words}: CPU per delivery"
        yield ratio(rounds, f"{what}, against plain", "cpu_per_delivery", of=_DEFLATED, to=_PLAIN, goal=goal)
    if per_message:
        yield Figure("compressions a message", statistics.median(per_message), RATIO, 1.0, "whatever the audience")


def _paced(rate: float, count: int, burst: int, per_message: list[float]) -> Work:
    """`rate` times a second `burst` messages at once; notes how many compressions each message took."""

    def work(users: Connections) -> Load:
        users.load(f"text {rate} 2 {_SIZE} {burst}", 2 * burst * users.count)
        before = users.program.stats()["compressions"]
        load = users.load(f"text {rate} {count} {_SIZE} {burst}", count * burst * users.count)
        if load.compressed:
            per_message.append((users.program.stats()["compressions"] - before) / (count * burst))
        return load

    return work


def _negotiation(rounds: Rounds) -> Iterator[str]:
    for load in rounds.loads[_DEFLATED.name]:
        if load.compressed == 0:
            yield "the server did not negotiate: all came plain"
        elif load.compressed < load.deliveries:
            yield f"{load.compressed:,} of {load.deliveries:,} came deflated"
