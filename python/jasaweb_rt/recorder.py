"""The recorder: the bookkeeping of one node's connections and of what they were sent.

It is told of connections as they come and go, and asks the core for the rest. Nothing waits for it: what it cannot
write while the database is away is written later, and what does not fit into its bounds is made good from the core's
own list.
"""

import asyncio
import contextlib
import time

import asyncpg
import msgspec

from jasaweb_rt._core import Connected, Disconnected, FanoutServer
from jasaweb_rt.batches import in_batches
from jasaweb_rt.connection_rows import ConnectionRows
from jasaweb_rt.database import connections, nodes
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.exceptions import OverloadedError
from jasaweb_rt.message_log import MessageLog
from jasaweb_rt.upkeep import Pace, Upkeep

__all__ = ["Limits", "Recorder", "RecorderDrops"]


_REPLACED = 4004
# By then other nodes have written down what was closed meanwhile: who reloads a page has no more pages than before.
_SETTLE_SECONDS = 3.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and times of a recorder."""

    write_seconds: float = 1.0
    """Between two writes."""
    write_rows: int = 1000
    """When so many rows wait they are written at once."""
    max_waiting: int = 100_000
    """Rows that may wait; beyond it they are late."""
    max_touched: int = 5_000
    """Rows in which one comparison with the core's own list notes a last activity."""
    reconcile_seconds: float = 30.0
    """Between two comparisons with the core's own list, and so the least between two notes of a last activity."""
    pace: Pace = Pace()


class RecorderDrops(msgspec.Struct, frozen=True):
    """What was not written down, or not in time, since the start."""

    connection_rows: int = 0
    """Rows of connections that found too many waiting; the next comparison makes them good."""
    messages: int = 0
    """Messages that were sent and are not in the log, since their connection had no row in time."""
    proofs: int = 0
    """Connections whose messages stay undelivered in the log, since too many were waiting for their proof."""


class Recorder:
    """Writes `websocket_connections` and `websocket_messages`. Everything here belongs to one event loop."""

    def __init__(
        self,
        connect: Connect,
        server: FanoutServer,
        *,
        log_messages: bool,
        retention_days: int,
        max_connections_per_user: int = 0,
        limits: Limits | None = None,
    ) -> None:
        """To be made before `server` is started, so that it misses nothing.

        `retention_days`: 0 keeps all for ever. `max_connections_per_user`: on all nodes together; 0: each node
        counts its own.
        """
        self._connect = connect
        self._server = server
        self._max_per_user = max_connections_per_user
        # Users with a new connection, and when all nodes will have written down what they had before.
        self._newcomers: dict[str, float] = {}
        self._node_id = server.node_id
        self._limits = limits or Limits()
        self._rows = ConnectionRows(server, self._limits.max_waiting, self._limits.max_touched)
        self._messages = MessageLog(server) if log_messages else None
        self.upkeep = Upkeep(
            connect,
            server.node_id,
            retention_days=retention_days,
            on_lapse=self._write_anew,
            pace=self._limits.pace,
        )
        """To be run on the same loop."""
        self._reconcile_at = 0.0
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many rows of connections wait to be written."""
        return self._rows.waiting

    @property
    def drops(self) -> RecorderDrops:
        """What was not written down so far."""
        messages = self._messages
        return RecorderDrops(
            connection_rows=self._rows.dropped,
            messages=0 if messages is None else messages.dropped,
            proofs=0 if messages is None else messages.forgotten,
        )

    def opened(self, event: Connected) -> None:
        """A connection was opened."""
        self._rows.opened(event)
        self._wake_if_much()

    def closed(self, event: Disconnected) -> None:
        """A connection has ended."""
        self._rows.closed(event)
        if self._messages is not None:
            self._messages.closed(event.connection_id)
        self._wake_if_much()

    async def run(self) -> None:
        """Writes until it is cancelled; raises what the database raises, and nothing is lost: run it again then."""
        while True:
            await self.record()
            try:
                async with asyncio.timeout(self._limits.write_seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def record(self) -> None:
        """Writes once what is to be written by now."""
        due = time.monotonic() >= self._reconcile_at
        if self._messages is not None:
            await self._messages.collect()
        is_idle = not (self._rows.waiting or (self._messages is not None and self._messages.waiting))
        if is_idle and not due and not self._newcomers:
            return
        async with self._connect() as connection:
            if due:
                # A shard that does not answer is busy; its connections are as they were.
                with contextlib.suppress(OverloadedError):
                    await self._rows.reconcile(connection)
                self._reconcile_at = time.monotonic() + self._limits.reconcile_seconds
            # Before what was sent, whose rows belong to those of connections.
            await self._rows.write(connection)
            await self._close_surplus(connection)
            if self._messages is not None:
                await self._messages.write(connection)

    async def _close_surplus(self, connection: asyncpg.Connection) -> None:
        """A user may have no more connections on many nodes than on one: the idlest are closed, wherever they are."""
        now = time.monotonic()
        opened = self._rows.take_opened()
        if not self._max_per_user:
            return
        self._newcomers |= dict.fromkeys(opened, now + _SETTLE_SECONDS)
        for users in in_batches([user for user, settled_at in self._newcomers.items() if settled_at <= now]):
            for connection_id in await connections.surplus(connection, users, self._max_per_user):
                self._server.disconnect(connection_id, _REPLACED)
            for user in users:
                del self._newcomers[user]

    async def finish(self) -> None:
        """Writes the rest once the core has stopped, and gives the lease back."""
        async with self._connect() as connection:
            await self._rows.write(connection)
            await connections.close_all(connection, self._node_id)
            await nodes.end(connection, self._node_id)
            if self._messages is not None:
                await self._messages.finish(connection)

    def reconcile_soon(self) -> None:
        """The next write compares with the core's own list."""
        self._reconcile_at = 0.0
        self._wake.set()

    def _write_anew(self) -> None:
        self._rows.doubt_all()
        self.reconcile_soon()

    def _wake_if_much(self) -> None:
        if self._rows.waiting >= self._limits.write_rows:
            self._wake.set()
