"""Several nodes on one NATS: what it costs that they are several."""

import contextlib
import statistics
import time
from collections.abc import Iterator

from benches.load import ALL_CORES, SERVER_CORES
from benches.measures.figures import RATIO, Figure, Run
from benches.messages import requests
from benches.nats import nats
from benches.programs import Program, fan_out
from jasaweb_rt._core import LoadClient

__all__ = ["across", "interest", "nodes"]

_RATE, _COUNT, _SIZE = 50, 400, 256
_CONNECT_SECONDS = 60.0
_RECEIVE_SECONDS = 30.0
_LOOK_SECONDS = 0.02
_SETTLE_SECONDS = 1.0
_NODES = (1, 2, 3)
_PER_SECOND, _SECONDS = 40_000, 5


class _Cluster:
    """Nodes, and clients that are connected to them."""

    def __init__(self, programs: list[Program], client: LoadClient) -> None:
        self.programs = programs
        self.client = client

    def open(self, node: int, users: list[str]) -> None:
        """Connects a client of each of `users` to a node."""
        opened, _ = self.client.connect(self.programs[node].address, requests(users), wait=_CONNECT_SECONDS)
        if opened != len(users):
            raise RuntimeError(f"{opened} of {len(users)} connections are open")

    def publish(self, node: int, order: str, expected: int) -> list[int]:
        """Has a node publish; the delays of the last receipt of each message, in ns, once `expected` have arrived."""
        self.client.clear()
        self.programs[node].tell(order)
        self.programs[node].answer("published")
        deadline = time.monotonic() + _RECEIVE_SECONDS
        while (report := self.client.report()).messages < expected and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        if report.messages != expected:
            raise RuntimeError(f"{report.messages:,} of {expected:,} arrived")
        return [last - stamp for stamp, _, last in report.publications]

    def cpu_seconds(self) -> float:
        """Processor time of all nodes."""
        return sum(program.cpu_seconds() for program in self.programs)


@contextlib.contextmanager
def _cluster(count: int, cores: set[int]) -> Iterator[_Cluster]:
    """`count` nodes on `cores`, on one NATS server that is on all cores, for as long as the block."""
    client = LoadClient()
    with nats(ALL_CORES) as url, contextlib.ExitStack() as stack:
        stack.callback(client.stop)
        command = fan_out(nats_url=[url])
        programs = [stack.enter_context(Program(command, cores)) for _ in range(count)]
        for program in programs:
            _wait_linked(program)
        yield _Cluster(programs, client)


def _wait_linked(program: Program) -> None:
    deadline = time.monotonic() + _CONNECT_SECONDS
    while not program.stats()["cluster_connected"]:
        if time.monotonic() > deadline:
            raise RuntimeError("a node does not reach NATS")
        time.sleep(_LOOK_SECONDS)


def across(run: Run) -> Iterator[Figure]:
    """From publication on one node to the receipt at another, against the receipt at the same one."""
    found: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(run.rounds):
        for node, delays in found.items():
            with _cluster(2, SERVER_CORES) as cluster:
                cluster.open(node, ["user-0"])
                time.sleep(_SETTLE_SECONDS)
                order = f"to user-0 {_RATE} {_COUNT} {_SIZE}"
                delays.append(statistics.median(cluster.publish(0, order, _COUNT)) / 1e6)
    here, there = (statistics.median(delays) for delays in found.values())
    what = "publish on one node to the receipt at another, against both on one: p50 added"
    yield Figure(what, there - here, "ms", 1.0, f"{there:.3f} ms against {here:.3f} ms")


def interest(_: Run) -> Iterator[Figure]:
    """What nodes hear of messages for one user who is elsewhere, and of messages for everybody."""
    with _cluster(2, SERVER_CORES) as cluster:
        cluster.open(0, ["user-0"])
        cluster.open(1, ["user-1"])
        time.sleep(_SETTLE_SECONDS)
        before = cluster.programs[1].stats()["cluster_received"]
        cluster.publish(0, f"to user-0 {_RATE * 4} {_COUNT} {_SIZE}", _COUNT)
        of_one = cluster.programs[1].stats()["cluster_received"] - before
        before += of_one
        cluster.publish(0, f"publish {_RATE * 4} {_COUNT} {_SIZE}", 2 * _COUNT)
        of_all = cluster.programs[1].stats()["cluster_received"] - before
    # Its own echo comes all the time, beside what is counted.
    yield Figure(
        "frames from other nodes, for one user's message, at a node without that user",
        of_one / _COUNT,
        "",
        0.0,
        f"{of_one} of {_COUNT} messages",
    )
    yield Figure("the same, for a message to everybody", of_all / _COUNT, "", 1.0, f"{of_all} for {_COUNT} messages")


def nodes(run: Run) -> Iterator[Figure]:
    """The same connections and the same load on one, two and three nodes that share two cores."""
    found: dict[int, list[float]] = {count: [] for count in _NODES}
    messages = _PER_SECOND * _SECONDS // run.connections
    for _ in range(run.rounds):
        for count, costs in found.items():
            with _cluster(count, ALL_CORES) as cluster:
                users = [f"user-{number}" for number in range(run.connections)]
                for node in range(count):
                    cluster.open(node, users[node::count])
                time.sleep(_SETTLE_SECONDS)
                before = cluster.cpu_seconds()
                deliveries = messages * run.connections
                cluster.publish(0, f"publish {_PER_SECOND / run.connections} {messages} {_SIZE}", deliveries)
                costs.append((cluster.cpu_seconds() - before) / deliveries * 1e6)
    one, *several = (statistics.median(costs) for costs in found.values())
    for count, cost in zip(_NODES[1:], several, strict=True):
        what = f"CPU per delivery of {count} nodes, {run.connections:,} connections in all, against one node"
        yield Figure(
            what, cost / one, RATIO, 1.15, f"{cost:.2f} µs against {one:.2f} µs, on two cores with the clients"
        )
