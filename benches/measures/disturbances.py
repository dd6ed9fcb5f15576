"""What goes wrong beside a paced load, and who must not notice."""

import json
import statistics
import time
from collections.abc import Iterator

from benches.load import CLIENT_CORES, SERVER_CORES, Connections, Load
from benches.measures.figures import OURS, RATIO, Figure, Run, Subject, paced, ratio
from benches.programs import Program, fan_out
from benches.programs import spinning as spinning_program
from benches.slow_peers import PHASES, command

__all__ = ["besieged", "slow", "spinning"]

_RATE, _COUNT = 8, 60
_SLOW_SHARE = 0.01
_HONEST, _BESIEGERS = 1_000, 5_000
# So many that the slowest hundredth of the receipts is of several messages, not of one that met with something else.
_SIEGE_RATE, _SIEGE_COUNT = 20, 400
_BESIEGER_SECONDS = 1.0
_QUEUE_BYTES = 1_048_576
# What the queue of a client that has stopped still takes when the load begins: two seconds of it.
_ROOM_BYTES = 4_096
_LEAVE_SECONDS = 20.0
_BACK_SECONDS = 5
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
    """Some clients stop reading.

    A kernel takes megabytes for one that does not read, which at this pace would take an hour. So those who stop are
    sent more before the load begins, until their queues are all but full.
    """
    command = fan_out(send_queue_bytes=_QUEUE_BYTES)
    still, stopped = Subject("all reading", command), Subject("1 % stopped", command)
    count = max(1, round(run.connections * _SLOW_SHARE))
    load = paced(rate=_RATE, count=_COUNT)
    not_closed: list[int] = []
    sizes: list[tuple[float, float, float]] = []

    def fill(users: Connections, number: int) -> None:
        users.program.tell(f"fill {number} {_QUEUE_BYTES - _ROOM_BYTES}")
        users.program.answer("filled")

    def stop_some(users: Connections) -> Load:
        load(users)
        fill(users, 0)  # to look at the queues takes memory of its own
        before = users.program.resident_kib()
        users.client.pause(count, True)
        fill(users, count)
        full = users.program.resident_kib()
        others = users.count - count
        seen = users.load(f"publish {_RATE} {_COUNT} 256", _COUNT * others)
        deadline = time.monotonic() + _LEAVE_SECONDS
        while (stats := users.program.stats())["connections"] > others and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        not_closed.append(count - stats["slow_consumers"])
        # An allocator gives memory back when it is used again, and a little later.
        for _ in range(_BACK_SECONDS):
            users.load(f"publish {_RATE} {_RATE} 256", _RATE * others)
            if (after := users.program.resident_kib()) <= before:
                break
        sizes.append((before, full, after))
        return seen

    rounds = run.loads({still: load, stopped: stop_some})
    what = f"{count} of {run.connections:,} clients stop reading: "
    words = f"{what}p99 of the others, against the same with all reading"
    yield ratio(rounds, words, "p99", of=stopped, to=still, goal=1.20)
    yield Figure(f"{what}not closed with 4002", max(not_closed), "connections", 0, "worst round")
    before, full, after = (statistics.median(column) / 1024 for column in zip(*sizes, strict=True))
    detail = f"{before:.1f} MiB, {full:.1f} MiB with full queues, {after:.1f} MiB at the end"
    yield Figure(f"{what}memory when they have gone, against before", after / before, RATIO, 1.05, detail)


def besieged(run: Run) -> Iterator[Figure]:
    """Honest clients, while many more peers take their time in every phase of a connection, and come again when cut.

    Messages go to the honest ones alone: that more receivers take more time is no news.
    """
    honest = run.share(_HONEST)
    counts = dict.fromkeys(PHASES, max(1, run.share(_BESIEGERS) // len(PHASES)))
    many = sum(counts.values())
    alone, under_siege = Subject("alone", OURS.command), Subject("besieged", OURS.command)
    cut: list[int] = []

    def load(users: Connections) -> Load:
        order = f"users {_SIEGE_RATE} {{}} 256 {users.count}"
        users.load(order.format(2), 2 * users.count)
        return users.load(order.format(_SIEGE_COUNT), _SIEGE_COUNT * users.count)

    def load_under_siege(users: Connections) -> Load:
        besiegers = command(users.program.address, counts, pause=_BESIEGER_SECONDS, again=True)
        with Program(besiegers, CLIENT_CORES) as crowd:
            found = load(users)
            crowd.tell("ended")
            cut.append(sum(json.loads(crowd.answer("ended")).values()))
        return found

    rounds = run.loads({alone: load, under_siege: load_under_siege}, connections=honest)
    what = f"p99 of {honest:,} clients while {many:,} peers are slow in every phase, against the same without them"
    detail = f"; {statistics.median(cut):,.0f} slow ones were cut meanwhile, and came again"
    yield ratio(rounds, what, "p99", of=under_siege, to=alone, goal=1.20, detail=detail)
