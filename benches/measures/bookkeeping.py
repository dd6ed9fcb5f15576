"""What the record of what was sent costs."""

import statistics
import time
from collections.abc import Iterator

from benches.durable import IS_LOGGED, IS_RELAYED, Receipts, announce, online, watch
from benches.measures.figures import RATIO, Figure, Run
from benches.postgres import Database, postgres

__all__ = ["log"]

_RATE, _COUNT = 1, 10
# What was sent is written a second or two later, and what has arrived once more.
_WRITE_SECONDS = 6.0


def log(run: Run) -> Iterator[Figure]:
    """Announcements to everyone, at an easy pace, with the message log and without."""
    found: dict[str, list[Receipts]] = {"durable": [], "off": []}
    doubts: list[str] = []
    with postgres() as server:
        for _ in range(run.rounds):
            for mode, seen in found.items():
                with server.database(run.connections) as database:
                    seen.append(_paced(database, run.connections, mode))
                    doubts += [f"{mode}: {doubt}" for doubt in seen[-1].doubts()]
                    rows = run.connections * (1 + _COUNT) if mode == "durable" else 0
                    if not database.run(IS_LOGGED, rows):
                        doubts.append(f"{mode}: not all was in the log by then, and known to have arrived")
    on, off = (statistics.median(receipts.cpu_each for receipts in seen) for seen in found.values())
    yield Figure(
        f"message log on against off, {_RATE} announcement/s to {run.connections:,} users: the gateway's CPU",
        on / off,
        RATIO,
        1.5,
        f"{on:.1f} µs a delivery against {off:.1f} µs",
        tuple(doubts),
    )


def _paced(database: Database, users: int, mode: str) -> Receipts:
    """What arrived; processor time counts until all of it is written down, and as long where nothing is."""
    with online(database, users, message_log=mode) as connections, database.session() as session:

        def act(count: int) -> int:
            began = time.monotonic()
            for number in range(count):
                time.sleep(max(0.0, began + number / _RATE - time.monotonic()))
                announce(session)
            time.sleep(max(0.0, began + count / _RATE + _WRITE_SECONDS - time.monotonic()))
            return count * users

        watch(connections, lambda: act(1))
        if not database.wait_for(IS_RELAYED):
            raise RuntimeError("the first announcement was not relayed")
        return watch(connections, lambda: act(_COUNT))
