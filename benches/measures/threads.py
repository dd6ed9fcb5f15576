"""What a second thread of the core is good for."""

import statistics
from collections.abc import Iterator

from benches.load import ALL_CORES, connected
from benches.measures.figures import RATIO, Figure, Run
from benches.programs import fan_out

__all__ = ["workers"]

_RATE, _COUNT, _SIZE = 4, 20, 256


def workers(run: Run) -> Iterator[Figure]:
    """From publication to the return of the last write, two worker threads against one.

    Both cores are the server's: the clients read only when all is over, what they are sent fits into their sockets.
    """
    taken: dict[int, list[float]] = {1: [], 2: []}
    doubts: list[str] = []
    for _ in range(run.rounds):
        for threads, found in taken.items():
            # No ping may be among the bytes that are counted.
            command = fan_out(workers=threads, ping_interval=3600.0)
            with connected(command, run.connections, ALL_CORES) as users:
                users.publish(rate=_RATE, count=2, size=_SIZE)
                users.client.clear()
                users.client.pause(users.count, True)
                users.program.tell(f"time {_RATE} {_COUNT} {_SIZE}")
                times = users.program.answer("timed").split()
                users.client.pause(users.count, False)
                arrived, expected = users.receipts(_COUNT * users.count).messages, _COUNT * users.count
            found.append(statistics.median(map(int, times)) / 1e6)
            if arrived != expected:
                doubts.append(f"{threads} workers: {arrived:,} of {expected:,} arrived")
    one, two = (statistics.median(found) for found in taken.values())
    what = f"publish to the last write's return, {run.connections:,} receivers that read later: two workers against one"
    yield Figure(what, two / one, RATIO, 0.60, f"{two:.2f} ms against {one:.2f} ms", tuple(doubts))
