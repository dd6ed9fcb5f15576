"""A TCP load balancer as a site has one: in turn to the nodes that say that they are ready."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import httpx

from tests.support.tcp_relay import TcpRelay

_LOOK_SECONDS = 0.1
_ANSWER_SECONDS = 2.0


class Balancer(TcpRelay):
    """Leads each new connection to the next node that is ready; one that refuses it is passed over."""

    def __init__(self, ports: Sequence[int]) -> None:
        """`ports`: of the nodes, on loopback."""
        super().__init__("127.0.0.1", ports[0])
        self._ports = list(ports)
        self._ready: set[int] = set()
        self.served: dict[int, int] = dict.fromkeys(ports, 0)
        """Connections that each node has taken."""

    def is_ready(self, port: int) -> bool:
        """Whether the node was ready when it was last asked."""
        return port in self._ready

    async def watch(self) -> None:
        """Asks each node whether it is ready, again and again; for a task."""
        async with httpx.AsyncClient(timeout=_ANSWER_SECONDS) as http:
            await asyncio.gather(*(self._watch(http, port) for port in self._ports))

    async def _watch(self, http: httpx.AsyncClient, port: int) -> None:
        while True:
            try:
                ready = (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
            except httpx.HTTPError:
                ready = False
            (self._ready.add if ready else self._ready.discard)(port)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for port in sorted(self._ready, key=lambda port: self.served[port]):
            self.served[port] += 1
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        raise OSError("no node is ready")


@contextlib.asynccontextmanager
async def balancer(ports: Sequence[int]) -> AsyncIterator[Balancer]:
    """Runs one as long as the block."""
    running = Balancer(ports)
    await running.start()
    watching = asyncio.ensure_future(running.watch())
    try:
        yield running
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        await running.cut()
