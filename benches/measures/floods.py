"""More messages than a system call each would allow for."""

import itertools
import random
import statistics
from collections.abc import Iterator

from benches.load import ALL_CORES, Connections, Load, connected
from benches.measures.figures import FLOOR_SUBJECT, Figure, Run, Subject, paced, ratio
from benches.programs import fan_out

__all__ = ["flood", "moderate"]

_SECONDS = 8
_FLOOR_RATE, _FLOOR_COUNT = 8, 24
_PROBES = (100, 200, 300, 400, 600, 800, 1_200, 1_600)
_PROBE_SECONDS = 4
_PROBE_P99 = 0.120
# Of what was offered; the rest is the time until the last of it is there.
_FULL_RATE = 0.95
_MODERATE_RATE, _MODERATE_COUNT = 40, 240
_SEED = 40


def flood(run: Run) -> Iterator[Figure]:
    """As much as it takes, both cores shared with the client.

    One worker thread: with the client's there are as many as cores. A second one would have to wait for a core, and who
    waits for it in its turn would see that as a delay.
    """
    subject = Subject("server", fan_out(workers=1))
    floor = run.loads({FLOOR_SUBJECT: paced(rate=_FLOOR_RATE, count=_FLOOR_COUNT)})
    floor_ms = floor.median(FLOOR_SUBJECT, "cpu_per_delivery") * run.connections / 1e3
    for rate, goal in ((200, 60.0), (400, 120.0)):
        rounds = run.loads({subject: paced(rate=rate, count=rate * _SECONDS)}, cores=ALL_CORES)
        held = statistics.median(load.deliveries / load.elapsed for load in rounds.loads[subject.name])
        cpu = rounds.median(subject, "cpu_per_delivery")
        # The client shares the cores here on purpose, so that it is busy is no doubt.
        doubts = [*floor.doubts, *(doubt for doubt in rounds.doubts if "busy" not in doubt)]
        if held < _FULL_RATE * rate * run.connections:
            doubts.append(f"not the full rate: {held / (rate * run.connections):.0%} of it")
        yield Figure(
            f"flood, {rate * run.connections:,} deliveries/s offered: p99",
            rounds.median(subject, "p99") * 1e3,
            "ms",
            goal,
            f"{held:,.0f} deliveries/s, {cpu:.2f} µs each; a round of the floor: {floor_ms:.0f} ms",
            tuple(doubts),
        )

    yield _held(run, subject)


def _held(run: Run, subject: Subject) -> Figure:
    """The highest of some rates at which all arrive, as fast as they are offered, and soon."""
    held, seen = 0, "none"
    for rate in _PROBES:
        with connected(subject.command, run.connections, ALL_CORES) as users:
            load = _probe(users, rate)
        offered = rate * run.connections
        if load.deliveries < (load.expected or 0) or load.closed or load.p99 > _PROBE_P99:
            break
        if load.deliveries / load.elapsed < _FULL_RATE * offered:
            break
        held, seen = offered, f"p99 {load.p99 * 1e3:.0f} ms, {load.cpu_per_delivery:.2f} µs each"
    what = f"flood: the highest rate that holds with p99 within {_PROBE_P99 * 1e3:.0f} ms, looked for once"
    return Figure(what, held, "deliveries/s", None, seen)


def _probe(users: Connections, rate: int) -> Load:
    users.publish(rate=rate, count=2)
    return users.publish(rate=rate, count=rate * _PROBE_SECONDS)


def moderate(run: Run) -> Iterator[Figure]:
    """Coalescing against writing each frame at once, which is what the floor does.

    Messages come at random moments, as they do where nobody plans them (a Poisson process). On average a part of a core
    is enough for both; what comes close together has to wait for what came before, or goes along with it.
    """
    connections = run.share(2_000)
    gaps = random.Random(_SEED)  # noqa: S311  # the same for both, and no secret
    moments = itertools.accumulate(gaps.expovariate(_MODERATE_RATE) for _ in range(_MODERATE_COUNT))
    order = " ".join(["arrive 256", *(str(round(moment * 1e6)) for moment in moments)])

    def work(users: Connections) -> Load:
        users.publish(rate=_MODERATE_RATE, count=2)
        return users.load(order, _MODERATE_COUNT * users.count)

    rounds = run.against_floor(work, connections=connections)
    what = f"moderate load, {connections:,} connections, {_MODERATE_RATE} messages/s at random moments"
    for words, name in (("p99", "p99"), ("CPU per delivery", "cpu_per_delivery")):
        yield ratio(rounds, f"{what}: {words} against writing each at once", name, goal=1.0)
