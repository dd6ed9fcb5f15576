"""The guide's table `real_time_notifications`: storing, the inbox, read state.

Whatever happens here reaches open sockets by the triggers of migration 0005, as it does when another program writes;
nothing else in this package needs to tell anyone. Writing functions work on any asyncpg connection, inside the caller's
transaction.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import asyncpg
import msgspec

from jasaweb_rt.database.users import Role
from jasaweb_rt.database.values import decode_json

NotificationType = Literal["project_update", "payment_update", "system_announcement", "admin_alert", "user_message"]


class Notification(msgspec.Struct, frozen=True):
    """A stored notification with its place in its user's feed. Times are aware, in UTC."""

    id: str
    seq: int
    user_id: str
    type: str
    """A `NotificationType`, or a label that the site has added to its enum."""
    title: str
    message: str
    data: Any
    """JSON as it is stored; None where the column is NULL."""
    read_at: datetime | None
    created_at: datetime


class FeedEntry(msgspec.Struct, frozen=True, gc=False):
    """What of a stored notification goes into its frame, read in as little time as it can be."""

    id: str
    seq: int
    type: str
    title: str
    message: str
    data: Any
    """As that of a `Notification`."""
    timestamp: str
    """When it was created, as a frame has it."""


TIMESTAMP = """to_char(
    least(greatest(n.created_at, '0001-01-01'), '9999-12-31 23:59:59.999'), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'
  )"""
"""SQL for when notification `n` was created: RFC 3339 with milliseconds, within the years that its readers know."""

ENTRY_COLUMNS = f"n.id, n.type::text, n.title, n.message, n.data::text, {TIMESTAMP} as timestamp"
"""SQL for what `entry_of` reads of a notification `n`."""


class NewNotification(msgspec.Struct, frozen=True, kw_only=True):
    """A notification to be stored."""

    user_id: str
    type: NotificationType
    title: str
    message: str
    data: Any = None
    """Whatever msgspec encodes as JSON; None is stored as NULL."""
    id: str = msgspec.field(default_factory=lambda: str(uuid.uuid4()))


class Counters(NamedTuple):
    """A user's counters; all 0 for one who never had a notification."""

    head_seq: int
    unread: int
    rev: int


class Marked(NamedTuple):
    """What marking notifications as read has done."""

    changed: int
    """How many were unread and now are read."""
    counters: Counters
    """After that."""


class Inbox(NamedTuple):
    """A page of an inbox, and where it stands; one consistent read."""

    items: list[Notification]
    """In `seq` order."""
    total: int
    """How many there are, whatever `after` and `limit`: all, or all unread ones where only those were asked for."""
    head_seq: int
    unread: int
    rev: int


async def insert_many(connection: asyncpg.Connection, notifications: Sequence[NewNotification]) -> list[str]:
    """Stores notifications by one statement, numbered in the given order, and returns their ids in that order.

    One statement locks its users' counters in a fixed order; the locks last until the transaction ends. So call it
    once, last before the commit, and be ready to repeat the transaction on SQLSTATE 40P01 or 40001.
    """
    await connection.execute(
        """
        insert into public.real_time_notifications (id, user_id, type, title, message, data, created_at)
        select id, user_id, type::public."NotificationType", title, message, data::jsonb, now() at time zone 'UTC'
        from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) with ordinality
          as new (id, user_id, type, title, message, data, n)
        order by n
        """,
        [item.id for item in notifications],
        [item.user_id for item in notifications],
        [item.type for item in notifications],
        [item.title for item in notifications],
        [item.message for item in notifications],
        [None if item.data is None else msgspec.json.encode(item.data).decode() for item in notifications],
    )
    return [item.id for item in notifications]


async def insert_for_users(
    connection: asyncpg.Connection,
    type: NotificationType,  # noqa: A002  # the column's name
    *,
    title: str,
    message: str,
    data: Any = None,  # noqa: ANN401  # whatever msgspec encodes as JSON
    role: Role | None = None,
    user_ids: Sequence[str] | None = None,
) -> list[str]:
    """Stores the same notification for every user who has `role` and is one of `user_ids`; None of either: anyone.

    One statement, which reads who there is as it writes; returns the ids in the order of the users' ids. Locks as
    `insert_many` does.
    """
    # One text each: a plan that is kept for any arguments would read all users for the few that are meant.
    which = 'u.role = $5::text::public."Role"' if role is not None else "$5::text is null"
    if user_ids is not None:
        which += " and u.id = any ($6::text[])"
    rows = await connection.fetch(
        f"""
        insert into public.real_time_notifications (id, user_id, type, title, message, data, created_at)
        select gen_random_uuid()::text, u.id, $1::text::public."NotificationType", $2, $3, $4::text::jsonb,
               now() at time zone 'UTC'
        from public.users u where {which}
        order by u.id returning id
        """,  # noqa: S608  # ours
        type,
        title,
        message,
        None if data is None else msgspec.json.encode(data).decode(),
        role,
        *(() if user_ids is None else (list(user_ids),)),
    )
    return [row["id"] for row in rows]


async def inbox(
    connection: asyncpg.Connection, user_id: str, after: int = 0, limit: int = 50, unread_only: bool = False
) -> Inbox:
    """Up to `limit` notifications of `user_id` after the seq `after`, with the counters as of the same moment."""
    # One by one in their order, until the page is full: how many of them are unread, the planner cannot know.
    rows = await connection.fetch(
        """
        select coalesce(c.head_seq, 0) as head_seq, coalesce(c.unread, 0) as unread, coalesce(c.rev, 0) as rev,
               case when $4 then coalesce(c.unread, 0)
                    else (select count(*) from jasaweb_rt.feed f where f.user_id = $1) end as total,
               page.*
        from (select) as one
        left join jasaweb_rt.counters c on c.user_id = $1
        left join lateral (
          select f.seq, n.id, n.user_id, n.type::text, n.title, n.message, n.data::text,
                 n.read_at at time zone 'UTC' as read_at, n.created_at at time zone 'UTC' as created_at
          from jasaweb_rt.feed f
          cross join lateral (
            select * from public.real_time_notifications n
            where n.id = f.notification_id offset 0
          ) n
          where n.user_id = f.user_id and f.user_id = $1 and f.seq > $2 and (not $4 or n.read_at is null)
          order by f.seq limit $3
        ) page on true
        order by page.seq
        """,
        user_id,
        after,
        limit,
        unread_only,
    )
    first = rows[0]
    items = [_notification_of(row) for row in rows if row["id"] is not None]
    return Inbox(items, first["total"], first["head_seq"], first["unread"], first["rev"])


async def get_counters(connection: asyncpg.Connection, user_id: str) -> Counters:
    """The counters of `user_id`."""
    row = await connection.fetchrow("select head_seq, unread, rev from jasaweb_rt.counters where user_id = $1", user_id)
    return Counters(0, 0, 0) if row is None else Counters(*row)


async def mark_read_ids(connection: asyncpg.Connection, user_id: str, ids: Sequence[str]) -> Marked:
    """Marks those of `ids` that are the user's and unread; others are passed over."""
    done = await connection.execute(
        """
        with mine as (
          select id from public.real_time_notifications
          where id = any ($2::text[]) and user_id = $1 and read_at is null order by id for no key update
        )
        update public.real_time_notifications n set read_at = now() at time zone 'UTC' from mine where n.id = mine.id
        """,
        user_id,
        list(ids),
    )
    return Marked(_row_count(done), await get_counters(connection, user_id))


async def mark_read_up_to(connection: asyncpg.Connection, user_id: str, seq: int) -> Marked:
    """Marks all of the user's unread notifications up to `seq` by one statement.

    Its devices are told `{"upTo": seq}`, not each id.
    """
    # Rows are locked in the order of their ids, as by mark_read_ids, so that two devices do not wait for each other.
    done = await connection.execute(
        """
        with told as materialized (
          select set_config('jasaweb_rt.read_up_to', $2::bigint::text, true) as up_to
        ), mine as (
          select n.id from jasaweb_rt.feed f
          join public.real_time_notifications n on n.id = f.notification_id and n.user_id = f.user_id
          where f.user_id = $1 and f.seq <= $2::bigint and n.read_at is null
          order by n.id for no key update of n
        )
        update public.real_time_notifications n set read_at = now() at time zone 'UTC'
        from told, mine where n.id = mine.id and told.up_to is not null
        """,
        user_id,
        seq,
    )
    return Marked(_row_count(done), await get_counters(connection, user_id))


def _row_count(command_tag: str) -> int:
    """Rows that a statement changed: `UPDATE 3` is 3."""
    return int(command_tag.rpartition(" ")[2])


def entry_of(row: asyncpg.Record) -> FeedEntry:
    """The entry in a row that has `ENTRY_COLUMNS` and `seq`."""
    notification_id = row["id"]
    return FeedEntry(
        notification_id,
        row["seq"],
        row["type"],
        row["title"],
        row["message"],
        decode_json(row["data"], notification_id),
        row["timestamp"],
    )


def _notification_of(row: asyncpg.Record) -> Notification:
    """The notification in a row that has its columns (`data` as text, times with their zone) and `seq`."""
    return Notification(
        id=row["id"],
        seq=row["seq"],
        user_id=row["user_id"],
        type=row["type"],
        title=row["title"],
        message=row["message"],
        data=decode_json(row["data"], row["id"]),
        read_at=row["read_at"],
        created_at=row["created_at"],
    )
