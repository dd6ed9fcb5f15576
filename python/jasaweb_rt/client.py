"""A client for asyncio: connects, stays connected, and hands out frames in order, each durable one once.

    async with RealtimeClient("wss://rt.example.org/ws", token=fetch_token) as client:
        async for frame in client:
            print(frame["type"], frame["data"])

The iteration is what drives it: frames are read, and connections made anew, while somebody iterates. So there is no
queue that could fill: a program that is slow to iterate is a slow consumer, and resumes. Whoever asks for the next
frame has dealt with the one before; that is when a position is kept, where one is to be kept.
"""

import asyncio
import json
import logging
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from jasaweb_rt.client_inbox import InboxPages, Page, PageFetcher
from jasaweb_rt.client_pages import RETRIED, Frame, NoProgressError, Pager, drop
from jasaweb_rt.client_position import FilePosition, Keeper, Position, PositionStore
from jasaweb_rt.client_rules import Next, RealtimeClientError, after_close, after_refusal, backoff, session_end
from jasaweb_rt.messages import now_timestamp, uuid7

__all__ = [
    "FilePosition",
    "Frame",
    "InboxPages",
    "Page",
    "PageFetcher",
    "Position",
    "PositionStore",
    "RealtimeClient",
    "RealtimeClientError",
    "TokenProvider",
]

logger = logging.getLogger(__name__)

TokenProvider = Callable[[], Awaitable[str]]
"""Fetches a new connection token. What it raises ends the iteration, but for `OSError` (time-outs are one) and
`DatabaseUnavailableError`, after which it is asked again."""

_OPEN_SECONDS = 10.0
_CLOSE_SECONDS = 5.0
_STABLE_SECONDS = 10.0  # open so long, the backoff starts anew
_REFRESH_BEFORE_SECONDS = 60.0
_MAX_FRAME_BYTES = 16 * 1024 * 1024


class RealtimeClient:
    """One user's connection, over all the sockets that it takes. Not to be iterated by two at once."""

    def __init__(
        self,
        url: str,
        token: str | TokenProvider,
        *,
        last_seq: int | None = None,
        epoch: str | None = None,
        batch: bool = True,
        fetch_page: PageFetcher | None = None,
        position: PositionStore | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Sets up without connecting.

        Args:
            url: the `connectionUrl` of the token route, `ws:` or `wss:`.
            token: a connection token, good for one session at most, or a function that fetches a new one each time.
            last_seq: resume after this `seq`; None: where `position` has it, else begin with what comes.
            epoch: the epoch that `last_seq` belongs to.
            batch: let the server put frames that wait together into one message, which costs both sides less; they are
                handed out one by one in any case.
            fetch_page: how to read what is too much for the server to replay; for instance `InboxPages`.
            position: where the client's position is kept for the next start; for instance a `FilePosition`.
            tls: for `wss:`, whom to trust, as in `ssl.create_default_context(cafile="ca.pem")`; None: the authorities
                of the system.
        """
        self.last_seq = last_seq
        """`seq` up to which everything was handed out; None before the first `sync`."""
        self.epoch = epoch
        self.unread: int | None = None
        """Unread notifications, as of `rev`; None before the first count."""
        self.rev = -1
        self._url = url
        self._tls = (tls or True) if urlsplit(url).scheme == "wss" else None
        self._token = token
        self._batch = batch
        self._pager = None if fetch_page is None else Pager(fetch_page)
        self._keeper = None if position is None else Keeper(position)
        self._socket: ClientConnection | None = None
        self._waiting: deque[Frame] = deque()
        self._receiving: asyncio.Task[str | bytes] | None = None
        self._attempt = 0
        self._next_try = 0.0
        self._renewed = False
        self._closed = asyncio.Event()
        self._refresh_at: float | None = None
        self._opened_at = 0.0

    @property
    def connected(self) -> bool:
        """Whether a socket is open."""
        return self._socket is not None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._keeper is not None:
            self._keeper.settle(self.epoch, self.last_seq)
        await self.close()

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        """The next frame; control frames too.

        After a `resync` frame follow the pages that `fetch_page` reads, as frames with `readAt`, and then what came
        meanwhile. Without `fetch_page`, what lies between its `fromSeq` and `headSeq` is the caller's to read, and the
        client goes on behind that.

        Raises:
            RealtimeClientError: the connection has ended for good.
        """
        if self._keeper is not None:
            await self._keep(self._keeper)
        while not self._closed.is_set():
            frame = self._next_at_hand()
            if frame is not None:
                return frame
            if self._keeper is not None:
                await self._keeper.save()
            try:
                socket = self._socket or await self._connect()
                if socket is not None:
                    await self._receive(socket)
            except ConnectionClosed as closed:
                code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
                self._forget_socket()
                self._plan_next(after_close(code, reason), code, reason)
        raise StopAsyncIteration

    async def send(self, kind: str, data: Frame) -> str:
        """Sends a frame on the open socket; returns the `id` that an `error` frame would name in `ref`.

        Raises:
            ConnectionError: no socket is open at present.
        """
        identity = uuid7()
        frame = {"type": kind, "data": data, "timestamp": now_timestamp(), "id": identity}
        if self._socket is None:
            raise ConnectionError("not connected; frames are not kept for later")
        try:
            await self._socket.send(json.dumps(frame))
        except ConnectionClosed:
            raise ConnectionError("the connection was closed; frames are not kept for later") from None
        return identity

    async def refresh(self) -> None:
        """Fetches a new token and goes on under it, on the same socket. Done by itself before the session ends."""
        token = await self._fetch_token()
        await self.send("refresh", {"token": token})
        self._plan_refresh(token)

    async def close(self) -> None:
        """Closes the socket with 1000, ends the iteration, and saves the position.

        The frame that was handed out last counts as dealt with where `async with` is left without an exception.
        """
        self._closed.set()
        socket = self._socket
        self._forget_socket()
        if socket is not None:
            await socket.close()
        if self._keeper is not None:
            await self._keeper.save()

    async def _connect(self) -> ClientConnection | None:
        # Waited for here, so that a caller who breaks the wait off and comes back does not cut it short.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), max(0, self._next_try - time.monotonic()))
        if self._closed.is_set():
            return None
        try:
            token = await self._fetch_token()
        except RETRIED as error:
            logger.info("no token: %s", error)
            self._plan_next(Next("reconnect"))
            return None
        try:
            socket = await connect(
                self._address(),
                subprotocols=[Subprotocol("jasaweb.v1"), Subprotocol(f"bearer.{token}")],
                open_timeout=_OPEN_SECONDS,
                close_timeout=_CLOSE_SECONDS,
                max_size=_MAX_FRAME_BYTES,
                ssl=self._tls,
            )
        except InvalidStatus as refused:
            status = refused.response.status_code
            following = after_refusal(status, refused.response.headers.get("Retry-After"))
            self._plan_next(following, status, refused.response.reason_phrase)
            return None
        except (OSError, EOFError, InvalidHandshake) as error:
            # A certificate that is not trusted may be replaced, but hardly by itself.
            level = logging.WARNING if isinstance(error, ssl.SSLError) else logging.INFO
            logger.log(level, "no connection: %s", error)
            self._plan_next(Next("reconnect"))
            return None
        if self._closed.is_set():
            await socket.close()
            return None
        self._socket = socket
        self._opened_at = time.monotonic()
        self._plan_refresh(token)
        return socket

    def _address(self) -> str:
        query: dict[str, object] = {}
        if self.last_seq is not None:
            query["last_seq"] = self.last_seq
            if self.epoch is not None:
                query["epoch"] = self.epoch
        if self._batch:
            query["batch"] = 1
        parts = urlsplit(self._url)
        return urlunsplit(
            parts._replace(query="&".join(filter(None, [parts.query, urlencode(query, quote_via=quote)])))
        )

    async def _receive(self, socket: ClientConnection) -> None:
        """Waits for a message, a page, or the time to refresh, and takes in what is there."""
        page = None if self._pager is None else self._pager.under_way()
        wait = None if self._refresh_at is None else max(0, self._refresh_at - time.time())
        try:
            async with asyncio.timeout(wait):
                text = await self._message_or(socket, page)
        except TimeoutError:
            self._refresh_at = None
            # Where this fails the session ends with 4001, and a new one begins.
            with suppress(*RETRIED):
                await self.refresh()
            return
        if text is not None:
            message = json.loads(text)
            self._waiting.extend(message if isinstance(message, list) else [message])
        if self._pager is not None and page is not None and page.done():
            await self._take_page(self._pager, page, socket)

    async def _message_or(self, socket: ClientConnection, page: asyncio.Task[Page] | None) -> str | bytes | None:
        """The next message; None where the page is there first."""
        if page is None and self._receiving is None:
            return await socket.recv()  # cancelled, it loses no message
        if self._receiving is None:
            self._receiving = asyncio.create_task(socket.recv())
        receiving = self._receiving
        # A task that is cancelled may have a message already; so it goes on, and the next call finds it.
        if not receiving.done() and (page is None or not page.done()):
            await asyncio.wait({receiving, page or receiving}, return_when=asyncio.FIRST_COMPLETED)
        if receiving is not self._receiving or not receiving.done():
            return None
        self._receiving = None
        return receiving.result()

    async def _take_page(self, pager: Pager, task: asyncio.Task[Page], socket: ClientConnection) -> None:
        try:
            page = pager.take(task)
        except NoProgressError as error:
            logger.info("reconnecting: %s", error)
            # What the server says to a new connection is the truth.
            self._forget_socket()
            await socket.close()
            self._plan_next(Next("reconnect"))
        else:
            if page is not None:
                self._count(page)

    def _next_at_hand(self) -> Frame | None:
        """The next frame to hand out, of those that are here; `last_seq` moves on with it."""
        while True:
            while self._waiting:
                frame = self._waiting.popleft()
                if self._is_due(frame):
                    return frame
            if self._pager is None:
                return None
            if (paged := self._pager.next_frame()) is not None:
                self.last_seq = paged["seq"]
                return paged
            if (finished := self._pager.finish()) is None:
                return None
            self.last_seq, held = finished
            self._waiting.extend(held)

    def _is_due(self, frame: Frame) -> bool:
        """Takes note of a frame; false for a durable one that was handed out before, or is to be later."""
        self._renewed = False
        kind, data, seq = frame["type"], frame["data"], frame.get("seq")
        if seq is not None:
            self._count(frame)
            if self._pager is not None and self._pager.hold(frame):
                return False
            if self.last_seq is not None and seq <= self.last_seq:
                return False
            self.last_seq = seq
        elif kind == "sync":
            if data["epoch"] != self.epoch:
                self.rev = -1
            self.epoch = data["epoch"]
            resumed = data["resumedFrom"]
            self.last_seq = data["headSeq"] if resumed is None else resumed
            self._count(data)
        elif kind == "resync":
            self._resync(data)
        elif kind == "read":
            self._count(data)
        return True

    def _resync(self, data: Frame) -> None:
        epoch, begin, head = data["epoch"], data["fromSeq"], data["headSeq"]
        if self._pager is None:
            self.epoch, self.last_seq, self.rev = epoch, head, -1
            return
        if epoch == self.epoch and self.last_seq is not None and begin > 0:
            # The server goes by what it has sent. Some of that may not be handed out, and pages may have reached
            # further. Only by 0 it says that a position is none of this database's.
            begin = self.last_seq
            if self._pager.extend(head):
                return
        else:
            self.rev = -1
        self.epoch, self.last_seq = epoch, begin
        self._pager.begin(begin, head)

    def _count(self, counters: Frame) -> None:
        if counters["rev"] > self.rev:
            self.unread, self.rev = counters["unread"], counters["rev"]

    def _plan_next(self, following: Next, code: int | None = None, reason: str = "") -> None:
        """Sets the time of the next try to connect, or raises where there is to be none."""
        self._refresh_at = None
        if self._closed.is_set():
            return
        if following.do == "stop" or (following.do == "renew" and (self._renewed or isinstance(self._token, str))):
            self._closed.set()
            raise RealtimeClientError(f"The connection has ended ({code} {reason}).".replace(" )", ")"), code, reason)
        self._renewed = following.do == "renew"
        if self._opened_at and time.monotonic() - self._opened_at > _STABLE_SECONDS:
            self._attempt = 0
        # Failed tries that follow are no news of that connection.
        self._opened_at = 0.0
        delay = following.delay
        if delay is None:
            delay = backoff(self._attempt)
            self._attempt += 1
        logger.info("disconnected (%s %s); next try in %.1f s", code, reason, delay)
        self._next_try = time.monotonic() + delay

    def _forget_socket(self) -> None:
        """What came by it and is not handed out comes again by the next."""
        self._socket = None
        self._waiting.clear()
        if self._receiving is not None:
            drop(self._receiving)
            self._receiving = None
        if self._pager is not None:
            self._pager.stop()

    async def _keep(self, keeper: Keeper) -> None:
        """Before anything more is handed out."""
        if self.last_seq is None and (found := await keeper.load()) is not None:
            self.epoch, self.last_seq = found.epoch, found.last_seq
        keeper.settle(self.epoch, self.last_seq)
        if keeper.overdue:
            await keeper.save()

    async def _fetch_token(self) -> str:
        return self._token if isinstance(self._token, str) else await self._token()

    def _plan_refresh(self, token: str) -> None:
        self._refresh_at = None
        end = session_end(token)
        if end is None or isinstance(self._token, str):
            return
        moment = end - _REFRESH_BEFORE_SECONDS
        if moment > time.time():
            self._refresh_at = moment
