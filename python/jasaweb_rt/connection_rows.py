"""The rows of this node's connections: what is still to be written, and whether what was written is still true.

Events say what happened and are written in batches; the core's own list is the truth, with which the rows are compared
now and then, so that whatever was lost on the way is made good.
"""

import asyncio
import heapq
import itertools
import logging
from functools import partial

import asyncpg

from jasaweb_rt._core import Connected, ConnectionInfo, Disconnected, FanoutServer
from jasaweb_rt.batches import BATCH, in_batches, write_all
from jasaweb_rt.database import connections
from jasaweb_rt.database.connections import Connection, Status

__all__ = ["ConnectionRows"]

logger = logging.getLogger(__name__)

_USER_AGENT_LENGTH = 512
_LEAST_ACTIVITY_SECONDS = 1.0


class ConnectionRows:
    """The rows of one node. Everything here belongs to one event loop."""

    def __init__(self, server: FanoutServer, max_waiting: int, max_touched: int) -> None:
        """`max_waiting`: rows that may wait to be written; more are dropped, and made good by `reconcile`.

        `max_touched`: rows in which one `reconcile` notes a last activity; those that are furthest behind come first.
        """
        self._server = server
        self._max_waiting = max_waiting
        self._max_touched = max_touched
        self._waiting: dict[str, Connection] = {}
        # Written as active, with the last activity that was written.
        self._active: dict[str, float] = {}
        # Of these, those that the core did not know when it was last asked.
        self._missing: set[str] = set()
        self._closed_meanwhile: set[str] | None = None
        self._opened_for: set[str] = set()
        self.dropped = 0
        """Rows that found too many waiting, and were left to `reconcile`."""

    @property
    def waiting(self) -> int:
        """How many rows wait to be written."""
        return len(self._waiting)

    def opened(self, event: Connected) -> None:
        """A connection was opened."""
        self._put(_row(event, event.connected_at, "active"))

    def closed(self, event: Disconnected) -> None:
        """A connection has ended; its row is written whole, be it that nobody knew of it before."""
        if self._closed_meanwhile is not None:
            self._closed_meanwhile.add(event.connection_id)
        self._put(_row(event, event.last_activity, event.status))

    def doubt_all(self) -> None:
        """Others may have closed our rows: the next `reconcile` writes all open connections anew."""
        self._active.clear()

    async def write(self, connection: asyncpg.Connection) -> None:
        """Writes everything that waits. What fails is still there for the next call."""
        while self._waiting:
            batch = list(itertools.islice(self._waiting.values(), BATCH))
            await write_all(batch, partial(connections.save_many, connection))
            for row in batch:
                if row.status == "active":
                    if row.connection_id not in self._active:
                        self._opened_for.add(row.user_id)
                    self._active[row.connection_id] = row.last_activity
                else:
                    self._active.pop(row.connection_id, None)
                # Not what came in meanwhile.
                if self._waiting.get(row.connection_id) is row:
                    del self._waiting[row.connection_id]

    def take_opened(self) -> set[str]:
        """Users with a connection that was written as open since this was last called."""
        opened, self._opened_for = self._opened_for, set()
        return opened

    async def reconcile(self, connection: asyncpg.Connection) -> None:
        """Compares rows and core: notes what was active, and makes good what was missed.

        A row whose connection the core has not known twice in a row is closed as `disconnected`, since nobody can say
        any more how it ended.
        """
        closed_meanwhile: set[str] = set()
        self._closed_meanwhile = closed_meanwhile
        try:
            # It waits for every shard, so not on this loop.
            open_now = await asyncio.to_thread(self._server.connections)
        finally:
            self._closed_meanwhile = None
        active: list[tuple[float, str, float]] = []
        for info in open_now:
            if info.connection_id in self._waiting or info.connection_id in closed_meanwhile:
                continue
            written = self._active.get(info.connection_id)
            if written is None:
                self._put(_row(info, info.last_activity, "active"))
            elif info.last_activity - written >= _LEAST_ACTIVITY_SECONDS:
                active.append((info.last_activity - written, info.connection_id, info.last_activity))
        # Idle peers answer pings: nearly all connections have moved each time.
        await self._touch(connection, [(one, moment) for _, one, moment in heapq.nlargest(self._max_touched, active)])
        missing = self._active.keys() - self._waiting.keys() - {info.connection_id for info in open_now}
        await self._close(connection, missing & self._missing)
        self._missing = missing - self._missing

    async def _touch(self, connection: asyncpg.Connection, touched: list[tuple[str, float]]) -> None:
        for batch in in_batches(touched):
            await connections.touch_many(connection, batch)
            for connection_id, moment in batch:
                if connection_id in self._active:
                    self._active[connection_id] = moment

    async def _close(self, connection: asyncpg.Connection, lost: set[str]) -> None:
        for batch in in_batches(lost):
            await connections.close_many(connection, batch)
            for connection_id in batch:
                self._active.pop(connection_id, None)

    def _put(self, row: Connection) -> None:
        if len(self._waiting) >= self._max_waiting and row.connection_id not in self._waiting:
            if not self.dropped:
                logger.warning("too many connections come and go to write them all down; some rows will be late")
            self.dropped += 1
            return
        self._waiting[row.connection_id] = row


def _row(source: Connected | Disconnected | ConnectionInfo, last_activity: float, status: Status) -> Connection:
    # The core's text is UTF-8 always; NUL is the one character of it that PostgreSQL does not keep.
    user_agent = source.user_agent
    return Connection(
        connection_id=source.connection_id,
        user_id=source.user_id,
        client_ip=source.client_address,
        user_agent=None if user_agent is None else user_agent.replace("\0", "")[:_USER_AGENT_LENGTH],
        connected_at=source.connected_at,
        last_activity=last_activity,
        status=status,
    )
