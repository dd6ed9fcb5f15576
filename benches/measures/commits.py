"""From a commit to the sockets: how soon, how many, and to how many at once."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from benches.durable import IS_LOGGED, IS_RELAYED, Receipts, announce, online, watch
from benches.load import Connections
from benches.measures.figures import RATIO, Figure, Run
from benches.postgres import Database, postgres
from benches.writers import WRITERS, Written, write

__all__ = ["bulk", "receipt", "writers"]

_USERS = 1_000
_RATE = 1_000
_SECONDS, _WARM_UP_SECONDS = 8, 2
_EVERYONE = 100_000
_ANNOUNCEMENTS = 3


def receipt(run: Run) -> Iterator[Figure]:
    """From a commit to its client's receipt, at a moderate rate."""
    users, rate = run.share(_USERS), run.share(_RATE)
    found: list[tuple[Receipts, Written]] = []
    doubts: list[str] = []
    with postgres() as server:
        for _ in range(run.rounds):
            with server.database(users) as database:
                seen, written = _written(database, users, rate)
            found.append((seen, written))
            doubts += [*seen.doubts(), *written.doubts()]
    each = statistics.median(written.latency * 1e3 for _, written in found)
    cpu = statistics.median(seen.cpu_each for seen, _ in found)
    what = f"commit to client's receipt, {rate:,} notifications/s to {users:,} users"
    detail = f"the writer's own INSERT: {each:.2f} ms on average; {cpu:.0f} µs of the gateway's CPU each"
    for words, share, goal in (("p50", 0.5, 3.0), ("p99", 0.99, 20.0)):
        value = statistics.median(seen.delay(share) for seen, _ in found)
        yield Figure(f"{what}: {words}", value, "ms", goal, detail, tuple(doubts))


def writers(run: Run) -> Iterator[Figure]:
    """As many single-row transactions as the machine can do, all delivered, against the same without our triggers."""
    users = run.share(_USERS)
    plain: list[float] = []
    ours: list[float] = []
    found: list[Receipts] = []
    doubts: list[str] = []
    with postgres() as server:
        for _ in range(run.rounds):
            with server.database(users, triggers=False) as database:
                write(database, users=users, seconds=_WARM_UP_SECONDS)
                written = write(database, users=users, seconds=_SECONDS)
            plain.append(written.rate)
            doubts += [f"without triggers: {doubt}" for doubt in written.doubts()]
            with server.database(users) as database:
                seen, written = _written(database, users, None)
            ours.append(written.delivered_rate(seen.last))
            found.append(seen)
            doubts += [*seen.doubts(), *written.doubts()]
    base, rate = statistics.median(plain), statistics.median(ours)
    p99, cpu = (statistics.median(column) for column in zip(*((s.delay(0.99), s.cpu_each) for s in found), strict=True))
    yield Figure(
        f"durable notifications/s, single-row transactions from {WRITERS} writers, {users:,} users, all delivered: the "
        "same inserts without triggers against that",
        base / rate,
        RATIO,
        2.0,
        f"{base:,.0f} a second against {rate:,.0f}; p99 {p99:.0f} ms, {cpu:.0f} µs of the gateway's CPU each",
        tuple(doubts),
    )


def _written(database: Database, users: int, rate: float | None) -> tuple[Receipts, Written]:
    """What arrived of that, with all users online."""
    found: list[Written] = []

    def act(seconds: float) -> int:
        found.append(write(database, users=users, seconds=seconds, rate=rate))
        return found[-1].count

    with online(database, users) as connections:
        watch(connections, lambda: act(_WARM_UP_SECONDS))
        seen = watch(connections, lambda: act(_SECONDS))
    return seen, found[-1]


@dataclass(frozen=True)
class _Announced:
    """What became of an announcement, in milliseconds."""

    stored: float
    """From its statement to the answer to its COMMIT."""
    first: float
    """From its COMMIT to the first receipt; `last` to the last of those that are online."""
    last: float
    answered: float
    """From its COMMIT to the answer to that."""


def bulk(run: Run) -> Iterator[Figure]:
    """An announcement to everyone, of whom some are online, on a connection that has made one before."""
    everyone, here = run.share(_EVERYONE), run.connections
    plain: list[float] = []
    ours: list[_Announced] = []
    doubts: list[str] = []
    with postgres() as server:
        for _ in range(run.rounds):
            with server.database(everyone, triggers=False) as database, database.session() as session:
                announce(session)
                for _ in range(_ANNOUNCEMENTS):
                    began, _, answered = announce(session)
                    plain.append((answered - began) / 1e6)
            with server.database(everyone) as database, online(database, here) as users:
                found, doubted = _announced(database, users)
            ours += found
            doubts += doubted
    base, stored = statistics.median(plain), statistics.median(each.stored for each in ours)
    what = f"one announcement to {everyone:,} users, {here:,} of them online"
    detail = f"{stored:,.0f} ms against {base:,.0f} ms"
    yield Figure(f"{what}: stored, against without triggers", stored / base, RATIO, 3.0, detail, tuple(doubts))
    first, last, answered = (
        statistics.median(getattr(each, name) for each in ours) for name in ("first", "last", "answered")
    )
    detail = f"its answer after {answered:.1f} ms, the last of those online after {last:,.0f} ms"
    yield Figure(f"{what}: from COMMIT to the first client", first, "ms", 100.0, detail, tuple(doubts))


def _announced(database: Database, users: Connections) -> tuple[list[_Announced], list[str]]:
    """What became of some announcements after a first one, and why that should not be believed."""
    found: list[_Announced] = []
    doubts: list[str] = []
    moments: list[tuple[int, int, int]] = []
    with database.session() as session:

        def act() -> int:
            moments.append(announce(session))
            return users.count

        for number in range(1 + _ANNOUNCEMENTS):
            seen = watch(users, act)
            began, committing, answered = moments[-1]
            if number:
                first = began + seen.delay(0.0) * 1e6 - committing
                times = (answered - began, first, seen.last - committing, answered - committing)
                found.append(_Announced(*(time / 1e6 for time in times)))
                doubts += seen.doubts()
            # Nothing of it may be left when the next one is measured.
            if not (database.wait_for(IS_RELAYED) and database.wait_for(IS_LOGGED, users.count * (number + 1))):
                doubts.append("the gateway was not done with one before the next")
    return found, doubts
