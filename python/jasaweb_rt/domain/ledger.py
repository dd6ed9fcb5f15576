"""Proves counters, feed and outbox against the notifications, and mends them beside whoever writes."""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Literal, TypeVar

import asyncpg
import msgspec

from jasaweb_rt.database import ledger
from jasaweb_rt.database.ledger import DamagedUser, StrayPlace
from jasaweb_rt.domain.transactions import in_transaction
from jasaweb_rt.exceptions import ConflictError

__all__ = ["Finding", "Kind", "Mended", "Report", "check", "mend"]

logger = logging.getLogger(__name__)

Kind = Literal["no_counter", "head_behind", "wrong_unread", "unnumbered", "stray_place", "dangling"]

T = TypeVar("T")

_EXAMPLES = 5
# Of one transaction.
_USERS = 10
_ROWS = 1000
_GROUP = 10_000
# Keys that are held in memory at a time.
_CANDIDATES = 100_000


class Finding(msgspec.Struct, frozen=True):
    """What is wrong of one kind."""

    kind: Kind
    count: int
    """Users, notifications, places of the feed or rows of the outbox."""
    examples: tuple[str, ...]
    """The first few, a sentence each."""


class Report(msgspec.Struct, frozen=True):
    """What a check has found, all of it as of one moment."""

    size: ledger.Size
    findings: tuple[Finding, ...]
    """One a kind of which there is any."""
    wrong_counters: tuple[str, ...]
    """Ids of the users whose counter is missing or wrong."""
    unnumbered: tuple[tuple[str, int], ...]
    """Users with notifications that have no number, and how many."""
    stray: tuple[tuple[str, int], ...]
    """Users with stray places in their feed, and how many."""


class Mended(msgspec.Struct, frozen=True, kw_only=True):
    """How many of each were mended."""

    counters: int
    numbered: int
    places: int
    outbox_rows: int


async def check(connection: asyncpg.Connection) -> Report:
    """Compares everything, in one snapshot; changes nothing and waits for no writer."""
    first: dict[Kind, list[DamagedUser]] = {kind: [] for kind in _BY_USER}
    totals: dict[Kind, int] = dict.fromkeys(_BY_USER, 0)
    wrong: list[str] = []
    unnumbered: list[tuple[str, int]] = []
    stray: list[tuple[str, int]] = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        size = await ledger.size(connection)
        async for user in ledger.damaged_users(connection):
            counts = _counts(user)
            for kind, count in counts.items():
                totals[kind] += count
                if count and len(first[kind]) < _EXAMPLES:
                    first[kind].append(user)
            if any(counts[kind] for kind in ("no_counter", "head_behind", "wrong_unread")):
                wrong.append(user.user_id)
            if user.unnumbered:
                unnumbered.append((user.user_id, user.unnumbered))
            if user.strays:
                stray.append((user.user_id, user.strays))
        late = await ledger.unnumbered(connection, [user.user_id for user in first["unnumbered"]], _EXAMPLES)
        places = await ledger.stray_places(connection, [user.user_id for user in first["stray_place"]], _EXAMPLES)
        dangling, rows = await ledger.dangling_rows(connection, _EXAMPLES)
    examples: dict[Kind, Iterable[str]] = {
        "no_counter": (
            f"{u.user_id}: {u.unread} unread, the feed goes up to {u.last_seq}" for u in first["no_counter"]
        ),
        "head_behind": (
            f"{u.user_id}: the head is {u.head_seq}, the feed goes up to {u.last_seq}" for u in first["head_behind"]
        ),
        "wrong_unread": (
            f"{u.user_id}: {u.counted} by the counter, {u.unread} by the notifications" for u in first["wrong_unread"]
        ),
        "unnumbered": (f"{user_id}: {notification_id}" for user_id, notification_id in late),
        "stray_place": map(_place, places),
        "dangling": (f"{row.user_id}: {row.seq}" for row in rows),
    }
    totals["dangling"] = dangling
    return Report(
        size=size,
        findings=tuple(Finding(kind, count, tuple(examples[kind])) for kind, count in totals.items() if count),
        wrong_counters=tuple(wrong),
        unnumbered=tuple(unnumbered),
        stray=tuple(stray),
    )


async def mend(connection: asyncpg.Connection, report: Report) -> Mended:
    """Mends what `report` names, in small transactions; each looks again at what it is about to change.

    Writers may be at work: a few users' counters are locked for the time of one transaction, in the order in which the
    triggers lock them, and who is online is told of every change. What others keep locked is left as it is; another
    check tells. `connection` must be read committed and in no transaction. Its `lock_timeout` bounds each
    wait of ours, and with it what a writer behind us waits; below `deadlock_timeout`, none is ended for our sake.
    """
    # Counters first, for without one nothing is numbered; then the strays, which may be a notification's only places.
    counters = 0
    for user_ids in _chunks(report.wrong_counters, _USERS):
        counters += await _run(connection, ledger.correct_counters, user_ids)
    places = 0
    for user_ids in _groups(report.stray):
        places += await _sweep(connection, user_ids, ledger.stray_places, ledger.delete_stray_places)
    numbered = 0
    for user_ids in _groups(report.unnumbered):
        numbered += await _sweep(connection, user_ids, ledger.unnumbered, ledger.number_late)
    outbox_rows = 0
    while count := await ledger.delete_dangling_rows(connection, _ROWS):
        outbox_rows += count
    return Mended(counters=counters, numbered=numbered, places=places, outbox_rows=outbox_rows)


async def _sweep(
    connection: asyncpg.Connection,
    user_ids: Sequence[str],
    find: Callable[[asyncpg.Connection, Sequence[str], int], Awaitable[list[T]]],
    change: Callable[[asyncpg.Connection, Sequence[T]], Awaitable[int]],
) -> int:
    """Changes all that is found of these users, and returns how much that was."""
    total = 0
    while True:
        found = await find(connection, user_ids, _CANDIDATES)
        done = 0
        for chunk in _chunks(found, _ROWS):
            done += await _run(connection, change, chunk)
        total += done
        # Where nothing was done, others hold it all.
        if len(found) < _CANDIDATES or not done:
            return total


async def _run(
    connection: asyncpg.Connection,
    change: Callable[[asyncpg.Connection, Sequence[T]], Awaitable[int]],
    items: Sequence[T],
) -> int:
    """Changes `items` in one transaction; where somebody holds a lock on some, the others by halves."""

    @contextlib.asynccontextmanager
    async def lend() -> AsyncIterator[asyncpg.Connection]:
        yield connection

    try:
        return await in_transaction(lend, lambda lent: change(lent, items))
    except ConflictError:
        if len(items) == 1:
            logger.warning("somebody keeps a lock on %s; it is left as it is", items[0])
            return 0
    half = len(items) // 2
    return await _run(connection, change, items[:half]) + await _run(connection, change, items[half:])


_BY_USER: tuple[Kind, ...] = ("no_counter", "head_behind", "wrong_unread", "unnumbered", "stray_place")


def _counts(user: DamagedUser) -> dict[Kind, int]:
    has_counter = user.head_seq is not None
    return {
        "no_counter": int(not has_counter),
        "head_behind": int(has_counter and (user.head_seq or 0) < user.last_seq),
        "wrong_unread": int(has_counter and user.counted != user.unread),
        "unnumbered": user.unnumbered,
        "stray_place": user.strays,
    }


def _place(place: StrayPlace) -> str:
    if not place.exists:
        return f"{place.user_id}: {place.seq}, of {place.notification_id}, which this user does not have"
    if place.later is not None:
        return f"{place.user_id}: {place.seq}, of {place.notification_id}, which is also {place.later}"
    return f"{place.user_id}: {place.seq}, of {place.notification_id}; numbers begin at 1"


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def _groups(users: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """The users of `(user_id, count)`, so many at a time that their counts together are worth a look."""
    group: list[str] = []
    total = 0
    for user_id, count in users:
        group.append(user_id)
        total += count
        if total >= _GROUP or len(group) == _USERS:
            yield group
            group, total = [], 0
    if group:
        yield group
