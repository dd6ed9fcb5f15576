"""Very many peers that take their time, each in one phase of a connection's life, as a program of its own.

Arguments: host, port, the least seconds between two bytes of one peer, then how many of which phase (`head=200 …`). Who
is cut comes again if `again` stands among them. It says `port 0` when all are there, and takes orders by lines:

| line | does | answer |
|---|---|---|
| `ended` | tells how many the server has ended so far, by phase | `ended {counts}` |
"""

import contextlib
import itertools
import json
import os
import select
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from benches.hostile import frame
from benches.messages import requests

__all__ = ["PHASES", "command"]

_CONNECT_SECONDS = 20.0
_LOOK_SECONDS = 0.05
_TICK_SECONDS = 0.001
_TEXT, _BINARY = 0x1, 0x2
_ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_RECEIVE_BYTES = 4096
_NICENESS = 19

Script = Callable[[bytes], tuple[bytes, Iterator[bytes]]]
"""From an upgrade request: what a peer sends at once, and then piece by piece."""


def _nothing() -> Iterator[bytes]:
    return iter(())


def _bytes(data: bytes) -> Iterator[bytes]:
    return (bytes([byte]) for byte in data)


_X = itertools.repeat(b"x")
_LONG_FRAME = frame(_TEXT, b"x" * 60_000)

PHASES: dict[str, Script] = {
    "silent": lambda request: (b"", _nothing()),
    "head": lambda request: (b"", itertools.chain(_bytes(b"GET / HTTP/1.1\r\nHost: a\r\nX: "), _X)),
    "upgrade": lambda request: (b"", itertools.chain(_bytes(request[:-2] + b"X: "), _X)),
    "frame": lambda request: (request, _bytes(_LONG_FRAME)),
    "message": lambda request: (request + frame(_TEXT, b"", fin=False), itertools.repeat(frame(0, b"", fin=False))),
    "close": lambda request: (request + frame(_BINARY, b""), _nothing()),
    "reading": lambda request: (request, _nothing()),
}
"""Never says anything; its head byte by byte; its upgrade request so; its first frame so; a message in fragments
without end; never answers the Close that its mistake brings; never reads."""


def command(
    address: tuple[str, int], counts: Mapping[str, int], *, pause: float, again: bool = False
) -> tuple[str, ...]:
    """How the program is called."""
    host, port = address
    phases = [f"{phase}={count}" for phase, count in counts.items()]
    return (sys.executable, "-m", "benches.slow_peers", host, str(port), str(pause), *(["again"] * again), *phases)


@dataclass(slots=True)
class _Peer:
    phase: str
    request: bytes
    socket: socket.socket
    pieces: Iterator[bytes]
    due: float
    has_ended: bool = False


class _Crowd:
    def __init__(self, address: tuple[str, int], pause: float, again: bool) -> None:
        self._address = address
        self._pause = pause
        self._again = again
        self._peers: dict[int, _Peer] = {}
        # In the order of their moments, for the pause is the same for all.
        self._due: deque[_Peer] = deque()
        self._epoll = select.epoll()
        self.ended: Counter[str] = Counter()

    def join(self, phase: str, request: bytes) -> None:
        """One more."""
        # The least that a kernel gives, so that one that does not read is noticed.
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        client.settimeout(_CONNECT_SECONDS)
        at_once, pieces = PHASES[phase](request)
        with contextlib.suppress(ConnectionError):
            client.connect(self._address)
            client.sendall(at_once)
        client.setblocking(False)
        self._epoll.register(client, _ENDED)
        peer = _Peer(phase, request, client, pieces, time.monotonic())
        self._peers[client.fileno()] = peer
        self._due.append(peer)

    def work(self, until: float) -> None:
        """Sends what is due, and takes note of who was ended, up to a moment."""
        while (now := time.monotonic()) < until:
            next_due = self._due[0].due if self._due else until
            for number, _ in self._epoll.poll(max(_TICK_SECONDS, min(next_due, until) - now)):
                self._end(number)
            self._send_due(time.monotonic())

    def _send_due(self, now: float) -> None:
        while self._due and self._due[0].due <= now:
            peer = self._due.popleft()
            if not peer.has_ended:
                peer.due = now + self._pause
                self._due.append(peer)
                with contextlib.suppress(OSError):
                    peer.socket.send(next(peer.pieces, b""))

    def _end(self, number: int) -> None:
        peer = self._peers.pop(number)
        self._epoll.unregister(number)
        peer.socket.close()
        peer.has_ended = True
        self.ended[peer.phase] += 1
        if self._again:
            self.join(peer.phase, peer.request)


def main() -> None:
    """Runs until its standard input ends."""
    # Honest clients do not share their machine with such peers, as they do here: theirs is the core when they need it.
    os.nice(_NICENESS)
    host, port, pause, *rest = sys.argv[1:]
    crowd = _Crowd((host, int(port)), float(pause), "again" in rest)
    for phase, count in (each.split("=") for each in rest if each != "again"):
        for request in requests(f"slow-{phase}-{number}" for number in range(int(count))):
            crowd.join(phase, request)
            crowd.work(time.monotonic())
    print("port 0", flush=True)
    while True:
        crowd.work(time.monotonic() + _LOOK_SECONDS)
        if select.select([sys.stdin], [], [], 0)[0]:
            if sys.stdin.readline().strip() != "ended":
                return
            print(f"ended {json.dumps(crowd.ended)}", flush=True)


if __name__ == "__main__":
    main()
