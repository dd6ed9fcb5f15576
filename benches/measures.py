"""What is measured, each against the floor program or against ourselves in the same run.

A figure is the ratio of two medians; both programs run in turn, round after round, so that what the machine does beside
falls on both.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benches.load import CLIENT_CORES, SERVER_CORES, Load, connected
from benches.messages import TOKEN_SECRET, message
from benches.programs import FLOOR, fan_out
from jasaweb_rt import FanoutServer

__all__ = ["MEASURES", "Figure", "Run"]

RATIO = "×"  # noqa: RUF001  # the sign for times, not a letter

_ALL_CORES = SERVER_CORES | CLIENT_CORES
_MANY = 10_000
# Beyond it the client's core may have been what was measured.
_BUSY = 0.9


@dataclass(frozen=True)
class Figure:
    """One line of the results."""

    what: str
    value: float
    unit: str
    """`RATIO`, or that of the value."""
    goal: float | None
    """The value may be this at most; None: it is told, and no goal."""
    detail: str
    doubts: Sequence[str] = ()
    """Why it should not be believed: a load that did not arrive whole, a client that was the limit."""


@dataclass
class Run:
    """How often, and how large."""

    rounds: int = 3
    connections: int = 5_000
    doubts: list[str] = field(default_factory=list)
    """Of the last call of `loads`."""

    def loads(
        self,
        commands: Sequence[Sequence[str]],
        *,
        cores: set[int],
        connections: int,
        rate: float,
        count: int,
        size: int = 256,
    ) -> list[list[Load]]:
        """What the same load did to each of `commands`, in turn, once a round."""
        self.doubts = []
        found: list[list[Load]] = [[] for _ in commands]
        for _ in range(self.rounds):
            for index, command in enumerate(commands):
                with connected(command, connections, cores) as users:
                    # The first messages warm caches up, and memory that grows only once.
                    users.publish(rate=rate, count=2, size=size)
                    seen = users.publish(rate=rate, count=count, size=size)
                found[index].append(seen)
                name = "floor" if command is FLOOR else "server"
                if not seen.complete:
                    self.doubts.append(f"{name}: {seen.deliveries} of {seen.expected} arrived, {seen.closed} closed")
                if seen.client_busy > _BUSY:
                    self.doubts.append(f"{name}: the client was busy for {seen.client_busy:.0%} of the time")
        return found


def cost(run: Run) -> Iterator[Figure]:
    """Processor time a delivery under a paced load."""
    what = f"server CPU per delivery, {run.connections:,} connections, 256 B, 8 messages/s, one worker"
    yield _against_floor(run, what, "cpu_per_delivery", "µs", 1, rate=8, count=60)


def last(run: Run) -> Iterator[Figure]:
    """From publication to the last receipt, nothing else going on."""
    what = f"publish to the last of {run.connections:,} receivers, one worker"
    yield _against_floor(run, what, "last", "ms", 1e3, rate=2, count=20)


def flood(run: Run) -> Iterator[Figure]:
    """As much as it takes, both cores shared with the client."""
    for rate, goal in ((200, 0.060), (400, 0.120)):
        (ours,) = run.loads(
            [fan_out(workers=2)], cores=_ALL_CORES, connections=run.connections, rate=rate, count=rate * 8
        )
        held = statistics.median(seen.deliveries / seen.elapsed for seen in ours)
        # The client shares the cores here on purpose, so that it is busy is no doubt.
        doubts = tuple(doubt for doubt in run.doubts if "busy" not in doubt)
        yield Figure(
            f"flood, {rate * run.connections:,} deliveries/s offered: p99",
            _median(ours, "p99") * 1e3,
            "ms",
            goal * 1e3,
            f"{held:,.0f} deliveries/s, {_median(ours, 'cpu_per_delivery'):.2f} µs each",
            doubts,
        )


def moderate(run: Run) -> Iterator[Figure]:
    """Coalescing against writing each frame at once."""
    at_once, ours = run.loads(
        [fan_out(coalesce_ms=0), fan_out()], cores=SERVER_CORES, connections=2_000, rate=40, count=200
    )
    for name, unit, scale in (("p99", "ms", 1e3), ("cpu_per_delivery", "µs", 1.0)):
        base, value = _median(at_once, name), _median(ours, name)
        yield Figure(
            f"moderate load, 2,000 connections, 40 messages/s: {name.replace('_', ' ')} against writing each at once",
            value / base,
            RATIO,
            1.0,
            f"{value * scale:.2f} {unit} against {base * scale:.2f} {unit}",
            tuple(run.doubts),
        )


def storm(run: Run) -> Iterator[Figure]:
    """Ten thousand that connect at once, by the clock and by the processor time that they cost.

    To open a connection costs the load client more than the floor, so by the clock both are held back by it.
    """
    seconds: dict[str, list[float]] = {"floor": [], "ours": []}
    cpu: dict[str, list[float]] = {"floor": [], "ours": []}
    for _ in range(run.rounds):
        for name, command in (("floor", FLOOR), ("ours", fan_out())):
            with connected(command, _MANY, SERVER_CORES) as users:
                seconds[name].append(users.seconds)
                cpu[name].append(users.cpu_seconds)
    base, ours = (_MANY / statistics.median(seconds[name]) for name in ("floor", "ours"))
    yield Figure(
        f"connect storm of {_MANY:,} with token check: the floor's accept rate against ours",
        base / ours,
        RATIO,
        1 / 0.7,
        f"{base:,.0f} a second against {ours:,.0f}",
    )
    base, ours = (statistics.median(cpu[name]) / _MANY * 1e6 for name in ("floor", "ours"))
    detail = f"{ours:.0f} µs against {base:.0f} µs"
    yield Figure("server CPU per handshake in that storm", ours / base, RATIO, None, detail)


def memory(run: Run) -> Iterator[Figure]:
    """Resident memory of connections that do nothing."""
    sizes = []
    for _ in range(run.rounds):
        with connected(fan_out(), 0, SERVER_CORES) as users:
            empty = users.program.resident_kib()
        with connected(fan_out(), _MANY, SERVER_CORES) as users:
            sizes.append((users.program.resident_kib() - empty) / _MANY)
    yield Figure(
        f"resident memory per idle connection, {_MANY:,} connections",
        statistics.median(sizes),
        "KiB",
        2.0,
        f"{run.rounds} runs from {min(sizes):.2f} to {max(sizes):.2f}",
    )


def absent(run: Run) -> Iterator[Figure]:
    """A send to a user who is not connected."""
    server = FanoutServer(token_secret=TOKEN_SECRET)
    server.start()
    frame, calls = message(time.monotonic_ns(), 256), 200_000
    taken = []
    for _ in range(run.rounds):
        began = time.perf_counter()
        for _ in range(calls):
            server.broadcast_to_user("nobody", frame)
        taken.append((time.perf_counter() - began) / calls * 1e6)
    server.stop(0)
    yield Figure("`broadcast_to_user` to an absent user", statistics.median(taken), "µs", 0.5, "the loop included")


def scale(run: Run) -> Iterator[Figure]:
    """Cost per delivery from a thousand connections to as many as one process may open here."""
    costs = {}
    for connections in (1_000, 5_000, 10_000, 19_000):
        (ours,) = run.loads(
            [fan_out()], cores=SERVER_CORES, connections=connections, rate=20_000 / connections, count=30
        )
        costs[connections] = _median(ours, "cpu_per_delivery")
    dearest = max(costs.values()) / min(costs.values())
    steps = ", ".join(f"{connections:,}: {cpu:.2f} µs" for connections, cpu in costs.items())
    yield Figure("cost per delivery, dearest against cheapest size", dearest, RATIO, None, steps, tuple(run.doubts))


MEASURES: dict[str, Callable[[Run], Iterator[Figure]]] = {
    each.__name__: each for each in (cost, last, flood, moderate, storm, memory, absent, scale)
}


def _against_floor(run: Run, what: str, name: str, unit: str, scale: float, *, rate: float, count: int) -> Figure:
    """The field `name` of the same load on our server and on the floor, which ours may exceed by a tenth."""
    floor, ours = run.loads([FLOOR, fan_out()], cores=SERVER_CORES, connections=run.connections, rate=rate, count=count)
    base, value = _median(floor, name), _median(ours, name)
    detail = f"{value * scale:.2f} {unit} against {base * scale:.2f} {unit}"
    return Figure(what, value / base, RATIO, 1.10, detail, tuple(run.doubts))


def _median(loads: Sequence[Load], name: str) -> float:
    return float(statistics.median(getattr(load, name) for load in loads))
