"""What a database holds, to be compared with what it holds later."""

import asyncpg

TABLES = (
    "public.users",
    "public.projects",
    "public.invoices",
    "public.real_time_notifications",
    "jasaweb_rt.counters",
    "jasaweb_rt.feed",
    "jasaweb_rt.epoch",
)
"""All that users and other programs can tell apart; who is connected, and what waits to be sent, comes and goes."""

Snapshot = dict[str, list[str]]


async def snapshot(connection: asyncpg.Connection) -> Snapshot:
    """Every row of `TABLES`, by the table's name."""
    return {
        table: [row["row"] for row in await connection.fetch(f"select t::text as row from {table} t order by 1")]
        for table in TABLES
    }


async def snapshot_of_all(connection: asyncpg.Connection) -> Snapshot:
    """Every row of every table, but for the leases of the servers that run, which they renew all the time."""
    tables = await connection.fetch(
        """
        select format('%I.%I', schemaname, tablename) as name from pg_catalog.pg_tables
        where schemaname in ('public', 'jasaweb_rt') and (schemaname, tablename) <> ('jasaweb_rt', 'nodes')
        """
    )
    return {
        table["name"]: [
            row["row"] for row in await connection.fetch(f"select t::text as row from {table['name']} t order by 1")
        ]
        for table in tables
    }
