"""permessage-deflate (RFC 7692) against the same sent plain."""

import statistics
from collections.abc import Iterator

from benches.load import Connections, Load
from benches.measures.figures import RATIO, Figure, Rounds, Run, Subject, ratio
from benches.programs import fan_out

__all__ = ["deflate"]

_SIZE = 16_384
# A flood of messages of this size may queue up for longer than the default allows for.
_COMMAND = fan_out(send_queue_bytes=64 * 1024 * 1024)
_PLAIN, _DEFLATED = Subject("plain", _COMMAND), Subject("deflated", _COMMAND, deflate=True)


def deflate(run: Run) -> Iterator[Figure]:
    """Large messages of words, one at a time and in a flood."""
    per_message: list[float] = []
    for words, connections, rate, count, goal in (
        ("one at a time", run.connections, 2, 15, 0.75),
        ("in a flood", run.share(500), 200, 1_000, 0.40),
    ):

        def work(users: Connections, rate: float = rate, count: int = count) -> Load:
            users.load(f"text {rate} 2 {_SIZE}", 2 * users.count)
            before = users.program.stats()
            load = users.load(f"text {rate} {count} {_SIZE}", count * users.count)
            done = users.program.stats().get("compressions", 0) - before.get("compressions", 0)
            if load.compressed:
                per_message.append(done / count)
            return load

        rounds = run.loads({_PLAIN: work, _DEFLATED: work}, connections=connections)
        _doubt_negotiation(rounds)
        what = f"16 KiB messages to {connections:,} clients that offer permessage-deflate, {words}"
        yield ratio(
            rounds, f"{what}: CPU per delivery, against plain", "cpu_per_delivery", of=_DEFLATED, to=_PLAIN, goal=goal
        )
    if per_message:
        yield Figure("compressions a message", statistics.median(per_message), RATIO, 1.0, "whatever the audience")


def _doubt_negotiation(rounds: Rounds) -> None:
    for load in rounds.loads[_DEFLATED.name]:
        if load.compressed == 0:
            rounds.doubts.append("the server did not negotiate: all came plain")
        elif load.compressed < load.deliveries:
            rounds.doubts.append(f"{load.compressed:,} of {load.deliveries:,} came deflated")
