"""Nodes that are replaced one after the other under load, as by the deploy of a new version."""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benches.durable import IS_RELAYED
from benches.load import ALL_CORES
from benches.measures.figures import RATIO, Figure, Run
from benches.nats import nats
from benches.postgres import Database, postgres
from benches.programs import Program, durable
from benches.roaming import Arrival, Roaming
from benches.writers import write

__all__ = ["rolling"]

_NODES = 3
_CLIENTS = 5_000 * 6 // 5
_DRAIN_SECONDS = 10.0
_RATE = 200.0
_WRITE_SECONDS = 5.0
_WAIT_SECONDS = 120.0
_LOOK_SECONDS = 0.02
# What the goal allows for, of a second.
_STALL_SECONDS = 0.05
# What the core plans (`rust_core/src/drain.rs`): so much time for a close, in so much of the time of a stop.
_EACH_SECONDS, _SPREAD = 0.005, 0.8
_HEADS = """
select array_agg(coalesce(head_seq, 0) order by substr(u.id, 6)::int)
from public.users u left join jasaweb_rt.counters c on c.user_id = u.id
"""


@dataclass(frozen=True)
class _Restart:
    """What became of the clients of a node that was replaced."""

    count: int
    """Connections that it had."""
    back: float
    """Seconds from the order to stop to the last one's return."""
    stopped: float
    """Seconds that the stop took."""
    busiest: int
    """Handshakes of the busiest second."""
    stall: float
    """Seconds by which the clients were late at the worst, from whatever cause: returns came in a heap then."""

    @property
    def planned(self) -> int:
        """Handshakes of a second by the plan."""
        return math.ceil(self.count / min(_SPREAD * _DRAIN_SECONDS, self.count * _EACH_SECONDS)) if self.count else 1

    @property
    def has_stalled(self) -> bool:
        """Whether clients that stood still may be the reason of a busy second."""
        return self.stall > _STALL_SECONDS


def rolling(run: Run) -> Iterator[Figure]:
    """Each of three nodes is stopped and replaced, while notifications are stored at an even pace."""
    many = run.share(_CLIENTS)
    restarts: list[_Restart] = []
    lost = 0
    doubts: list[str] = []
    for _ in range(run.rounds):
        with (
            nats(ALL_CORES) as nats_url,
            postgres() as server,
            server.database(many) as database,
            Roaming(many) as clients,
        ):
            restarts += _restart_all(database, nats_url, clients, many)
            missed = (abs(head - seq) for head, seq in zip(_heads(database), clients.seqs, strict=True))
            lost += sum(missed) + clients.disorder
            if any(restart.count < many // (2 * _NODES) for restart in restarts):
                doubts.append("a node had few connections")
            detail = clients.troubles()
    slowest = max(restarts, key=lambda restart: restart.back)
    steepest = max(restarts, key=lambda restart: restart.busiest / restart.planned)
    what = f"rolling restart of {_NODES} nodes under {many:,} clients"
    yield Figure(
        f"{what}: until the last client of a node is back, of {_DRAIN_SECONDS:.0f} s to drain",
        slowest.back,
        "s",
        _DRAIN_SECONDS + 2.0,
        f"{slowest.count:,} connections; the stop took {slowest.stopped:.1f} s; {detail}",
        tuple(doubts),
    )
    yield Figure(
        f"{what}: handshakes of the busiest second against the plan",
        steepest.busiest / steepest.planned,
        RATIO,
        1.05,
        f"{steepest.busiest} against {steepest.planned} a second",
        (*doubts, *(f"the clients stood still for {each.stall * 1e3:.0f} ms" for each in restarts if each.has_stalled)),
    )
    yield Figure(f"{what}: notifications lost, doubled or out of order", lost, "", 0.0, f"{_RATE:.0f} stored a second")


def _restart_all(database: Database, nats_url: str, clients: Roaming, many: int) -> Iterator[_Restart]:
    with contextlib.ExitStack() as stack:

        def start() -> Program:
            return stack.enter_context(Program(durable(database.url, nats_url=[nats_url]), ALL_CORES))

        nodes = [start() for _ in range(_NODES)]
        clients.set_ready([node.address for node in nodes])
        clients.connect()
        _until(lambda: clients.up == many and clients.in_sync)
        with _writing(database, many):
            for _ in range(_NODES):
                old = nodes.pop(0)
                yield _restart(old, nodes, clients, many)
                nodes.append(start())
                clients.set_ready([node.address for node in nodes])
        database.wait_for(IS_RELAYED)
        heads = _heads(database)
        _until(lambda: clients.up == many and sum(clients.seqs) >= sum(heads))
        # Before the nodes do.
        clients.leave()


def _heads(database: Database) -> list[int]:
    """How many notifications each user has."""
    heads = database.run(_HEADS)
    assert isinstance(heads, list)  # noqa: S101  # it is an array
    return heads


def _restart(old: Program, others: list[Program], clients: Roaming, many: int) -> _Restart:
    count, began = clients.on(old.address), time.monotonic()
    # A load balancer would be told by `/readyz`.
    clients.set_ready([node.address for node in others])
    old.tell(f"stop {_DRAIN_SECONDS}")
    old.answer("stopped")
    stopped = time.monotonic() - began
    _until(lambda: clients.up == many)
    arrivals = clients.arrivals(began)
    back = max((arrival.moment for arrival in arrivals), default=began) - began
    return _Restart(count, back, stopped, _busiest(arrivals), clients.longest_stall(began))


def _busiest(arrivals: list[Arrival]) -> int:
    """The most arrivals of any second."""
    moments = sorted(arrival.moment for arrival in arrivals)
    most, first = 0, 0
    for index, moment in enumerate(moments):
        while moments[first] < moment - 1.0:
            first += 1
        most = max(most, index - first + 1)
    return most


@contextlib.contextmanager
def _writing(database: Database, users: int) -> Iterator[None]:
    """Stores notifications for as long as the block, and a few seconds more."""
    ended = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not ended.is_set():
                write(database, users=users, seconds=_WRITE_SECONDS, rate=_RATE)
        except (RuntimeError, OSError) as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="writers")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failures:
        raise failures[0]


def _until(condition: Callable[[], bool]) -> None:
    """Waits until `condition` holds, or for two minutes: what comes then is told by the figures."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
