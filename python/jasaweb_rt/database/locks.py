"""Advisory locks that last as long as a transaction."""

from typing import Final

import asyncpg

RETENTION_LOCK: Final = 0x6A61736177656204
"""Advisory lock: "jasaweb", 4. Whoever deletes what is too old holds it for each batch."""


async def try_lock_for_transaction(connection: asyncpg.Connection, lock: int) -> bool:
    """Takes an advisory lock until the end of the transaction if it is free; never waits."""
    return bool(await connection.fetchval("select pg_try_advisory_xact_lock($1)", lock))
