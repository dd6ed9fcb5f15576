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
