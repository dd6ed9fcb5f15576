"""More messages than a system call each would allow for."""

import statistics
from collections.abc import Iterator

from benches.load import ALL_CORES
from benches.measures.figures import OURS, Figure, Run, Subject, paced, ratio
from benches.programs import fan_out

__all__ = ["flood", "moderate"]

_SECONDS = 8


def flood(run: Run) -> Iterator[Figure]:
    """As much as it takes, both cores shared with the client."""
    subject = Subject("server", fan_out(workers=2))
    for rate, goal in ((200, 60.0), (400, 120.0)):
        rounds = run.loads({subject: paced(rate=rate, count=rate * _SECONDS)}, cores=ALL_CORES)
        held = statistics.median(load.deliveries / load.elapsed for load in rounds.loads[subject.name])
        cpu = rounds.median(subject, "cpu_per_delivery")
        yield Figure(
            f"flood, {rate * run.connections:,} deliveries/s offered: p99",
            rounds.median(subject, "p99") * 1e3,
            "ms",
            goal,
            f"{held:,.0f} deliveries/s, {cpu:.2f} µs each",
            # The client shares the cores here on purpose, so that it is busy is no doubt.
            tuple(doubt for doubt in rounds.doubts if "busy" not in doubt),
        )


def moderate(run: Run) -> Iterator[Figure]:
    """Coalescing against writing each frame at once."""
    connections = run.share(2_000)
    at_once = Subject("at once", fan_out(coalesce_ms=0))
    work = paced(rate=40, count=200)
    rounds = run.loads({at_once: work, OURS: work}, connections=connections)
    what = f"moderate load, {connections:,} connections, 40 messages/s"
    for words, name in (("p99", "p99"), ("CPU per delivery", "cpu_per_delivery")):
        yield ratio(rounds, f"{what}: {words} against writing each at once", name, to=at_once, goal=1.0)
