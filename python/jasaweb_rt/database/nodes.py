"""Leases: which servers live, and the connections of those that do not. All by the clock of the database."""

import asyncpg

__all__ = ["count", "end", "find_lapsed", "renew", "time_out_connections"]


async def renew(connection: asyncpg.Connection, node_id: str) -> bool:
    """Renews a node's lease, or takes a new one.

    Returns whether it was held without a break; where not, others may have closed its rows.
    """
    async with connection.transaction():
        renewed = await connection.fetchval(
            "update jasaweb_rt.nodes set renewed_at = now() where node_id = $1 and not lapsed returning true", node_id
        )
        if not renewed:
            await connection.execute(
                """
                insert into jasaweb_rt.nodes (node_id) values ($1)
                on conflict (node_id) do update set renewed_at = now(), lapsed = false
                """,
                node_id,
            )
    return renewed is not None


async def end(connection: asyncpg.Connection, node_id: str) -> None:
    """Gives a node's lease back."""
    await connection.execute("delete from jasaweb_rt.nodes where node_id = $1", node_id)


async def count(connection: asyncpg.Connection) -> int:
    """How many servers hold a lease."""
    return int(await connection.fetchval("select count(*) from jasaweb_rt.nodes where not lapsed"))


async def find_lapsed(connection: asyncpg.Connection, lease_seconds: float) -> list[str]:
    """Ids of the nodes whose lease was not renewed for `lease_seconds`, and of those that another began to clear away.

    From here on such a node learns by `renew` that it was taken for dead.
    """
    rows = await connection.fetch(
        """
        with expired as (
          update jasaweb_rt.nodes set lapsed = true where node_id = any (array(
            select node_id from jasaweb_rt.nodes
            where not lapsed and renewed_at < now() - make_interval(secs => $1) for update skip locked
          ))
          returning node_id
        )
        select node_id from expired union select node_id from jasaweb_rt.nodes where lapsed
        """,
        lease_seconds,
    )
    return [row["node_id"] for row in rows]


async def time_out_connections(connection: asyncpg.Connection, node_id: str, limit: int) -> int:
    """Marks up to `limit` active connections of a lapsed node as `timeout`, and returns how many.

    0: none is left, and the lease is removed; or the others are locked and are for a later call, or the node has come
    back, and nothing was done.
    """
    async with connection.transaction():
        # Who renews waits for this lock, so a node that comes back finds all that was done to its rows.
        lapsed = await connection.fetchval(
            "select true from jasaweb_rt.nodes where node_id = $1 and lapsed for update", node_id
        )
        if lapsed is None:
            return 0
        rows = await connection.fetch(
            """
            update public.websocket_connections set status = 'timeout' where id = any (array(
              select id from public.websocket_connections
              where status = 'active' and starts_with(connection_id, $1 || '-') limit $2 for update skip locked
            ))
            returning 1
            """,
            node_id,
            limit,
        )
        if not rows and not await connection.fetchval(
            """
            select exists (
              select from public.websocket_connections where status = 'active' and starts_with(connection_id, $1 || '-')
            )
            """,
            node_id,
        ):
            await end(connection, node_id)
        return len(rows)
