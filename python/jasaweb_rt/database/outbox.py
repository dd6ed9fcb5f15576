"""The outbox: what committed and was not relayed yet. Filled by the triggers of migration 0005, drained by the relay.

How the relay sleeps without missing anyone: while it holds `WAKE_LOCK`, which it takes only by trying, every writer
finds that it cannot share the lock and sends `NOTIFY` on `CHANNEL`. While a writer that shared it is open, the relay
cannot take it, and looks again instead.
"""

from collections.abc import Sequence
from typing import Final, Literal

import asyncpg
import msgspec

from jasaweb_rt.database.notifications import ENTRY_COLUMNS, FeedEntry, entry_of

WAKE_LOCK: Final = 0x6A61736177656201
"""Advisory lock: "jasaweb", 1. The relay holds it while it sleeps; migrations 0005 and 0007 have the same number."""

LEADER_LOCK: Final = 0x6A61736177656202
"""Advisory lock: "jasaweb", 2. Whoever holds it relays; the others stand by."""

CHANNEL: Final = "jasaweb_rt"
"""Name to LISTEN on."""

COMPARE: Final = "compare"
"""Payload on `CHANNEL`: what was relayed may not have reached the other nodes. Any other wakes the relay."""


class ReadDetail(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What was read: `ids` (perhaps none: only the count moved), or everything up to a seq."""

    ids: tuple[str, ...] | None = None
    up_to: int | None = None


class OutboxRow(msgspec.Struct, frozen=True, gc=False):
    """One event of a user, with the user's counters as they are now."""

    id: int
    kind: Literal["notification", "read"]
    user_id: str
    seq: int | None
    """Of a `notification`."""
    notification: FeedEntry | None
    """None where it was deleted since: its seq stays empty, and must be told as such. None for a `read`."""
    read_detail: ReadDetail | None
    """Of a `read`."""
    unread: int
    rev: int


RELAY_SETTINGS: Final = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
"""Settings of the connection that reads. A plan is made when the tables are small, and kept while they grow: one that
reads a small table as a whole would read a large one so, too, until statistics are taken the next time. For the same
reason a notification is looked up by its id alone: of a small table, a user's whole list would do as well."""

_READ_ON = f"""
with removed as (
  delete from jasaweb_rt.outbox where id = any ($2::bigint[])
), next as (
  select id, kind, user_id, seq, detail from jasaweb_rt.outbox
  where id not in (select unnest($2::bigint[])) order by id limit $1
)
select o.id as outbox_id, o.kind, o.user_id, o.seq, o.detail::text,
       coalesce(c.unread, 0) as unread, coalesce(c.rev, 0) as rev, {ENTRY_COLUMNS}
from next o
left join jasaweb_rt.counters c on c.user_id = o.user_id
left join jasaweb_rt.feed f on f.user_id = o.user_id and f.seq = o.seq
left join lateral (
  select n.* from public.real_time_notifications n where n.id = f.notification_id offset 0
) n on n.user_id = f.user_id
order by o.id
"""  # noqa: S608  # the columns are ours

_decode_detail = msgspec.json.Decoder(ReadDetail).decode


async def read_on(connection: asyncpg.Connection, limit: int, relayed: Sequence[int] = ()) -> list[OutboxRow]:
    """Removes the rows whose ids are in `relayed`, and reads up to `limit` others, oldest first, by one statement.

    What was read and published is given to the next call: one journey to the database where reading, removing and the
    two ends of a transaction are four. Who dies in between leaves it to be published once more, and never to be lost.
    """
    rows = await connection.fetch(_READ_ON, limit, relayed)
    return [
        OutboxRow(
            id=row["outbox_id"],
            kind=row["kind"],
            user_id=row["user_id"],
            seq=row["seq"],
            notification=None if row["id"] is None else entry_of(row),
            read_detail=None if row["detail"] is None else _decode_detail(row["detail"]),
            unread=row["unread"],
            rev=row["rev"],
        )
        for row in rows
    ]


async def remove(connection: asyncpg.Connection, relayed: Sequence[int]) -> None:
    """Removes the rows whose ids are in `relayed`, where nothing is to be read any more."""
    await connection.execute("delete from jasaweb_rt.outbox where id = any ($1::bigint[])", relayed)


async def try_lock(connection: asyncpg.Connection, lock: int) -> bool:
    """Takes an advisory lock for the session of `connection` if it is free; never waits."""
    return bool(await connection.fetchval("select pg_try_advisory_lock($1)", lock))


async def unlock(connection: asyncpg.Connection, lock: int) -> None:
    """Gives back an advisory lock that `try_lock` took."""
    await connection.execute("select pg_advisory_unlock($1)", lock)


async def ask_to_compare(connection: asyncpg.Connection) -> None:
    """Tells all nodes that what was relayed may have passed them by."""
    await connection.execute("select pg_notify($1, $2)", CHANNEL, COMPARE)


async def is_led(connection: asyncpg.Connection) -> bool:
    """Whether any relay, on whichever node, holds `LEADER_LOCK` of this database."""
    # How pg_locks shows a key of 64 bits: https://www.postgresql.org/docs/current/view-pg-locks.html
    return bool(
        await connection.fetchval(
            """
            select exists (
              select from pg_catalog.pg_locks
              where locktype = 'advisory' and granted and objsubid = 1
                and database = (select oid from pg_catalog.pg_database where datname = current_database())
                and classid::bigint = $1::bigint >> 32 and objid::bigint = $1::bigint & 4294967295
            )
            """,
            LEADER_LOCK,
        )
    )
