"""The ledger, which is counters, feed and outbox: whether it says what the notifications themselves say, and its mend.

The triggers of migration 0005 keep it true. It is wrong where somebody wrote past them (`session_replication_role`,
`pg_restore --disable-triggers`), restored one table without the other, or changed our tables by hand.

Whoever mends locks counters in the order of their users, as the triggers do, and after that waits for nobody: what
others have locked is passed over. The table of notifications is locked against TRUNCATE before, or that would wait for
the counters and we for it. A statement that follows the lock sees all that its holders have committed, and no later
writer can number or count before we commit.
"""

from collections.abc import AsyncIterator, Sequence

import asyncpg
import msgspec

from jasaweb_rt.database.message_log import MESSAGE_ID
from jasaweb_rt.database.outbox import CHANNEL

__all__ = [
    "DamagedUser",
    "DanglingRow",
    "Size",
    "StrayPlace",
    "correct_counters",
    "damaged_users",
    "dangling_rows",
    "delete_dangling_rows",
    "delete_stray_places",
    "number_late",
    "size",
    "stray_places",
    "unnumbered",
]


class DamagedUser(msgspec.Struct, frozen=True):
    """A user of whom the ledger does not say what the notifications say."""

    user_id: str
    head_seq: int | None
    """Of the counter; None where there is no counter."""
    counted: int | None
    """Unread by the counter; None where there is no counter."""
    unread: int
    """Unread by the notifications themselves."""
    last_seq: int
    """The highest number in the feed; 0 where that is empty."""
    unnumbered: int
    """How many notifications have no place in the feed."""
    strays: int
    """How many places are one too many, see `StrayPlace`."""


class StrayPlace(msgspec.Struct, frozen=True):
    """A place in the feed that must not be.

    Its notification is gone or another user's, or has a later place as well, or the number is one that nobody asks for.
    """

    user_id: str
    seq: int
    notification_id: str
    exists: bool
    """Whether this user has the notification."""
    later: int | None
    """The highest other place of the notification after this one."""


class DanglingRow(msgspec.Struct, frozen=True):
    """A row of the outbox whose number was never given. That of a notification which was deleted since is none."""

    id: int
    user_id: str
    seq: int


class Size(msgspec.Struct, frozen=True):
    """How much there is."""

    notifications: int
    counters: int


_DAMAGED_USERS = """
with place as (
  select user_id, notification_id, count(*) as places, max(seq) as last
  from jasaweb_rt.feed group by user_id, notification_id
), paired as (
  select coalesce(n.user_id, p.user_id) as user_id, n.id is not null as exists, n.read_at,
         coalesce(p.places, 0) as places, coalesce(p.last, 0) as last
  from place p full join public.real_time_notifications n on n.id = p.notification_id and n.user_id = p.user_id
), held as (
  select user_id, max(last) as last_seq,
         count(*) filter (where exists and read_at is null) as unread,
         count(*) filter (where exists and last < 1) as unnumbered,
         sum(places)::bigint - count(*) filter (where exists and last >= 1) as strays
  from paired group by user_id
)
select user_id, c.head_seq, c.unread as counted, coalesce(h.unread, 0) as unread,
       greatest(h.last_seq, 0) as last_seq, coalesce(h.unnumbered, 0) as unnumbered, coalesce(h.strays, 0) as strays
from jasaweb_rt.counters c full join held h using (user_id)
where c.user_id is null or c.unread <> coalesce(h.unread, 0) or c.head_seq < greatest(h.last_seq, 0)
  or h.unnumbered > 0 or h.strays > 0
order by user_id
"""


async def damaged_users(connection: asyncpg.Connection) -> AsyncIterator[DamagedUser]:
    """All of them, in order, by one statement that reads every table once. To be used in a transaction of its own."""
    # All rows are wanted, and in the order of an index they would be fetched from all over the disk.
    await connection.execute(
        "set local enable_indexscan = off; set local enable_indexonlyscan = off; set local enable_bitmapscan = off"
    )
    async for row in connection.cursor(_DAMAGED_USERS, prefetch=1000):
        yield DamagedUser(*row)
    await connection.execute(
        "set local enable_indexscan = default; set local enable_indexonlyscan = default; "
        "set local enable_bitmapscan = default"
    )


async def size(connection: asyncpg.Connection) -> Size:
    """How many notifications and counters there are."""
    row = await connection.fetchrow(
        "select (select count(*) from public.real_time_notifications), (select count(*) from jasaweb_rt.counters)"
    )
    return Size(*row)


async def unnumbered(connection: asyncpg.Connection, user_ids: Sequence[str], limit: int) -> list[tuple[str, str]]:
    """The first `limit` notifications of these users without a place, each `(user_id, id)`, in order of creation."""
    rows = await connection.fetch(
        """
        select u.user_id, n.id
        from unnest($1::text[]) as u (user_id)
        cross join lateral (
          select n.id, n.created_at from public.real_time_notifications n where n.user_id = u.user_id offset 0
        ) n
        left join lateral (
          select true as found from jasaweb_rt.feed f
          where f.notification_id = n.id and f.user_id = u.user_id and f.seq >= 1 limit 1
        ) place on true
        where place.found is null
        order by u.user_id, n.created_at, n.id limit $2
        """,
        list(user_ids),
        limit,
    )
    return [(row["user_id"], row["id"]) for row in rows]


async def stray_places(connection: asyncpg.Connection, user_ids: Sequence[str], limit: int) -> list[StrayPlace]:
    """The first `limit` stray places in the feeds of these users, in order of user and number."""
    rows = await connection.fetch(
        """
        select u.user_id, f.seq, f.notification_id, n.found is not null as exists, later.seq as later
        from unnest($1::text[]) as u (user_id)
        cross join lateral (
          select f.seq, f.notification_id from jasaweb_rt.feed f where f.user_id = u.user_id offset 0
        ) f
        left join lateral (
          select true as found from public.real_time_notifications n
          where n.id = f.notification_id and n.user_id = u.user_id limit 1
        ) n on true
        left join lateral (
          select max(l.seq) as seq from jasaweb_rt.feed l
          where l.notification_id = f.notification_id and l.user_id = u.user_id and l.seq > f.seq
        ) later on true
        where n.found is null or later.seq is not null or f.seq < 1
        order by u.user_id, f.seq limit $2
        """,
        list(user_ids),
        limit,
    )
    return [StrayPlace(*row) for row in rows]


_DANGLING = """
from jasaweb_rt.outbox o left join jasaweb_rt.counters c on c.user_id = o.user_id
where o.kind = 'notification' and (c.user_id is null or o.seq > c.head_seq)
  and not exists (select from jasaweb_rt.feed f where f.user_id = o.user_id and f.seq = o.seq)
"""


async def dangling_rows(connection: asyncpg.Connection, limit: int) -> tuple[int, list[DanglingRow]]:
    """How many rows of the outbox dangle, and the first `limit` of them."""
    rows = await connection.fetch(
        f"select o.id, o.user_id, o.seq, count(*) over () as total {_DANGLING} order by o.id limit $1", limit
    )
    return (rows[0]["total"] if rows else 0), [DanglingRow(row["id"], row["user_id"], row["seq"]) for row in rows]


# Conflicting rows are locked also where nothing is updated: https://www.postgresql.org/docs/current/sql-insert.html
# A version that counts milliseconds is beyond any that counting by ones has reached, and clients go by the greater one.
_LOCK_OR_CREATE = """
insert into jasaweb_rt.counters as c (user_id, head_seq, unread, rev)
select user_id, 0, 0, floor(extract(epoch from clock_timestamp()) * 1000)::bigint
from unnest($1::text[]) as u (user_id) order by user_id
on conflict (user_id) do update set rev = c.rev where false
returning user_id
"""

# A head that is lost becomes the highest number that anything knows of: given twice, it would be taken for a repeat.
_CORRECT = f"""
with truth as (
  select u.user_id, u.head_seq, u.unread as counted,
         (select count(*) from public.real_time_notifications n where n.user_id = u.user_id and n.read_at is null)
           as unread,
         coalesce((select max(f.seq) from jasaweb_rt.feed f where f.user_id = u.user_id), 0) as last_seq
  from unnest($1::text[]) as wanted (user_id)
  cross join lateral (
    select c.user_id, c.head_seq, c.unread from jasaweb_rt.counters c where c.user_id = wanted.user_id offset 0
  ) u
), due as (
  select user_id, unread, counted, head_seq as head_before,
         case when head_seq >= last_seq and head_seq >= 0 and user_id <> all ($2::text[]) then head_seq
              else greatest(
                head_seq, last_seq, 0,
                (select max(o.seq) from jasaweb_rt.outbox o where o.user_id = truth.user_id),
                (
                  select max((m.payload ->> 'seq')::bigint)
                  from public.websocket_connections c
                  cross join lateral (
                    select m.id, m.payload from public.websocket_messages m where m.connection_id = c.id offset 0
                  ) m
                  where c.user_id = truth.user_id and m.id = {MESSAGE_ID.format(seq="(m.payload ->> 'seq')")}
                )
              ) end as head_seq
  from truth
), corrected as (
  insert into jasaweb_rt.counters as u (user_id, head_seq, unread, rev)
  select user_id, head_seq, unread, 1 from due where (counted, head_before) <> (unread, head_seq) order by user_id
  on conflict (user_id) do update set head_seq = excluded.head_seq, unread = excluded.unread, rev = u.rev + 1
  returning user_id
), told as (
  insert into jasaweb_rt.outbox (kind, user_id, detail)
  select 'read', user_id, '{{"ids": []}}' from corrected order by user_id
)
select user_id from corrected
"""  # noqa: S608  # the id's expression is ours


async def correct_counters(connection: asyncpg.Connection, user_ids: Sequence[str]) -> int:
    """Brings the counters of these users, each named once, to what is true; makes those that are missing.

    Returns how many it has changed or made; who is online is told. To be called in a transaction (read committed) of
    its own. The locks last until its end.
    """
    await _lock_notifications(connection)
    created = [row["user_id"] for row in await connection.fetch(_LOCK_OR_CREATE, list(user_ids))]
    corrected = [row["user_id"] for row in await connection.fetch(_CORRECT, list(user_ids), created)]
    if corrected:
        await _wake_relay(connection)
    return len({*created, *corrected})


async def number_late(connection: asyncpg.Connection, places: Sequence[tuple[str, str]]) -> int:
    """Gives those of these notifications, each `(user_id, id)`, that still need it a place at the head of their feed.

    In order of creation; they are pushed. Those of users without a counter, or whose head lies behind their feed, are
    passed over, and so are those that somebody is changing. Returns how many were numbered. To be called as
    `correct_counters` is.
    """
    await _lock_notifications(connection)
    user_ids = list({user_id for user_id, _ in places})
    await connection.execute(
        "select from jasaweb_rt.counters where user_id = any ($1::text[]) order by user_id for no key update", user_ids
    )
    # By a statement of its own, which sees what was committed by whoever held the locks.
    sound = await connection.fetch(
        """
        select c.user_id from jasaweb_rt.counters c where c.user_id = any ($1::text[])
          and c.head_seq >= coalesce((select max(f.seq) from jasaweb_rt.feed f where f.user_id = c.user_id), 0)
        """,
        user_ids,
    )
    counted = {row["user_id"] for row in sound}
    due = [(user_id, notification_id) for user_id, notification_id in places if user_id in counted]
    # What is being deleted or given to another user would otherwise get a place that nobody takes away.
    done = await connection.execute(
        """
        with late as materialized (
          select n.user_id, n.id, n.created_at
          from unnest($1::text[], $2::text[]) as wanted (user_id, id)
          cross join lateral (
            select n.user_id, n.id, n.created_at from public.real_time_notifications n
            where n.id = wanted.id and n.user_id = wanted.user_id for no key update skip locked
          ) n
          left join lateral (
            select true as found from jasaweb_rt.feed f
            where f.notification_id = n.id and f.user_id = n.user_id and f.seq >= 1 limit 1
          ) place on true
          where place.found is null
        ), head as (
          insert into jasaweb_rt.counters as c (user_id, head_seq, unread, rev)
          select user_id, count(*), 0, 1 from late group by user_id order by user_id
          on conflict (user_id) do update set head_seq = c.head_seq + excluded.head_seq, rev = c.rev + 1
          returning user_id, head_seq
        ), numbered as (
          insert into jasaweb_rt.feed (user_id, seq, notification_id)
          select l.user_id,
                 head.head_seq - count(*) over (partition by l.user_id)
                   + row_number() over (partition by l.user_id order by l.created_at, l.id),
                 l.id
          from late l join head on head.user_id = l.user_id
          returning user_id, seq
        )
        insert into jasaweb_rt.outbox (kind, user_id, seq)
        select 'notification', user_id, seq from numbered order by user_id, seq
        """,
        [user_id for user_id, _ in due],
        [notification_id for _, notification_id in due],
    )
    count = _row_count(done)
    if count:
        await _wake_relay(connection)
    return count


async def delete_stray_places(connection: asyncpg.Connection, places: Sequence[StrayPlace]) -> int:
    """Deletes those of these places that are stray still and that nobody else deletes; returns how many."""
    done = await connection.execute(
        """
        delete from jasaweb_rt.feed where ctid = any (array(
          select f.ctid from unnest($1::text[], $2::bigint[]) as stray (user_id, seq)
          cross join lateral (
            select f.ctid from jasaweb_rt.feed f
            where f.user_id = stray.user_id and f.seq = stray.seq and (
              f.seq < 1
              or not exists (
                select from public.real_time_notifications n where n.id = f.notification_id and n.user_id = f.user_id
              )
              or exists (
                select from jasaweb_rt.feed l
                where l.notification_id = f.notification_id and l.user_id = f.user_id and l.seq > f.seq
              )
            )
            for update skip locked
          ) f
        ))
        """,
        [place.user_id for place in places],
        [place.seq for place in places],
    )
    return _row_count(done)


async def delete_dangling_rows(connection: asyncpg.Connection, limit: int) -> int:
    """Deletes up to `limit` rows of the outbox that dangle and that nobody has locked; returns how many."""
    done = await connection.execute(
        f"""
        delete from jasaweb_rt.outbox where id = any (array(
          select o.id {_DANGLING} order by o.id limit $1 for update of o skip locked
        ))
        """,  # noqa: S608  # ours
        limit,
    )
    return _row_count(done)


async def _lock_notifications(connection: asyncpg.Connection) -> None:
    await connection.execute("lock table public.real_time_notifications in row share mode")


async def _wake_relay(connection: asyncpg.Connection) -> None:
    await connection.execute("select pg_notify($1, '')", CHANNEL)


def _row_count(command_tag: str) -> int:
    """Rows that a statement changed: `DELETE 3` is 3."""
    return int(command_tag.rpartition(" ")[2])
