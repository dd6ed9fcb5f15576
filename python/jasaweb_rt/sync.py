"""Resume and gap fill: answers what sessions ask of the database, and looks now and then whether any should have asked.

A session is in the hub first and parks what arrives; then its request is answered from here. All requests that wait are
answered by one statement. A later frame shows a gap; where none follows, only a comparison with the counters heals it.
"""

import asyncio
import itertools
import logging
from collections.abc import Collection, Mapping, Sequence

from jasaweb_rt._core import ConnectionInfo, FanoutServer, SyncRequest
from jasaweb_rt.cluster import ClusterLink, Told
from jasaweb_rt.database import feed
from jasaweb_rt.database.feed import CatchUp, CatchUpRequest
from jasaweb_rt.database.notifications import Counters
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.exceptions import DatabaseUnavailableError
from jasaweb_rt.messages import durable_frame, read_frame, resync_frame, sync_frame
from jasaweb_rt.standing import role_of

__all__ = ["MAX_REPLAY", "Sync"]

logger = logging.getLogger(__name__)

MAX_REPLAY = 500
"""A client that missed more notifications than this pages through HTTP instead (`resync`)."""

_PAGE = 100
_BATCH = 100
_RETRY_SECONDS = 0.5
_INVALID_AUTHENTICATION, _SESSION_EXPIRED = 1008, 4001


class Sync:
    """Answers `SyncRequest`s. `request` and the coroutines belong to one event loop."""

    def __init__(self, connect: Connect, server: FanoutServer, link: ClusterLink, send_queue_bytes: int) -> None:
        self._connect = connect
        self._server = server
        self._link = link
        self._page_bytes = send_queue_bytes // 4
        self._epoch: str | None = None
        # One entry an open connection; a later request of a session replaces the earlier.
        self._waiting: dict[str, SyncRequest] = {}
        # Requests that one of the runners is at, by connection; and those of which what was read does not count.
        self._in_hand: dict[str, SyncRequest] = {}
        self._outdated: set[str] = set()
        self._wake = asyncio.Event()

    def request(self, request: SyncRequest) -> None:
        """Queues a request."""
        self._waiting[request.connection_id] = request
        self._wake.set()

    @property
    def waiting(self) -> int:
        """How many sessions wait for an answer."""
        return len(self._waiting)

    def outdate(self, user_ids: Collection[str] | None) -> None:
        """What is just being read of these users (None: of anybody) may be older than what is known: read it again."""
        self._outdated.update(
            request.connection_id
            for request in self._in_hand.values()
            if user_ids is None or request.user_id in user_ids
        )

    def forget(self, connection_id: str) -> None:
        """Drops the request of a connection that has gone."""
        self._waiting.pop(connection_id, None)

    async def run(self) -> None:
        """Answers until it is cancelled. While the database is away requests wait, and sessions with them.

        To be run twice at the same time: while the database reads for one, the other makes frames of what it has read.
        """
        while True:
            while batch := self._take():
                try:
                    answered = await self._answer(batch)
                except DatabaseUnavailableError:
                    await asyncio.sleep(_RETRY_SECONDS)
                except Exception:
                    # Asked for again by each session that is still there, after a while.
                    self._remove(batch)
                    # What came meanwhile for one of these is the other runner's, which had left it to this one.
                    self._wake.set()
                    raise
                else:
                    self._remove(answered)
                finally:
                    for request in batch:
                        del self._in_hand[request.connection_id]
                        self._outdated.discard(request.connection_id)
            await self._wake.wait()
            self._wake.clear()

    async def compare(self, connections: Sequence[ConnectionInfo]) -> None:
        """Compares `connections`, which are all that are open, with the counters of their users.

        Those that are behind are told so, and those with an old unread count are sent the new one.
        """
        user_ids = {connection.user_id for connection in connections}
        if not user_ids:
            return
        async with self._connect() as connection:
            counters = await feed.heads(connection, list(user_ids))
        behind = {c.user_id for c in connections if c.user_id in counters and c.last_seq < counters[c.user_id].head_seq}
        outdated = {c.user_id for c in connections if c.user_id in counters and c.last_rev < counters[c.user_id].rev}
        self._tell(
            {user_id: counters[user_id] for user_id in behind}, {user_id: counters[user_id] for user_id in outdated}
        )

    async def compare_newcomers(self, told: Mapping[str, Told]) -> None:
        """Compares what sessions of these users were told with the counters, as `compare` does."""
        async with self._connect() as connection:
            counters = await feed.heads(connection, list(told))
        behind = {
            user_id: counter for user_id, counter in counters.items() if told[user_id].head_seq < counter.head_seq
        }
        outdated = {user_id: counter for user_id, counter in counters.items() if told[user_id].rev < counter.rev}
        self._tell(behind, outdated)

    def _tell(self, heads: Mapping[str, Counters], counts: Mapping[str, Counters]) -> None:
        """Tells this node's sessions of heads, and of unread counts; who knows as much already passes it over."""
        self._server.announce_heads([(user_id, counter.head_seq) for user_id, counter in heads.items()], local=True)
        self._server.publish_read(
            [
                (user_id, counter.rev, read_frame(unread=counter.unread, rev=counter.rev, ids=[]))
                for user_id, counter in counts.items()
            ],
            local=True,
        )

    def _take(self) -> list[SyncRequest]:
        """Requests that no runner is at, a batch at most; they are in hand from here on."""
        free = (request for request in self._waiting.values() if request.connection_id not in self._in_hand)
        batch = list(itertools.islice(free, _BATCH))
        self._in_hand.update((request.connection_id, request) for request in batch)
        return batch

    def _remove(self, batch: Sequence[SyncRequest]) -> None:
        for request in batch:
            # Not what was asked anew meanwhile.
            if self._waiting.get(request.connection_id) is request:
                del self._waiting[request.connection_id]

    async def _answer(self, requests: Sequence[SyncRequest]) -> list[SyncRequest]:
        """Answers `requests`, but for those whose users have changed while it read; returns the former."""
        asked = [CatchUpRequest(r.connection_id, r.user_id, r.after, r.session_id) for r in requests]
        if any(request.first for request in requests):
            # Read sooner, a frame that another node sends in between would be missed.
            await self._link.fence()
        async with self._connect() as connection:
            if self._epoch is None:
                self._epoch = await feed.epoch(connection)
            answers = await feed.catch_up(connection, asked, _PAGE, self._page_bytes)
        answered = []
        for request, answer in zip(requests, answers, strict=True):
            if request.connection_id in self._outdated:
                continue
            answered.append(request)
            role = role_of(answer.role)
            if role is None:
                # No such user, or one with a role of the site's that has no place here.
                self._server.disconnect(request.connection_id, _INVALID_AUTHENTICATION)
            elif answer.ended:
                self._server.disconnect(request.connection_id, _SESSION_EXPIRED)
            else:
                self._answer_one(request, answer, self._epoch, role)
                if request.first:
                    self._link.joined(request.user_id, Told(answer.head_seq, answer.rev))
        return answered

    def _answer_one(self, request: SyncRequest, answer: CatchUp, epoch: str, role: str) -> None:
        foreign = request.first and request.epoch not in {None, epoch}
        beyond = request.after is not None and request.after > answer.head_seq
        if foreign or beyond or answer.remaining + len(answer.notifications) > MAX_REPLAY:
            self._server.answer_sync(
                request,
                role=role,
                head=answer.head_seq,
                through=answer.head_seq,
                rev=answer.rev,
                restart=True,
                preface=resync_frame(
                    epoch=epoch, from_seq=0 if foreign or beyond else answer.after, head_seq=answer.head_seq
                ),
            )
            return
        preface = None
        if request.first:
            preface = sync_frame(
                epoch=epoch,
                head_seq=answer.head_seq,
                unread=answer.unread,
                rev=answer.rev,
                resumed_from=request.after,
            )
        frames, through = self._page(answer)
        self._server.answer_sync(
            request,
            role=role,
            head=answer.head_seq,
            through=through,
            rev=answer.rev,
            preface=preface,
            frames=frames,
        )

    def _page(self, answer: CatchUp) -> tuple[list[tuple[int, bytes]], int]:
        """As many frames of an answer as a quarter of a send queue holds, at least one, and how far they reach."""
        frames: list[tuple[int, bytes]] = []
        size = 0
        for notification in answer.notifications:
            frame = durable_frame(notification, answer.unread, answer.rev)
            size += len(frame)
            if frames and size > self._page_bytes:
                return frames, frames[-1][0]
            frames.append((notification.seq, frame))
        return frames, answer.through
