"""The guide's table `websocket_connections`: one row a connection, written in batches.

Moments are Unix times in seconds, as the core gives them.
"""

from collections.abc import Sequence
from typing import Literal

import asyncpg
import msgspec

__all__ = [
    "Connection",
    "OpenConnection",
    "OpenCount",
    "Status",
    "close_all",
    "close_many",
    "count_open",
    "delete_closed",
    "is_open",
    "list_open",
    "save_many",
    "surplus",
    "touch_many",
]

Status = Literal["active", "disconnected", "error", "timeout"]


class Connection(msgspec.Struct, frozen=True):
    """One connection."""

    connection_id: str
    user_id: str
    client_ip: str
    user_agent: str | None
    connected_at: float
    last_activity: float
    status: Status


class OpenConnection(msgspec.Struct, frozen=True):
    """One connection that is open, with its user."""

    connection_id: str
    user_id: str
    role: str
    name: str
    client_ip: str
    user_agent: str | None
    connected_at: float
    last_activity: float


class OpenCount(msgspec.Struct, frozen=True):
    """How many are connected."""

    connections: int
    users: int


# Of servers that live, so of ours: another program's rows have no lease.
_OPEN = """
  public.websocket_connections c
  join jasaweb_rt.nodes n on n.node_id = split_part(c.connection_id, '-', 1) and not n.lapsed
"""


async def count_open(connection: asyncpg.Connection) -> OpenCount:
    """How many connections are open at all servers, and of how many users."""
    row = await connection.fetchrow(
        f"select count(*) as connections, count(distinct c.user_id) as users from {_OPEN} where c.status = 'active'"  # noqa: S608  # ours
    )
    return OpenCount(connections=row["connections"], users=row["users"])


async def list_open(
    connection: asyncpg.Connection, user_id: str | None, role: str | None, search: str, limit: int, offset: int
) -> tuple[list[OpenConnection], int]:
    """A page of the open connections of all servers, the oldest first, and how many match in all.

    Those of `user_id`, of users who have `role`, and of which name, user id or address holds `search` in any case; None
    or the empty string: all.
    """
    matching = f"""
      from {_OPEN} join public.users u on u.id = c.user_id
      where c.status = 'active' and ($1::text is null or c.user_id = $1) and ($2::text is null or u.role::text = $2)
        and ($3 = '' or position(lower($3) in lower(concat_ws(chr(10), u.name, u.id, c.client_ip))) > 0)
    """
    total = await connection.fetchval(f"select count(*) {matching}", user_id, role, search)
    rows = await connection.fetch(
        f"""
        select c.connection_id, c.user_id, u.role::text, u.name, coalesce(c.client_ip, '') as client_ip, c.user_agent,
               extract(epoch from c.connected_at)::float8 as connected_at,
               extract(epoch from c.last_activity)::float8 as last_activity
        {matching}
        order by c.connected_at, c.connection_id limit $4 offset $5
        """,  # noqa: S608  # ours
        user_id,
        role,
        search,
        limit,
        offset,
    )
    return [OpenConnection(**row) for row in rows], total


async def is_open(connection: asyncpg.Connection, connection_id: str) -> bool:
    """Whether a connection is open at one of our servers."""
    found: bool = await connection.fetchval(
        f"select exists (select from {_OPEN} where c.connection_id = $1 and c.status = 'active')",  # noqa: S608  # ours
        connection_id,
    )
    return found


async def save_many(connection: asyncpg.Connection, rows: Sequence[Connection]) -> None:
    """Inserts rows, or brings those that are there to their new state; those of users who do not exist are left out."""
    await connection.execute(
        """
        insert into public.websocket_connections as c
          (id, user_id, connection_id, client_ip, user_agent, connected_at, last_activity, status)
        select gen_random_uuid()::text, u.id, r.connection_id, r.client_ip, r.user_agent,
               to_timestamp(r.connected_at) at time zone 'UTC', to_timestamp(r.last_activity) at time zone 'UTC',
               r.status::public."ConnectionStatus"
        from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::float8[], $7::text[])
          as r (connection_id, user_id, client_ip, user_agent, connected_at, last_activity, status)
        cross join lateral (select u.id from public.users u where u.id = r.user_id offset 0) u
        order by r.connection_id
        on conflict (connection_id) do update set status = excluded.status, last_activity = excluded.last_activity
        where (c.status, c.last_activity) is distinct from (excluded.status, excluded.last_activity)
        """,
        [row.connection_id for row in rows],
        [row.user_id for row in rows],
        [row.client_ip for row in rows],
        [row.user_agent for row in rows],
        [row.connected_at for row in rows],
        [row.last_activity for row in rows],
        [row.status for row in rows],
    )


async def surplus(connection: asyncpg.Connection, user_ids: Sequence[str], limit: int) -> list[str]:
    """Ids of those active connections of `user_ids` that are beyond `limit` for their user: the idlest.

    Connections of nodes that have not renewed their lease of late may be gone, and do not count.
    """
    rows = await connection.fetch(
        """
        select c.connection_id
        from unnest($1::text[]) as u (user_id)
        cross join lateral (
          select c.connection_id from (
            select c.connection_id, c.status, c.last_activity from public.websocket_connections c
            where c.user_id = u.user_id offset 0
          ) c
          join jasaweb_rt.nodes n on n.node_id = split_part(c.connection_id, '-', 1)
            and not n.lapsed and n.renewed_at > now() - interval '15 seconds'
          where c.status = 'active' order by c.last_activity desc, c.connection_id desc offset $2
        ) c
        """,
        list(user_ids),
        limit,
    )
    return [row["connection_id"] for row in rows]


async def touch_many(connection: asyncpg.Connection, activity: Sequence[tuple[str, float]]) -> None:
    """Notes the last activity of connections, each `(connection_id, moment)`."""
    # Whatever their status, or the index on that would be taken, and all active rows read for each batch.
    await connection.execute(
        """
        update public.websocket_connections c set last_activity = to_timestamp(t.moment) at time zone 'UTC'
        from unnest($1::text[], $2::float8[]) as t (connection_id, moment)
        where c.connection_id = t.connection_id
        """,
        [connection_id for connection_id, _ in activity],
        [moment for _, moment in activity],
    )


async def close_many(connection: asyncpg.Connection, connection_ids: Sequence[str]) -> None:
    """Marks those of these connections that are still active as `disconnected`."""
    await connection.execute(
        """
        update public.websocket_connections set status = 'disconnected'
        where connection_id = any ($1::text[]) and status = 'active'
        """,
        list(connection_ids),
    )


async def close_all(connection: asyncpg.Connection, node_id: str) -> None:
    """Marks what is still active of a node that ends as `disconnected`."""
    await connection.execute(
        """
        update public.websocket_connections set status = 'disconnected'
        where status = 'active' and starts_with(connection_id, $1 || '-')
        """,
        node_id,
    )


async def delete_closed(connection: asyncpg.Connection, days: int, limit: int) -> int:
    """Deletes up to `limit` closed connections whose last activity is older than `days` and that have no messages.

    Returns how many. It waits for nobody's lock.
    """
    # One with messages would take them along, however many, locked or young.
    rows = await connection.fetch(
        """
        delete from public.websocket_connections where id = any (array(
          select c.id from public.websocket_connections c
          where c.last_activity < (now() - make_interval(days => $1)) at time zone 'UTC' and c.status <> 'active'
            and not exists (select from public.websocket_messages m where m.connection_id = c.id)
          order by c.last_activity limit $2 for update skip locked
        ))
        returning 1
        """,
        days,
        limit,
    )
    return len(rows)
