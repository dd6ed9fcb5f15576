"""Clients that outlive the nodes they are connected to: each resumes, as a page does, at whichever node takes it next.

They run in a thread and event loop of their own, and speak just enough WebSocket (RFC 6455) for that. Which nodes take
newcomers is told to them, as a load balancer would know it.
"""

import asyncio
import gc
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from benches.messages import requests

__all__ = ["Arrival", "Roaming"]

Address = tuple[str, int]

_START_SECONDS = 10.0
_STEP_SECONDS = 0.02
_AT_ONCE = 100
_LOOK_SECONDS = 0.01
_BACKOFF_SECONDS = 0.5
_TEXT, _CLOSE, _PING = 0x81, 0x88, 0x89
_SEQ = re.compile(rb'"seq":(\d+)')
_EPOCH = re.compile(rb'"epoch":"([^"]+)"')
_RETRY_AFTER = re.compile(rb"retry after (\d+) ms")
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass(frozen=True)
class Arrival:
    """A handshake that was answered by 101."""

    moment: float
    """By `time.monotonic()`."""
    node: Address


@dataclass
class _Shared:
    """What all clients have in common."""

    ready: list[Address] = field(default_factory=list)
    open: Counter[Address] = field(default_factory=Counter)
    """Connections of each node, those that are being opened included."""
    arrivals: list[Arrival] = field(default_factory=list)
    refusals: Counter[int] = field(default_factory=Counter)
    """Handshakes that failed, by HTTP status; 0 where there was no answer."""
    closes: Counter[int] = field(default_factory=Counter)
    """Connections that ended, by close code; 1006 where none came."""
    ended: bool = False
    disorder: int = 0
    """Notifications that were not the next one of their user."""
    stalls: list[tuple[float, float]] = field(default_factory=list)
    """When the clients' event loop had not run in time, by `time.monotonic()`, and by how many seconds it was late."""


class _Client(asyncio.Protocol):
    """One user's connection, over all the sockets that it takes."""

    __slots__ = ("_buffer", "_code", "_head", "_node", "_retry", "_shared", "_tail", "_transport", "epoch", "seq", "up")

    def __init__(self, shared: _Shared, request: bytes) -> None:
        line, _, self._tail = request.partition(b" HTTP/1.1")
        self._head = line
        self._shared = shared
        self._buffer = b""
        self._node: Address | None = None
        self._transport: asyncio.Transport | None = None
        self._retry = 0.0
        self._code = 1006
        self.up = False
        self.seq = 0
        """The last notification."""
        self.epoch = b""

    async def connect(self) -> None:
        """Opens a connection to the node that has the fewest, or tries again later."""
        shared = self._shared
        if not shared.ready:
            self._later(_BACKOFF_SECONDS)
            return
        self._node = min(shared.ready, key=lambda node: shared.open[node])
        shared.open[self._node] += 1
        self._retry, self._code = random.uniform(0, _BACKOFF_SECONDS), 1006  # noqa: S311  # spread, not secret
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, *self._node)
        except OSError:
            shared.refusals[0] += 1
            self._gone()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # of a TCP connection
        self._transport = transport
        self._buffer = b""
        query = b"?last_seq=%d&epoch=%s" % (self.seq, self.epoch) if self.epoch else b""
        transport.write(self._head + query + b" HTTP/1.1" + self._tail)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.up and not self._take_answer():
            return
        while self.up and (found := _first_frame(self._buffer)) is not None:
            kind, payload, length = found
            self._buffer = self._buffer[length:]
            self._take_frame(kind, payload)

    def connection_lost(self, _: Exception | None) -> None:
        if not self._shared.ended:
            if self.up:
                self._shared.closes[self._code] += 1
            elif self._code == 1006:
                self._shared.refusals[0] += 1
        self.up = False
        self._gone()

    def _take_answer(self) -> bool:
        """Whether the connection is open now."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        found = _STATUS.match(self._buffer)
        status = int(found[1]) if found else 0
        self._buffer = self._buffer[end + 4 :]
        if status == 101 and self._node is not None:
            self.up = True
            self._shared.arrivals.append(Arrival(time.monotonic(), self._node))
            return True
        self._shared.refusals[status] += 1
        self._code = 0  # it is counted
        self._close()
        return False

    def _take_frame(self, kind: int, payload: bytes) -> None:
        if kind == _TEXT:
            if found := _SEQ.search(payload):
                seq = int(found[1])
                self._shared.disorder += seq != self.seq + 1
                self.seq = max(seq, self.seq)
            elif found := _EPOCH.search(payload):
                self.epoch = found[1]
        elif kind == _PING and self._transport is not None:
            self._transport.write(_control(0x8A, payload))
        elif kind == _CLOSE and self._transport is not None:
            self._code = int.from_bytes(payload[:2], "big")
            if found := _RETRY_AFTER.search(payload):
                self._retry = int(found[1]) / 1e3
            self._transport.write(_control(_CLOSE, payload[:2]))
            self._close()

    def abort(self) -> None:
        """Cuts its connection, if it has one."""
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _gone(self) -> None:
        if self._node is not None:
            self._shared.open[self._node] -= 1
            self._node = None
        self._transport = None
        self._later(self._retry)

    def _later(self, seconds: float) -> None:
        if not self._shared.ended:
            asyncio.get_running_loop().call_later(seconds, self._begin)

    def _begin(self) -> None:
        if not self._shared.ended:
            _keep(asyncio.get_running_loop().create_task(self.connect()))


_tasks: set[asyncio.Task[None]] = set()


def _keep(task: asyncio.Task[None]) -> None:
    # A loop has only weak references to its tasks.
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _first_frame(buffer: bytes) -> tuple[int, bytes, int] | None:
    """First byte, payload and whole length of the frame that `buffer` begins with; a server's are not masked."""
    if len(buffer) < 2:
        return None
    length, begin = buffer[1], 2
    if length >= 126:
        begin = 4 if length == 126 else 10
        length = int.from_bytes(buffer[2:begin], "big")
    if len(buffer) < begin + length:
        return None
    return buffer[0], buffer[begin : begin + length], begin + length


def _control(first: int, payload: bytes) -> bytes:
    """A client's control frame; masked, with a mask of zeros."""
    return bytes((first, 0x80 | len(payload), 0, 0, 0, 0)) + payload


class Roaming:
    """`count` users, `user-0` and so on, with a connection each, from the first node on until the end of the block."""

    def __init__(self, count: int) -> None:
        self._shared = _Shared()
        users = (f"user-{number}" for number in range(count))
        self._clients = [_Client(self._shared, request) for request in requests(users)]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="roaming", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)
        self._loop.close()

    def connect(self) -> None:
        """Has everybody connect, no more than a hundred in 20 ms; returns when all have begun.

        Until `leave`, no garbage is collected: that stops all clients for a tenth of a second, and those who were to
        come back meanwhile come in a heap.
        """
        gc.disable()
        asyncio.run_coroutine_threadsafe(self._connect(), self._loop).result()

    def leave(self) -> None:
        """Cuts all connections, and opens no more."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_START_SECONDS)
        gc.enable()

    async def _end(self) -> None:
        self._shared.ended = True
        for client in self._clients:
            client.abort()
        await asyncio.sleep(_STEP_SECONDS)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            due = time.monotonic() + _LOOK_SECONDS
            await asyncio.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            if now - due > _LOOK_SECONDS:
                self._shared.stalls.append((now, now - due))

    async def _connect(self) -> None:
        _keep(self._loop.create_task(self._watch()))
        for number, client in enumerate(self._clients):
            _keep(self._loop.create_task(client.connect()))
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(_STEP_SECONDS)

    def set_ready(self, nodes: Sequence[Address]) -> None:
        """New connections go to these nodes from now on, each to the one with the fewest."""
        done: Future[None] = Future()

        def replace() -> None:
            self._shared.ready[:] = nodes
            done.set_result(None)

        self._loop.call_soon_threadsafe(replace)
        done.result(_START_SECONDS)

    @property
    def up(self) -> int:
        """Connections that are open."""
        return sum(client.up for client in self._clients)

    @property
    def in_sync(self) -> bool:
        """Whether everybody was told where it stands, once at least."""
        return all(client.epoch for client in self._clients)

    def on(self, node: Address) -> int:
        """Connections of a node."""
        return self._shared.open[node]

    def arrivals(self, since: float) -> list[Arrival]:
        """Handshakes that were answered by 101 after that moment."""
        return [arrival for arrival in self._shared.arrivals.copy() if arrival.moment > since]

    def longest_stall(self, since: float) -> float:
        """Seconds by which the clients were late at the worst after that moment: what they do then comes in a heap."""
        return max((late for moment, late in self._shared.stalls.copy() if moment > since), default=0.0)

    @property
    def seqs(self) -> list[int]:
        """The last notification of each user."""
        return [client.seq for client in self._clients]

    @property
    def disorder(self) -> int:
        """Notifications that came twice, or not in their turn."""
        return self._shared.disorder

    def troubles(self) -> str:
        """How connections ended and what was refused, since the beginning."""
        return f"closed: {dict(self._shared.closes)}, refused: {dict(self._shared.refusals)}"
