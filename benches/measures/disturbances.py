"""What goes wrong beside a paced load, and who must not notice."""

import statistics
import time
from collections.abc import Iterator

from benches.load import SERVER_CORES, Connections, Load
from benches.measures.figures import OURS, RATIO, Figure, Run, Subject, paced, ratio
from benches.programs import fan_out
from benches.programs import spinning as spinning_program

__all__ = ["slow", "spinning"]

_RATE, _COUNT = 8, 60
_SLOW_SHARE = 0.01
_SLOW_BYTES = 8_192
_SLOW_COUNT = 120
_SLOW_QUEUE_BYTES = 65_536
_LEAVE_SECONDS = 20.0
_LOOK_SECONDS = 0.05


def spinning(run: Run) -> Iterator[Figure]:
    """A Python thread that spins and an event loop that is blocked, in the server's process against beside it.

    Who spins takes processor time from the server wherever it runs. So it runs on the server's core in both cases, and
    what differs is whose interpreter it holds. The publisher, which needs that interpreter too, stamps a message when
    it hands it over: what is measured is the core's work from there on, not when Python got round to it.
    """
    load = paced(rate=_RATE, count=_COUNT)
    beside = Subject("spinning beside it", OURS.command)
    within = Subject("spinning within", OURS.command)

    def load_beside(users: Connections) -> Load:
        with spinning_program(SERVER_CORES):
            return load(users)

    def load_within(users: Connections) -> Load:
        users.program.tell("disturb")
        users.program.answer("disturbed")
        return load(users)

    rounds = run.loads({OURS: load, beside: load_beside, within: load_within})
    what = "p99 with a Python thread spinning and the event loop blocked, against the same spinning in another process"
    alone = f"; {rounds.median(OURS, 'p99') * 1e3:.2f} ms with nothing beside"
    yield ratio(rounds, what, "p99", of=within, to=beside, goal=1.10, detail=alone)


def slow(run: Run) -> Iterator[Figure]:
    """Some clients stop reading; their queues are small and the messages large, so that it shows within seconds."""
    command = fan_out(send_queue_bytes=_SLOW_QUEUE_BYTES)
    still, stopped = Subject("all reading", command), Subject("1 % stopped", command)
    count = max(1, round(run.connections * _SLOW_SHARE))
    load = paced(rate=_RATE, count=_SLOW_COUNT, size=_SLOW_BYTES)
    not_closed: list[int] = []
    grown: list[float] = []

    def stop_some(users: Connections) -> Load:
        load(users)
        before = users.program.resident_kib()
        users.client.pause(count, True)
        others = users.count - count
        seen = users.load(f"publish {_RATE} {_SLOW_COUNT} {_SLOW_BYTES}", _SLOW_COUNT * others)
        deadline = time.monotonic() + _LEAVE_SECONDS
        while (stats := users.program.stats())["connections"] > others and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        not_closed.append(count - stats["slow_consumers"])
        grown.append(users.program.resident_kib() / before)
        return seen

    rounds = run.loads({still: load, stopped: stop_some})
    what = f"{count} of {run.connections:,} clients stop reading: "
    yield ratio(
        rounds, f"{what}p99 of the others, against the same with all reading", "p99", of=stopped, to=still, goal=1.20
    )
    yield Figure(f"{what}those that were not closed with 4002", max(not_closed), "connections", 0, "worst round")
    detail = "resident memory of the process, at the end and before"
    yield Figure(f"{what}memory when they have gone, against before", statistics.median(grown), RATIO, 1.05, detail)
