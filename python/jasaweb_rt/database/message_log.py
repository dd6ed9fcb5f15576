"""The guide's table `websocket_messages`: one row a connection and durable frame, written by position.

What was sent to a connection is a range of its user's feed, so a range is all that travels here; frames are put
together from the tables, as `messages.durable_frame` does it. A row's id follows from connection and seq: writing a
range a second time changes nothing, and a row is found again without a search. Ranges travel as JSON, which
is encoded as a whole; the driver encodes arrays value by value.
"""

from collections.abc import Sequence

import asyncpg
import msgspec

from jasaweb_rt.database.notifications import TIMESTAMP

__all__ = ["MESSAGE_ID", "Proof", "SentRange", "add_many", "delete_old", "mark_delivered"]


class SentRange(msgspec.Struct, frozen=True, gc=False):
    """What one connection was sent: every notification of its user from `first` through `last`."""

    connection_id: str
    user_id: str
    first: int
    last: int
    delivered: int
    """What lies up to this seq has arrived."""
    sent_at: float
    """Unix time in seconds."""


class Proof(msgspec.Struct, frozen=True, gc=False):
    """What was sent to one connection from `first` through `last` has arrived."""

    connection_id: str
    first: int
    last: int


MESSAGE_ID = "overlay(overlay(md5(c.id || '/' || {seq}) placing '3' from 13) placing '8' from 17)::uuid::text"
"""SQL for the id of a row, a name-based UUID (RFC 9562 section 5.3): of connection `c`, and of what `seq` becomes."""

_ADD = f"""
with given as materialized (
  select * from rows from (json_to_recordset($1::json) as (
    connection_id text, user_id text, first bigint, last bigint, delivered bigint, sent_at float8
  )) with ordinality as p (connection_id, user_id, first, last, delivered, sent_at, n)
), sent as materialized (
  select p.n, p.delivered, p.sent_at, p.user_id, p.first, p.last, c.id
  from given p
  cross join lateral (
    select c.id from public.websocket_connections c where c.connection_id = p.connection_id and c.user_id = p.user_id
    offset 0
  ) c
), added as (
  insert into public.websocket_messages (id, connection_id, message_type, payload, sent_at, delivered)
  select {MESSAGE_ID.format(seq="f.seq")}, c.id, n.type,
         jsonb_build_object(
           'type', n.type,
           'data', case when octet_length(n.data::text) > $2 then '{{"truncated": true}}' else n.data end,
           'timestamp', n.timestamp, 'id', n.id, 'seq', f.seq
         ),
         to_timestamp(c.sent_at) at time zone 'UTC', f.seq <= c.delivered
  from sent c
  cross join lateral (
    select f.seq, f.notification_id from jasaweb_rt.feed f
    where f.user_id = c.user_id and f.seq between c.first and c.last offset 0
  ) f
  cross join lateral (
    select n.id, n.user_id, n.type::text as type,
           case coalesce(jsonb_typeof(n.data), 'null')
             when 'object' then jsonb_build_object('title', n.title, 'message', n.message) || n.data
             when 'null' then jsonb_build_object('title', n.title, 'message', n.message)
             else '{{"truncated": true}}'
           end as data,
           {TIMESTAMP} as timestamp
    from public.real_time_notifications n where n.id = f.notification_id offset 0
  ) n
  where n.user_id = c.user_id
  order by c.n, f.seq
  on conflict (id) do nothing
)
select n from given except select n from sent order by n
"""  # noqa: S608  # the id's expression is ours


async def add_many(
    connection: asyncpg.Connection, ranges: Sequence[SentRange], longest_data: int = 65_536
) -> list[SentRange]:
    """Writes a row for each notification in `ranges` that still exists, and returns the ranges of unknown connections.

    `data` of more than `longest_data` bytes is left out, as it was when it was sent.
    """
    unknown = await connection.fetch(_ADD, ranges, longest_data)
    return [ranges[row["n"] - 1] for row in unknown]


async def mark_delivered(connection: asyncpg.Connection, proofs: Sequence[Proof]) -> None:
    """Marks the rows of what has arrived."""
    # Without `and not delivered`, whose index lists all that ever went astray and looks cheaper than it is.
    await connection.execute(
        f"""
        update public.websocket_messages set delivered = true
        where id = any (array(
          select {MESSAGE_ID.format(seq="seq")}
          from json_to_recordset($1::json) as p (connection_id text, first bigint, last bigint)
          cross join lateral (
            select c.id from public.websocket_connections c where c.connection_id = p.connection_id offset 0
          ) c
          cross join generate_series(p.first, p.last) as seq
        ))
        """,  # noqa: S608  # the id's expression is ours
        proofs,
    )


async def delete_old(connection: asyncpg.Connection, days: int, limit: int) -> int:
    """Deletes up to `limit` messages that were sent more than `days` ago, and returns how many.

    It waits for nobody's lock.
    """
    rows = await connection.fetch(
        """
        delete from public.websocket_messages where id = any (array(
          select id from public.websocket_messages
          where sent_at < (now() - make_interval(days => $1)) at time zone 'UTC'
          order by sent_at limit $2 for update skip locked
        ))
        returning 1
        """,
        days,
        limit,
    )
    return len(rows)
