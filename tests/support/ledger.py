"""What our tables say, and whether it is true."""

import asyncpg

from jasaweb_rt.database import outbox
from jasaweb_rt.database.notifications import Counters, get_counters
from jasaweb_rt.database.outbox import OutboxRow

INSERT = """insert into public.real_time_notifications (id, user_id, type, title, message)
            values ($1, $2, 'user_message', 'Title', 'Message')"""


async def drained(connection: asyncpg.Connection) -> list[OutboxRow]:
    """Takes everything that waits in the outbox."""
    rows: list[OutboxRow] = []
    relayed: list[int] = []
    while batch := await outbox.read_on(connection, 1000, relayed):
        rows += batch
        relayed = [row.id for row in batch]
    return rows


async def feed_of(connection: asyncpg.Connection, user_id: str) -> list[tuple[int, str]]:
    """The feed of a user: `(seq, notification id)`."""
    rows = await connection.fetch(
        "select seq, notification_id from jasaweb_rt.feed where user_id = $1 order by seq", user_id
    )
    return [tuple(row) for row in rows]


async def check_ledger(connection: asyncpg.Connection) -> None:
    """Compares feed and counters of every user with the notifications themselves."""
    wrong = await connection.fetch(
        """
        select * from (
          select coalesce(c.user_id, n.user_id) as user_id, c.unread, coalesce(n.unread, 0) as rows_unread
          from jasaweb_rt.counters c full join (
            select user_id, count(*) filter (where read_at is null) as unread
            from public.real_time_notifications group by user_id
          ) n using (user_id)
        ) compared where unread is distinct from rows_unread
        """
    )
    assert wrong == []
    unmatched = await connection.fetch(
        """
        select * from jasaweb_rt.feed f
        full join public.real_time_notifications n on n.id = f.notification_id and n.user_id = f.user_id
        where n.id is null or f.seq is null
        """
    )
    assert unmatched == []
    beyond = await connection.fetch(
        """
        select * from jasaweb_rt.feed f join jasaweb_rt.counters c using (user_id)
        where f.seq > c.head_seq or f.seq < 1
        """
    )
    assert beyond == []


__all__ = ["INSERT", "Counters", "check_ledger", "drained", "feed_of", "get_counters"]


async def outbox_size(connection: asyncpg.Connection) -> int:
    """How many rows wait to be relayed."""
    return int(await connection.fetchval("select count(*) from jasaweb_rt.outbox"))
