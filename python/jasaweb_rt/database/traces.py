"""Where one notification is, put together from every table that knows of it.

No table is read as a whole but the outbox, which is short, and has no index for this lest each notification pay for it.
The rows of the message log are found by their ids, which follow from the user's connections and the seq.

Two moments are columns of no table, and known where PostgreSQL keeps the time of each commit
(`track_commit_timestamp`): when the notification was committed, which is when its place in the feed was, and by when a
delivery was known, which is when the log's row was last written.
"""

from datetime import datetime
from typing import Literal

import asyncpg
import msgspec

from jasaweb_rt.database import outbox
from jasaweb_rt.database.message_log import MESSAGE_ID

__all__ = ["Numbered", "SentTo", "Trace", "Waiting", "find"]

Numbered = Literal["on_insert", "by_migration", "never"]


class SentTo(msgspec.Struct, frozen=True):
    """A connection that the notification was sent to, by the message log."""

    connection_id: str
    client_ip: str | None
    user_agent: str | None
    connected_at: datetime
    status: str
    """A status of `database.connections`, as it is now."""
    sent_at: datetime
    """By the clock of its node; not before it was sent, and some second later at most while the database answers."""
    delivered: bool
    delivered_before: datetime | None
    """It had arrived by then; None where it has not, or where commit times are not kept."""


class Waiting(msgspec.Struct, frozen=True):
    """What keeps a notification that is committed and stands in the outbox."""

    ahead: int
    """Rows of the outbox, of all users, that are to be relayed before it."""
    relay_runs: bool
    """Whether some node relays at all."""


class Trace(msgspec.Struct, frozen=True):
    """Where a notification is, all of it as of one moment. Times are aware, in UTC."""

    id: str
    user_id: str
    type: str
    title: str
    created_at: datetime
    """What its writer put there; by default the start of the writing transaction."""
    read_at: datetime | None
    numbered: Numbered
    """`never`: it was written past the triggers, and nothing pushes it. `by_migration`: it was there before them."""
    seq: int | None
    """None where it was never numbered."""
    committed_at: datetime | None
    """None where commit times are not kept, or were not yet, and where a migration numbered it."""
    waiting: Waiting | None
    """None where nothing of it is in the outbox any more, or never was."""
    sent_to: list[SentTo]
    """The first of them, in the order in which it was sent."""
    sent_total: int
    delivered_total: int


# A transaction's number (xmin) says who wrote a row. Places in the feed that the fifth migration gave have that of its
# record; those that are no younger came from a dump, together with it, and their commit was that of the restore.
_FIND = """
select n.id, n.user_id, n.type::text, n.title,
       n.created_at at time zone 'UTC' as created_at, n.read_at at time zone 'UTC' as read_at,
       place.seq, place.written_by = begin.written_by as by_migration,
       case when begin.committed_at is null or place.committed_at > begin.committed_at then place.committed_at end
         as committed_at,
       waiting.id as outbox_id
from public.real_time_notifications n
left join lateral (
  select entry.seq, entry.written_by,
         case when current_setting('track_commit_timestamp') = 'on' then pg_xact_commit_timestamp(entry.written_by) end
           as committed_at
  from (
    select f.user_id, f.seq, f.xmin as written_by from jasaweb_rt.feed f where f.notification_id = n.id offset 0
  ) entry
  where entry.user_id = n.user_id
  order by entry.seq limit 1
) place on true
left join lateral (
  select m.xmin as written_by,
         case when current_setting('track_commit_timestamp') = 'on' then pg_xact_commit_timestamp(m.xmin) end
           as committed_at
  from jasaweb_rt.migrations m where m.version = 5
) begin on true
left join lateral (
  select o.id from jasaweb_rt.outbox o
  where o.kind = 'notification' and o.user_id = n.user_id and o.seq = place.seq limit 1
) waiting on true
where n.id = $1
"""

_SENT_TO = f"""
select c.connection_id, c.client_ip, c.user_agent, c.connected_at at time zone 'UTC' as connected_at,
       c.status::text as status, m.sent_at at time zone 'UTC' as sent_at, m.delivered,
       case when m.delivered and current_setting('track_commit_timestamp') = 'on'
            then pg_xact_commit_timestamp(m.written_by) end as delivered_before,
       count(*) over () as total, count(*) filter (where m.delivered) over () as delivered_total
from public.websocket_connections c
cross join lateral (
  select m.sent_at, m.delivered, m.xmin as written_by from public.websocket_messages m
  where m.id = {MESSAGE_ID.format(seq="$2::bigint")} and m.payload ->> 'id' = $3 offset 0
) m
where c.user_id = $1
order by m.sent_at, c.connected_at, c.connection_id
limit $4
"""  # noqa: S608  # the id's expression is ours


async def find(connection: asyncpg.Connection, notification_id: str, limit: int) -> Trace | None:
    """Where a notification is, with up to `limit` of the connections it was sent to; None where there is none such."""
    # One snapshot for all of it, so that nothing is both waiting and delivered.
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        row = await connection.fetchrow(_FIND, notification_id)
        if row is None:
            return None
        waiting = None
        if row["outbox_id"] is not None:
            ahead = await connection.fetchval("select count(*) from jasaweb_rt.outbox where id < $1", row["outbox_id"])
            waiting = Waiting(ahead, await outbox.is_led(connection))
        sent = (
            [] if row["seq"] is None else await connection.fetch(_SENT_TO, row["user_id"], row["seq"], row["id"], limit)
        )
    return Trace(
        id=row["id"],
        user_id=row["user_id"],
        type=row["type"],
        title=row["title"],
        created_at=row["created_at"],
        read_at=row["read_at"],
        numbered=_numbered(row),
        seq=row["seq"],
        committed_at=row["committed_at"],
        # What was published is removed a moment later.
        waiting=None if sent else waiting,
        sent_to=[SentTo(**{name: one[name] for name in SentTo.__struct_fields__}) for one in sent],
        sent_total=sent[0]["total"] if sent else 0,
        delivered_total=sent[0]["delivered_total"] if sent else 0,
    )


def _numbered(row: asyncpg.Record) -> Numbered:
    if row["seq"] is None:
        return "never"
    return "by_migration" if row["by_migration"] else "on_insert"
