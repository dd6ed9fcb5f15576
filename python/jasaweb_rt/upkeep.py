"""What a node does for the tables beside its own rows: its lease, the rows of nodes that died, retention."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import asyncpg
import msgspec

from jasaweb_rt.database import connections, locks, message_log, nodes, sessions
from jasaweb_rt.database.pool import Connect

__all__ = ["Pace", "Upkeep"]

logger = logging.getLogger(__name__)


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often, how long, how many; in seconds and rows."""

    renew: float = 10.0
    """Between two renewals of a lease."""
    lease: float = 40.0
    """After which a lease that was not renewed has run out."""
    retention: float = 3600.0
    """Between two looks for what is too old."""
    pause: float = 0.05
    """Between two batches that clear away."""
    batch: int = 500
    """Rows cleared away by one statement."""


class Upkeep:
    """Keeps the lease of `node_id`, and clears away. Everything here belongs to one event loop."""

    def __init__(
        self,
        connect: Connect,
        node_id: str,
        *,
        retention_days: int,
        on_lapse: Callable[[], None],
        pace: Pace | None = None,
    ) -> None:
        """`on_lapse` is called when the lease had run out, so that others may have closed this node's rows."""
        self._connect = connect
        self._node_id = node_id
        self._retention_days = retention_days
        self._on_lapse = on_lapse
        self._pace = pace or Pace()
        self._renewed: float | None = None
        self._hunt_at = 0.0

    async def run_lease(self) -> None:
        """Renews the lease, and looks for those that have run out, until it is cancelled."""
        while True:
            await self.renew()
            await asyncio.sleep(self._pace.renew)

    async def renew(self) -> None:
        """Renews the lease once, and clears away after nodes that have died."""
        async with self._connect() as connection:
            held = await nodes.renew(connection, self._node_id)
        before, self._renewed = self._renewed, time.monotonic()
        if before is not None:
            if not held:
                logger.warning("this node was taken for dead; its connections are written down anew")
                self._on_lapse()
            if self._renewed - before >= self._pace.lease:
                # The database was away, perhaps, and nobody renewed: the others get the time to do so first.
                self._hunt_at = self._renewed + self._pace.lease
        if self._renewed >= self._hunt_at:
            await self._clear_away_the_dead()

    async def run_retention(self) -> None:
        """Deletes what is too old, until it is cancelled."""
        while True:
            await self._delete("ended sessions", sessions.delete_over)
            if self._retention_days:
                await self.delete_old()
            await asyncio.sleep(self._pace.retention)

    async def delete_old(self) -> None:
        """Deletes what is older than the retention, batch by batch, unless another node is at it."""
        # Messages first: a connection goes when it has none left.
        days = self._retention_days
        await self._delete("messages", lambda connection, count: message_log.delete_old(connection, days, count))
        await self._delete("connections", lambda connection, count: connections.delete_closed(connection, days, count))

    async def _clear_away_the_dead(self) -> None:
        async with self._connect() as connection:
            dead = await nodes.find_lapsed(connection, self._pace.lease)
        for node_id in dead:
            total = 0
            while True:
                async with self._connect() as connection:
                    count = await nodes.time_out_connections(connection, node_id, self._pace.batch)
                if not count:
                    break
                total += count
                await asyncio.sleep(self._pace.pause)
            logger.info("node %s has died; its %d connections are marked as timed out", node_id, total)

    async def _delete(self, what: str, delete: Callable[[asyncpg.Connection, int], Awaitable[int]]) -> None:
        total = 0
        while True:
            async with self._connect() as connection, connection.transaction():
                if not await locks.try_lock_for_transaction(connection, locks.RETENTION_LOCK):
                    return
                count = await delete(connection, self._pace.batch)
            total += count
            if not count:
                break
            await asyncio.sleep(self._pace.pause)
        if total:
            logger.info("deleted %d old %s", total, what)
