"""What the record of what was sent costs."""

import statistics
import time
from collections.abc import Iterator

from benches.durable import IS_LOGGED, Receipts, announce, online, watch
from benches.load import Connections
from benches.measures.figures import RATIO, Figure, Run
from benches.postgres import Database, Session, postgres

__all__ = ["log"]

_RATE, _COUNT = 1, 10
# What was sent is written a second or two later, and what has arrived once more: before that it is not looked for.
_WRITE_SECONDS = 3.0
_LOOK_SECONDS = 0.5


def log(run: Run) -> Iterator[Figure]:
    """Announcements to everyone, at an easy pace, with the message log and without."""
    users = run.connections
    on: list[float] = []
    off: list[float] = []
    doubts: list[str] = []
    with postgres() as server:
        for _ in range(run.rounds):
            with server.database(users) as database, online(database, users, message_log="durable") as connections:
                seen, seconds, complete = _logged(database, connections)
            on.append(seen.cpu_each)
            doubts += [f"on: {doubt}" for doubt in seen.doubts()]
            doubts += [] if complete else ["on: not all was in the log a minute later, and known to have arrived"]
            with server.database(users) as database, online(database, users, message_log="off") as connections:
                seen = _unlogged(database, connections, seconds)
            off.append(seen.cpu_each)
            doubts += [f"off: {doubt}" for doubt in seen.doubts()]
    value, base = statistics.median(on), statistics.median(off)
    yield Figure(
        f"message log on against off, {_RATE} announcement/s to {users:,} users: the gateway's CPU",
        value / base,
        RATIO,
        1.5,
        f"{value:.1f} µs a delivery against {base:.1f} µs",
        tuple(doubts),
    )


def _logged(database: Database, users: Connections) -> tuple[Receipts, float, bool]:
    """What arrived, how many seconds it took until all of it was written down, and whether it was."""
    complete: list[bool] = []

    def act(session: Session, count: int, rows: int) -> int:
        _announce(session, count)
        time.sleep(_WRITE_SECONDS)
        complete.append(database.wait_for(IS_LOGGED, rows, look=_LOOK_SECONDS))
        return count * users.count

    with database.session() as session:
        watch(users, lambda: act(session, 1, users.count))
        began = time.monotonic()
        seen = watch(users, lambda: act(session, _COUNT, (1 + _COUNT) * users.count))
        return seen, time.monotonic() - began, all(complete)


def _unlogged(database: Database, users: Connections, seconds: float) -> Receipts:
    """What arrived, looked at for as long."""

    def act(session: Session) -> int:
        began = time.monotonic()
        _announce(session, _COUNT)
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        return _COUNT * users.count

    with database.session() as session:
        watch(users, lambda: _announce(session, 1) * users.count)
        return watch(users, lambda: act(session))


def _announce(session: Session, count: int) -> int:
    """Stores `count` announcements, and returns that."""
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / _RATE - time.monotonic()))
        announce(session)
    return count
