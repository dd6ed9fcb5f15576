"""The message log: one row in `websocket_messages` for each connection and durable frame.

The core says by position what each connection was sent; PostgreSQL puts the rows together. While it is away nothing is
taken from the core, which remembers a longer range instead.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import asyncpg
import msgspec

from jasaweb_rt._core import FanoutServer, Progress
from jasaweb_rt.batches import BATCH, in_batches, write_all
from jasaweb_rt.database import message_log
from jasaweb_rt.database.message_log import Proof, SentRange

__all__ = ["MessageLog"]

logger = logging.getLogger(__name__)

Item = TypeVar("Item", SentRange, Proof)

_LONGEST_RANGE = 1000
_NUMBERS_AT_ONCE = 10_000
_MAX_UNPROVEN = 200_000
_MAX_ORPHANS = 10_000
_ORPHAN_SECONDS = 90.0


class MessageLog:
    """Writes what was sent. Everything here belongs to one event loop."""

    def __init__(self, server: FanoutServer) -> None:
        """From here on the core keeps what is sent, also by connections that end before it is first asked."""
        self._server = server
        # Sent a moment ago; most of it will have arrived when it is looked at again, and needs no second write.
        self._recent: list[SentRange] = []
        # To be written now.
        self._ranges: list[SentRange] = []
        self._proofs: list[Proof] = []
        # By connection, what was written and is not known to have arrived: ranges in order.
        self._unproven: dict[str, list[tuple[int, int]]] = {}
        # Connections that have ended, by calls of `collect`, the latest last. What such a one was sent last is taken
        # by the first or second call after its end, and settled by the one after that.
        self._ended: deque[deque[str]] = deque(deque(maxlen=_MAX_UNPROVEN) for _ in range(3))
        self._taking: asyncio.Future[list[Progress]] | None = None
        # Ranges of connections that have no row yet, and until when they may wait for it.
        self._orphans: dict[SentRange, float] = {}
        self.dropped = 0
        """Messages that were sent and are not in the log, since their connection had no row in time."""
        self.forgotten = 0
        """Connections whose messages stay undelivered in the log, since too many were waiting for their proof."""
        self._note(server.take_progress())

    @property
    def waiting(self) -> bool:
        """Whether something was collected that is still to be written."""
        return bool(self._ranges or self._proofs or self._orphans)

    def closed(self, connection_id: str) -> None:
        """A connection has ended: what has not arrived by now never will."""
        self._ended[-1].append(connection_id)

    async def collect(self) -> None:
        """Takes from the core what was sent since the last time, unless something still waits to be written."""
        if self._ranges or self._proofs:
            return
        if self._taking is None:
            # It waits for every shard, so not on this loop.
            self._taking = asyncio.ensure_future(asyncio.to_thread(self._server.take_progress))
        # Whoever is cancelled here leaves what was taken to the next call.
        await asyncio.wait([self._taking])
        taken, self._taking = self._taking, None
        self._note(taken.result())
        for connection_id in self._ended.popleft():
            self._unproven.pop(connection_id, None)
        self._ended.append(deque(maxlen=_MAX_UNPROVEN))

    async def finish(self, connection: asyncpg.Connection) -> None:
        """Writes all that is left, once the core has stopped."""
        await self.write(connection)
        if self._taking is not None:
            # It may have been taken before the last frames were sent.
            await self.collect()
            await self.write(connection)
        await self.collect()
        self._settle({})
        await self.write(connection)

    async def write(self, connection: asyncpg.Connection) -> None:
        """Writes what was collected. What fails is still there for the next call; writing it twice does no harm."""
        while self._ranges:
            batch = _head(self._ranges)
            orphans = await write_all(batch, partial(message_log.add_many, connection))
            del self._ranges[: len(batch)]
            self._keep_orphans(orphans)
        while self._proofs:
            batch_of_proofs = _head(self._proofs)
            await write_all(batch_of_proofs, partial(message_log.mark_delivered, connection))
            del self._proofs[: len(batch_of_proofs)]
        await self._adopt(connection)

    def _note(self, progress: Sequence[Progress]) -> None:
        arrived: dict[str, int] = {}
        for one in progress:
            connection_id, delivered = one.connection_id, one.delivered_seq
            arrived[connection_id] = delivered
            if connection_id in self._unproven:
                self._prove(connection_id, delivered)
        self._settle(arrived)
        self._prove_orphans(arrived)
        now = time.time()
        for one in progress:
            for first, last in _pieces(one.from_seq, one.through_seq):
                sent = SentRange(one.connection_id, one.user_id, first, last, one.delivered_seq, now)
                (self._ranges if last <= sent.delivered else self._recent).append(sent)

    def _prove(self, connection_id: str, proven: int) -> None:
        """Of what was written, everything up to `proven` has arrived."""
        waiting: list[tuple[int, int]] = []
        for first, last in self._unproven.pop(connection_id, ()):
            pieces = _pieces(first, min(last, proven))
            self._proofs.extend(Proof(connection_id, *piece) for piece in pieces)
            if last > proven:
                waiting.append((max(first, proven + 1), last))
        if waiting:
            self._unproven[connection_id] = waiting

    def _prove_orphans(self, arrived: Mapping[str, int]) -> None:
        """A proof finds no row of theirs, and is not given twice."""
        for sent in [sent for sent in self._orphans if arrived.get(sent.connection_id, 0) > sent.delivered]:
            until = self._orphans.pop(sent)
            self._orphans[msgspec.structs.replace(sent, delivered=arrived[sent.connection_id])] = until

    def _settle(self, arrived: Mapping[str, int]) -> None:
        """What was recent is to be written, with what is known by now: how far each connection's frames arrived."""
        recent, self._recent = self._recent, []
        for sent in recent:
            delivered = max(sent.delivered, arrived.get(sent.connection_id, 0))
            self._ranges.append(msgspec.structs.replace(sent, delivered=delivered))
            first = max(sent.first, delivered + 1)
            if first <= sent.last:
                self._await_proof(sent.connection_id, first, sent.last)

    def _await_proof(self, connection_id: str, first: int, last: int) -> None:
        waiting = self._unproven.setdefault(connection_id, [])
        if waiting and waiting[-1][1] == first - 1:
            first = waiting.pop()[0]
        waiting.append((first, last))
        if len(self._unproven) > _MAX_UNPROVEN:
            # Only where ends are not told: the oldest is the likeliest to be over.
            del self._unproven[next(iter(self._unproven))]
            self.forgotten += 1

    def _keep_orphans(self, orphans: Sequence[SentRange]) -> None:
        # Their connections' rows were dropped and come with the next comparison; or their user is gone.
        until = time.monotonic() + _ORPHAN_SECONDS
        room = _MAX_ORPHANS - len(self._orphans)
        for sent in orphans[:room]:
            self._orphans[sent] = until
        self._drop(orphans[room:])

    def _drop(self, ranges: Sequence[SentRange]) -> None:
        self.dropped += sum(sent.last - sent.first + 1 for sent in ranges)

    async def _adopt(self, connection: asyncpg.Connection) -> None:
        now = time.monotonic()
        self._drop([sent for sent, until in self._orphans.items() if until <= now])
        self._orphans = {sent: until for sent, until in self._orphans.items() if until > now}
        for batch in in_batches(list(self._orphans)):
            left = set(await write_all(batch, partial(message_log.add_many, connection)))
            for sent in batch:
                if sent not in left:
                    del self._orphans[sent]


def _pieces(first: int, last: int) -> Iterable[tuple[int, int]]:
    """A range in pieces that are not too long for one statement; none where the first number lies behind the last."""
    if first <= last < first + _LONGEST_RANGE:
        return ((first, last),)
    return ((begin, min(last, begin + _LONGEST_RANGE - 1)) for begin in range(first, last + 1, _LONGEST_RANGE))


def _head(items: list[Item]) -> list[Item]:
    """As many of `items` as go into one statement, at least one."""
    numbers = 0
    for count, item in enumerate(items[:BATCH]):
        numbers += item.last - item.first + 1
        if count and numbers > _NUMBERS_AT_ONCE:
            return items[:count]
    return items[:BATCH]
