"""What a running server asks of PostgreSQL, call by call, on the database of `tests.support.million`."""

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import asyncpg

from jasaweb_rt.database import (
    connections,
    feed,
    invoices,
    ledger,
    locks,
    message_log,
    nodes,
    notifications,
    outbox,
    projects,
    sessions,
    traces,
    users,
)
from jasaweb_rt.database.connections import Connection
from jasaweb_rt.database.feed import CatchUpRequest
from jasaweb_rt.database.invoices import NewInvoice
from jasaweb_rt.database.ledger import StrayPlace
from jasaweb_rt.database.message_log import Proof, SentRange
from jasaweb_rt.database.notifications import NewNotification
from jasaweb_rt.database.projects import NewProject
from jasaweb_rt.database.users import NewUser
from tests.support.million import OF_HEAVY

NOTIFICATIONS = "public.real_time_notifications"
PEOPLE = [f"user-{number * 7}" for number in range(100)]
LAST = OF_HEAVY - 1

Work = Callable[[asyncpg.Connection], Awaitable[object]]


class Operation(NamedTuple):
    """One call, and how much it is about."""

    name: str
    calls: Callable[..., Any] | None
    """The function of `jasaweb_rt.database`; None: another program's statement."""
    work: Work
    rows: int = 1
    """How many rows it returns, writes or counts."""
    scans: frozenset[str] = frozenset()
    """Tables that it goes through as a whole."""
    isolation: str | None = None
    """That it needs."""


def _call(
    function: Callable[..., Any], *arguments: Any, rows: int = 1, scans: Sequence[str] = (), of: str = "", **named: Any
) -> Operation:
    module = function.__module__.rpartition(".")[2]
    name = f"{module}.{function.__name__}{of and f' {of}'}"
    isolation = "repeatable_read" if function is traces.find else None

    async def work(connection: asyncpg.Connection) -> object:
        return await function(connection, *arguments, **named)

    return Operation(name, function, work, rows, frozenset(scans), isolation)


def _foreign(name: str, statement: str, rows: int = 1) -> Operation:
    return Operation(name, None, lambda connection: connection.execute(statement), rows)


def _new(*user_ids: str) -> list[NewNotification]:
    return [NewNotification(user_id=user_id, type="user_message", title="T", message="M") for user_id in user_ids]


def _asks(after: int | None) -> list[CatchUpRequest]:
    return [CatchUpRequest(user_id, user_id, after, "00000000000000aa") for user_id in PEOPLE]


_announce = partial(_call, notifications.insert_for_users, "system_announcement", title="T", message="M")
_search = partial(_call, users.search, without="user-1", limit=50, offset=0)

PROGRAMS = [
    _foreign(
        "inserted",
        f"insert into {NOTIFICATIONS} (id, user_id, type, title, message) "
        "values ('x', 'user-1', 'user_message', 'T', 'M')",
    ),
    _foreign(
        "inserted 100",
        f"insert into {NOTIFICATIONS} (id, user_id, type, title, message) "
        "select 'x' || n, 'user-' || n, 'user_message', 'T', 'M' from generate_series(1, 100) n",
        100,
    ),
    _foreign("read", f"update {NOTIFICATIONS} set read_at = now() where id = 'n-600'"),
    _foreign("changed", f"update {NOTIFICATIONS} set title = 'x' where id = 'n-600'"),
    _foreign("given to another", f"update {NOTIFICATIONS} set user_id = 'user-9' where id = 'n-600'"),
    _foreign("deleted", f"delete from {NOTIFICATIONS} where id = 'n-600'"),
    _foreign("all of a user read", f"update {NOTIFICATIONS} set read_at = now() where user_id = 'user-600'", 20),
    _foreign("all of a user deleted", f"delete from {NOTIFICATIONS} where user_id = 'user-600'", 20),
]
"""What others do to the guide's table; the triggers do the rest."""

INBOX = [
    _call(notifications.insert_many, _new("user-1")),
    _call(notifications.insert_many, _new(*PEOPLE), rows=100, of="of 100"),
    _announce(user_ids=PEOPLE, rows=100),
    _announce(role="admin", rows=100, of="of a role"),
    _call(notifications.inbox, "user-1", 0, 100, rows=20),
    _call(notifications.inbox, "heavy", LAST - 500, 100, rows=100, of="of many"),
    _call(notifications.inbox, "heavy", 400, 100, rows=200, of="unread", unread_only=True),
    _call(notifications.get_counters, "user-1"),
    _call(notifications.mark_read_ids, "heavy", [f"n-{n}" for n in range(550, 650)], rows=100),
    _call(notifications.mark_read_up_to, "user-600", 10, rows=10),
    _call(notifications.mark_read_up_to, "heavy", 1000, rows=1000, of="of many"),
]

DELIVERY = [
    _call(feed.catch_up, _asks(None), 100, 1_000_000, rows=100, of="of 100 at the head"),
    _call(feed.catch_up, _asks(15), 100, 1_000_000, rows=500, of="of 100 who resume"),
    _call(feed.catch_up, [CatchUpRequest("c", "heavy", LAST - 500)], 100, 1_000_000, rows=500, of="of one far back"),
    _call(feed.heads, PEOPLE, rows=100),
    _call(feed.epoch),
    _call(outbox.read_on, 1),
    _call(outbox.read_on, 1000, rows=1000, of="of 1000"),
    _call(outbox.read_on, 1000, list(range(1, 1001)), rows=2000, of="behind 1000"),
    _call(outbox.remove, list(range(1, 1001)), rows=1000, of="of 1000"),
    _call(outbox.try_lock, outbox.WAKE_LOCK),
    _call(outbox.unlock, outbox.WAKE_LOCK),
    _call(outbox.is_led),
    _call(outbox.ask_to_compare),
    # Without an index for it, lest each notification pay for that; and what waits there waits to be seen.
    _call(traces.find, "n-777777", 500, rows=10, scans=["jasaweb_rt.outbox"]),
]

_ROWS = [Connection(f"live-{n}", user_id, "::1", None, 0, 0, "active") for n, user_id in enumerate(PEOPLE)]
_OPEN = [f"past-{n}" for n in range(1, 40)]

BOOKKEEPING = [
    _call(connections.save_many, _ROWS, rows=100),
    _call(connections.touch_many, [(connection_id, 0.0) for connection_id in _OPEN], rows=100),
    _call(connections.close_many, _OPEN, rows=100),
    _call(connections.surplus, PEOPLE, 10, rows=100),
    # All that are open, of whichever node.
    _call(connections.close_all, "live", rows=5000),
    _call(connections.count_open, rows=10_000),
    _call(connections.list_open, None, None, "", 100, 0, rows=10_000),
    _call(connections.list_open, PEOPLE[0], "client", "user", 100, 0, rows=10_000, of="of one user"),
    _call(connections.is_open, _OPEN[0]),
    _call(connections.delete_closed, 30, 100, rows=100),
    _call(message_log.add_many, [SentRange(f"past-{n}", f"user-{n}", 6, 8, 7, 0.0) for n in range(1, 35)], rows=100),
    _call(message_log.mark_delivered, [Proof(f"past-{n}", 1, 3) for n in range(1, 35)], rows=100),
    _call(message_log.delete_old, 30, 100, rows=100),
    _call(nodes.renew, "live"),
    _call(nodes.count),
    _call(nodes.find_lapsed, 0.0),
    _call(nodes.time_out_connections, "dead", 100, rows=100),
    _call(nodes.end, "live"),
    _call(locks.try_lock_for_transaction, locks.RETENTION_LOCK),
]

IDENTITY = [
    _call(sessions.find_user, "user-1", "00000000000000aa"),
    _call(sessions.end, "user-1", "00000000000000aa", 2_000_000_000),
    _call(sessions.standings, PEOPLE, rows=100),
    _call(sessions.delete_over, 100, rows=100),
]

SITE = [
    _call(users.find_by_id, "user-1"),
    _call(users.find_by_email, "user-1@jasaweb.test"),
    _call(users.find_credentials, "user-1@jasaweb.test"),
    _call(users.find_credentials, "nobody@jasaweb.test", of="of nobody"),
    _call(users.list_ids_by_role, "admin", rows=100),
    _search(role="admin", words="", by_email=False, rows=100, of="of administrators"),
    _call(users.insert_missing, [NewUser("x", "x@jasaweb.test", "", "X", "client")]),
    _call(projects.get, "p-1"),
    _call(projects.get_for_update, "p-1"),
    _call(projects.list_for, "user-1"),
    _call(projects.set_status, "p-1", "review"),
    _call(projects.insert_missing, [NewProject("x", "user-1", "X", "company")]),
    _call(invoices.list_for, "user-1"),
    _call(invoices.get_for_update, "i-1"),
    # The site's table has no index for it, and payments come one by one.
    _call(invoices.find_by_order_for_update, "order-1", scans=["invoices"]),
    _call(invoices.set_status, "i-1", "paid"),
    _call(invoices.insert_missing, [NewInvoice("x", "p-1", Decimal(1))]),
]

MENDING = [
    _call(ledger.unnumbered, PEOPLE, 100, rows=2000),
    _call(ledger.stray_places, PEOPLE, 100, rows=2000),
    _call(ledger.correct_counters, PEOPLE, rows=2000),
    _call(ledger.number_late, [(user_id, f"n-{OF_HEAVY + n * 7}") for n, user_id in enumerate(PEOPLE)], rows=100),
    _call(ledger.delete_stray_places, [StrayPlace(user, 1, "", False, None) for user in PEOPLE], rows=100),
]

WHOLE = {
    "damaged_users": "a check compares everything",
    "size": "a check counts everything",
    "dangling_rows": "a check reads the outbox",
    "delete_dangling_rows": "mends the outbox",
    "count_except": "asked once, when a demo starts",
    "fitness_of": "asks for the state of the server, when a doctor looks",
    "role_of": "asks for nothing but who is asking",
    "grant": "reads the catalogue, when a database is migrated",
    "require": "reads the catalogue, when a server starts",
}
"""Functions that read whole tables by their nature, and why they may.

So does what others do for everybody: an announcement to all, an administrator's search among all users, their lists of
all projects and invoices.
"""

OPERATIONS = [*PROGRAMS, *INBOX, *DELIVERY, *BOOKKEEPING, *IDENTITY, *SITE, *MENDING]
