"""A client for asyncio: connects, stays connected, and hands out frames in order, each durable one once.

    async with RealtimeClient("wss://rt.example.org/ws", token=fetch_token) as client:
        async for frame in client:
            print(frame["type"], frame["data"])

The iteration is what drives it: frames are read, and connections made anew, while somebody iterates. So there is no
queue that could fill: a program that is slow to iterate is a slow consumer, and resumes.
"""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from jasaweb_rt.client_rules import Next, after_close, after_refusal, backoff, session_end
from jasaweb_rt.exceptions import DatabaseUnavailableError, RealtimeError
from jasaweb_rt.messages import now_timestamp, uuid7

__all__ = ["Frame", "RealtimeClient", "RealtimeClientError", "TokenProvider"]

logger = logging.getLogger(__name__)

Frame = dict[str, Any]
"""A frame as it came."""

TokenProvider = Callable[[], Awaitable[str]]
"""Fetches a new connection token. What it raises ends the iteration, but for `OSError` (time-outs are one) and
`DatabaseUnavailableError`, after which it is asked again."""

_OPEN_SECONDS = 10.0
_CLOSE_SECONDS = 5.0
_STABLE_SECONDS = 10.0  # open so long, the backoff starts anew
_REFRESH_BEFORE_SECONDS = 60.0
_MAX_FRAME_BYTES = 16 * 1024 * 1024


class RealtimeClientError(RealtimeError):
    """The connection has ended for good: the server wants it so, or the token is refused."""

    def __init__(self, message: str, code: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        """Close code or HTTP status, if there was one."""
        self.reason = reason


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
    ) -> None:
        """Sets up without connecting.

        Args:
            url: the `connectionUrl` of the token route, `ws:` or `wss:`.
            token: a connection token, good for one session at most, or a function that fetches a new one each time.
            last_seq: resume after this `seq`; None: begin with what comes.
            epoch: the epoch that `last_seq` belongs to.
            batch: let the server put frames that wait together into one message, which costs both sides less; they are
                handed out one by one in any case.
        """
        self.last_seq = last_seq
        """`seq` up to which everything was handed out; None before the first `sync`."""
        self.epoch = epoch
        self.unread: int | None = None
        """Unread notifications, as of `rev`; None before the first count."""
        self.rev = -1
        self._url = url
        self._token = token
        self._batch = batch
        self._socket: ClientConnection | None = None
        self._waiting: deque[Frame] = deque()
        self._attempt = 0
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
        await self.close()

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        """The next frame; control frames too.

        After a `resync` frame, what lies between its `fromSeq` and `headSeq` is to be read by HTTP; the client goes on
        behind that.

        Raises:
            RealtimeClientError: the connection has ended for good.
        """
        while not self._closed.is_set():
            if self._waiting:
                frame = self._waiting.popleft()
                if self._is_new(frame):
                    return frame
                continue
            try:
                socket = self._socket or await self._connect()
                if socket is not None:
                    await self._receive(socket)
            except ConnectionClosed as closed:
                code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
                self._socket = None
                await self._go_on(after_close(code, reason), code, reason)
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
        """Closes the socket with 1000 and ends the iteration."""
        self._closed.set()
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    async def _connect(self) -> ClientConnection | None:
        try:
            token = await self._fetch_token()
        except (OSError, DatabaseUnavailableError) as error:
            logger.info("no token: %s", error)
            await self._go_on(Next("reconnect"))
            return None
        try:
            socket = await connect(
                self._address(),
                subprotocols=[Subprotocol("jasaweb.v1"), Subprotocol(f"bearer.{token}")],
                open_timeout=_OPEN_SECONDS,
                close_timeout=_CLOSE_SECONDS,
                max_size=_MAX_FRAME_BYTES,
            )
        except InvalidStatus as refused:
            status = refused.response.status_code
            following = after_refusal(status, refused.response.headers.get("Retry-After"))
            await self._go_on(following, status, refused.response.reason_phrase)
            return None
        except (OSError, EOFError, InvalidHandshake) as error:
            logger.info("no connection: %s", error)
            await self._go_on(Next("reconnect"))
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
        # Cancelling `recv` loses no message.
        wait = None if self._refresh_at is None else max(0, self._refresh_at - time.time())
        try:
            async with asyncio.timeout(wait):
                text = await socket.recv()
        except TimeoutError:
            self._refresh_at = None
            # Where this fails the session ends with 4001, and a new one begins.
            with suppress(OSError, DatabaseUnavailableError):
                await self.refresh()
            return
        message = json.loads(text)
        self._waiting.extend(message if isinstance(message, list) else [message])

    def _is_new(self, frame: Frame) -> bool:
        """Takes note of a frame; false for a durable one that was handed out before."""
        self._renewed = False
        kind, data, seq = frame["type"], frame["data"], frame.get("seq")
        if seq is not None:
            self._count(frame)
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
            self.epoch, self.last_seq, self.rev = data["epoch"], data["headSeq"], -1
        elif kind == "read":
            self._count(data)
        return True

    def _count(self, counters: Frame) -> None:
        if counters["rev"] > self.rev:
            self.unread, self.rev = counters["unread"], counters["rev"]

    async def _go_on(self, following: Next, code: int | None = None, reason: str = "") -> None:
        """Waits as long as the next step demands, or raises where there is none."""
        self._refresh_at = None
        if self._closed.is_set():
            return
        if following.do == "stop" or (following.do == "renew" and (self._renewed or isinstance(self._token, str))):
            self._closed.set()
            raise RealtimeClientError(f"The connection has ended ({code} {reason}).".replace(" )", ")"), code, reason)
        self._renewed = following.do == "renew"
        if self._opened_at and time.monotonic() - self._opened_at > _STABLE_SECONDS:
            self._attempt = 0
        delay = following.delay
        if delay is None:
            delay = backoff(self._attempt)
            self._attempt += 1
        logger.info("disconnected (%s %s); next try in %.1f s", code, reason, delay)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), delay)

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
