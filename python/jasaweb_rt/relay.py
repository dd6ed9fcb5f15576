"""The relay: takes what committed out of the outbox, encodes it once, and publishes it.

One relay in all is the leader, whoever holds an advisory lock; the others stand by. It publishes before it removes,
which the reading of the next batch does: dying in between publishes twice, which every session knows by the number, and
never loses. In a cluster NATS has what was published before it is removed. A leader that has no link to NATS reaches
only its own sockets; it leaves the lead to a node that has one, if there is such a node.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import asyncpg

from jasaweb_rt._core import FanoutServer, OverloadedError
from jasaweb_rt.cluster import ClusterLink
from jasaweb_rt.database import outbox, sessions
from jasaweb_rt.database.errors import database_errors
from jasaweb_rt.database.outbox import OutboxRow
from jasaweb_rt.messages import durable_frame, read_frame

__all__ = ["Relay"]

logger = logging.getLogger(__name__)

_BATCH = 1000
_STANDBY_SECONDS = 1.0
_LOOK_ANYWAY_SECONDS = 5.0
# The least is what the event loop's timer can do.
_LEAST_PAUSE, _LONGEST_PAUSE = 0.001, 0.01
_GATHER_SECONDS = 0.005
_OVERLOAD_PAUSE, _OVERLOAD_PATIENCE = 0.01, 10.0
# Between two words to the other nodes that they were not reached.
_ASK_SECONDS = 1.0
# A link that is only renewed is back sooner.
_LEAD_WITHOUT_LINK = 2.0
# Longer than those who stand by with a link take to look.
_WAIT_WITHOUT_LINK = 3.0
_LEAD_ALONE = 30.0


class Relay:
    """Drains the outbox for as long as its task runs. `connect` opens its own connection, not one of a pool."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        server: FanoutServer,
        link: ClusterLink,
        on_user_changed: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`link` tells whether other nodes hear what `server` publishes.

        `on_user_changed` is told what comes on `sessions.CHANNEL`, and the empty string when listening begins.

        It listens here because each connection that does so is woken by every notification of the database.
        """
        self._connect = connect
        self._on_user_changed = on_user_changed
        self._server = server
        self._link = link
        # Published, and to be removed by the next reading.
        self._relayed: list[int] = []
        self._fencing: asyncio.Task[bool] | None = None
        self._is_unheard = False
        self._asked_at = 0.0
        self.is_ready = False
        """Whether it leads or stands by on a working connection."""

    async def run(self) -> None:
        """Relays until its connection breaks (`DatabaseUnavailableError`) or what it asks fails; run it again then."""
        connection = await self._connect()
        self._relayed, self._fencing = [], None
        try:
            with database_errors(connection=connection):
                await self._run(connection)
        finally:
            self.is_ready = False
            # Frees both locks at once; a polite goodbye could wait for a server that has gone.
            connection.terminate()

    async def finish(self, connection: asyncpg.Connection) -> None:
        """Removes what was published last, once `run` was cancelled; else it would be published again the next time."""
        await self._fence()
        if self._is_unheard:
            await outbox.ask_to_compare(connection)
            self._is_unheard = False
        await outbox.remove(connection, self._relayed)
        self._relayed = []

    async def _run(self, connection: asyncpg.Connection) -> None:
        wake = asyncio.Event()

        def on_notice(_: object, pid: int, __: str, payload: str) -> None:
            wake.set()
            if payload == outbox.COMPARE and pid != connection.get_server_pid():
                self._link.compare_soon()

        await connection.add_listener(outbox.CHANNEL, on_notice)
        connection.add_termination_listener(lambda _: wake.set())
        await connection.add_listener(sessions.CHANNEL, lambda *args: self._on_user_changed(str(args[-1])))
        self._on_user_changed("")
        self.is_ready = True
        patience = _LEAD_WITHOUT_LINK
        while True:
            await self._stand_by(connection)
            logger.info("this node relays")
            await self._lead(connection, wake, patience)
            logger.info("this node leaves the relaying to one that NATS can be reached from")
            # Nobody else may have taken it.
            patience = _LEAD_ALONE

    async def _stand_by(self, connection: asyncpg.Connection) -> None:
        """Returns as the leader."""
        while True:
            await self._link.up_within(_WAIT_WITHOUT_LINK)
            if await outbox.try_lock(connection, outbox.LEADER_LOCK):
                return
            await asyncio.sleep(_STANDBY_SECONDS)

    async def _lead(self, connection: asyncpg.Connection, wake: asyncio.Event, patience: float) -> None:
        """Relays, and returns, no longer the leader, when there was no link for `patience` seconds."""
        loop = asyncio.get_running_loop()
        pause = _LEAST_PAUSE
        yield_at: float | None = None
        while True:
            if self._link.is_up:
                yield_at, patience = None, _LEAD_WITHOUT_LINK
            elif yield_at is None:
                yield_at = loop.time() + patience
            elif loop.time() > yield_at:
                await self.finish(connection)
                await outbox.unlock(connection, outbox.LEADER_LOCK)
                return
            if count := await self._relay_batch(connection):
                pause = _LEAST_PAUSE
                if count < _BATCH:
                    # That was all. Asking again at once would mostly find nothing; the more there was, the more a
                    # little patience gathers, and a row of many costs a fraction of what a lone one does.
                    await asyncio.sleep(min(_LEAST_PAUSE * max(1, count // 2), _GATHER_SECONDS))
                continue
            if not await outbox.try_lock(connection, outbox.WAKE_LOCK):
                # A writer that skipped the wake-up is still open: look again, less and less often.
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            pause = _LEAST_PAUSE
            try:
                # Asleep from here on: who comes now wakes us. Who skipped it before has committed, and is seen here.
                wake.clear()
                if not await self._relay_batch(connection):
                    is_unwell = self._is_unheard or not self._link.is_up
                    await _wait(wake, _ASK_SECONDS if is_unwell else _LOOK_ANYWAY_SECONDS)
                    # Before the lock is given back, which is a journey that the first one would wait for.
                    await self._relay_batch(connection)
            finally:
                if not connection.is_closed():
                    await outbox.unlock(connection, outbox.WAKE_LOCK)

    async def _relay_batch(self, connection: asyncpg.Connection) -> int:
        """Relays up to a batch, removes the one before, and returns how many there were."""
        await self._fence()
        await self._ask_to_compare(connection)
        rows = await outbox.read_on(connection, _BATCH, self._relayed)
        self._relayed = []
        if rows:
            await self._publish(rows)
            if self._link.is_configured:
                # Not waited for here: what is published next may go on its way meanwhile.
                self._fencing = asyncio.ensure_future(self._link.fence())
        self._relayed = [row.id for row in rows]
        return len(rows)

    async def _fence(self) -> None:
        """Waits until NATS has what was published last."""
        fencing, self._fencing = self._fencing, None
        if fencing is not None:
            was_heard = False
            try:
                was_heard = await fencing
            finally:
                self._is_unheard |= not was_heard

    async def _ask_to_compare(self, connection: asyncpg.Connection) -> None:
        """Where NATS did not get what was published, the other nodes are to find it in the database."""
        now = asyncio.get_running_loop().time()
        if self._is_unheard and now - self._asked_at >= _ASK_SECONDS:
            self._is_unheard = False
            self._asked_at = now
            await outbox.ask_to_compare(connection)

    async def _publish(self, rows: Sequence[OutboxRow]) -> None:
        frames: list[tuple[str, int, int, bytes]] = []
        changes: list[tuple[str, int, bytes]] = []
        vanished: list[tuple[str, int]] = []
        for row in rows:
            if row.read_detail is not None:
                change = read_frame(
                    unread=row.unread, rev=row.rev, ids=row.read_detail.ids, up_to=row.read_detail.up_to
                )
                changes.append((row.user_id, row.rev, change))
            elif row.seq is not None and row.notification is not None:
                frames.append((row.user_id, row.seq, row.rev, durable_frame(row.notification, row.unread, row.rev)))
            elif row.seq is not None:
                vanished.append((row.user_id, row.seq))
        await _patiently(lambda: self._server.publish(frames))
        await _patiently(lambda: self._server.publish_read(changes))
        # Deleted before it was relayed: sessions learn from the database that this number stays empty.
        await _patiently(lambda: self._server.announce_heads(vanished))


async def _patiently(publish: Callable[[], object]) -> None:
    """Waits while the core is overloaded, for the outbox is the buffer; gives up after 10 s, and nothing is removed."""
    async with asyncio.timeout(_OVERLOAD_PATIENCE):
        while True:
            try:
                publish()
            except OverloadedError:
                await asyncio.sleep(_OVERLOAD_PAUSE)
            else:
                return


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
