"""What the measures of durable notifications have in common: users of a gateway, and a load that goes by the database.

Everything runs on both cores: PostgreSQL, gateway, clients and writers, as on one machine that does all of it.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benches.load import ALL_CORES, Connections, busy_client, connected, own_cpu
from benches.postgres import Database, Session
from benches.programs import durable
from jasaweb_rt._core import LoadClient, LoadReport

__all__ = [
    "FRAMES_AT_JOIN",
    "IS_LOGGED",
    "IS_RELAYED",
    "Receipts",
    "announce",
    "in_sync",
    "online",
    "received",
    "watch",
]

FRAMES_AT_JOIN = 2
"""Welcome and `sync`."""
IS_RELAYED = "select not exists (select from jasaweb_rt.outbox)"
"""A condition: everything that was committed is relayed."""
IS_LOGGED = "select count(*) = $1::bigint from public.websocket_messages where delivered"
"""A condition: so many messages are in the log, and known to have arrived."""
_RECEIVE_SECONDS = 60.0
_LOOK_SECONDS = 0.02

_ANNOUNCE = """
insert into public.real_time_notifications (id, user_id, type, title, message, data)
select gen_random_uuid()::text, id, 'system_announcement', 'Maintenance',
       'On Friday from 22:00 to 23:00 this site is being worked on', jsonb_build_object('stamp', $1::bigint)
from public.users order by id
"""


@dataclass(frozen=True)
class Receipts:
    """What arrived of a load."""

    report: LoadReport
    expected: int
    last: int
    """When the last of the newest 4,096 stamps was received, by `time.monotonic_ns()`; 0 where none was."""
    cpu_seconds: float
    """Processor time that the gateway used from the beginning to the last receipt."""
    client_busy: float
    """Share of a core that the clients used meanwhile."""

    @property
    def cpu_each(self) -> float:
        """Microseconds of the gateway's processor time a receipt."""
        return self.cpu_seconds / max(1, self.report.timed) * 1e6

    def delay(self, quantile: float) -> float:
        """Milliseconds from stamp to receipt that this share of the messages kept to; 0 where there were none."""
        return (self.report.delay(quantile) or 0.0) * 1e3

    def doubts(self) -> Iterator[str]:
        """Why it should not be believed."""
        closed = sum(number for _, number in self.report.closed)
        if self.report.timed != self.expected or closed:
            yield f"{self.report.timed:,} of {self.expected:,} arrived, {closed} closed"
        yield from busy_client(self.client_busy)


@contextlib.contextmanager
def online(database: Database, count: int, **settings: object) -> Iterator[Connections]:
    """Runs a gateway on `database`, and keeps `user-0` and so on connected and in sync, for as long as the block."""
    with connected(durable(database.url, **settings), count, ALL_CORES) as users:
        in_sync(users.client, count)
        yield users


def in_sync(client: LoadClient, count: int) -> None:
    """Returns once `count` new connections were told where they stand.

    Raises:
        RuntimeError: they were not for too long.
    """
    deadline = time.monotonic() + _RECEIVE_SECONDS
    while client.report().messages < count * FRAMES_AT_JOIN:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not all of {count} connections are in sync")
        time.sleep(_LOOK_SECONDS)


def watch(users: Connections, act: Callable[[], int]) -> Receipts:
    """Has `act` write notifications to users who are online, and waits until as many arrived as it says."""
    users.client.clear()
    cpu, own, began = users.program.cpu_seconds(), own_cpu(), time.monotonic()
    expected = act()
    report = received(users.client, expected)
    elapsed = time.monotonic() - began
    used, used_here = (now - before for now, before in zip(own_cpu(), own, strict=True))
    return Receipts(
        report=report,
        expected=expected,
        last=max((last for _, _, last in report.publications), default=0),
        cpu_seconds=users.program.cpu_seconds() - cpu,
        client_busy=(used - used_here) / elapsed,
    )


def received(client: LoadClient, expected: int) -> LoadReport:
    """What arrived, once `expected` stamped messages have, or when it has been long enough."""
    deadline = time.monotonic() + _RECEIVE_SECONDS
    while (report := client.report()).timed < expected and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return report


def announce(session: Session) -> tuple[int, int, int]:
    """Stores an announcement to all users, by one statement in a transaction of its own.

    Returns when the statement, which is the stamp, and when the commit was sent, and when that was answered, by
    `time.monotonic_ns()`.
    """
    session.run("begin")
    began = time.monotonic_ns()
    session.run(_ANNOUNCE, began)
    committing = time.monotonic_ns()
    session.run("commit")
    return began, committing, time.monotonic_ns()
