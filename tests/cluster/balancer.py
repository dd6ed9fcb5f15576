"""One address before several servers, by TCP alone.

A fresh machine has no nginx and no haproxy, and several servers on one port (`SO_REUSEPORT`) could not be told apart:
the kernel knows nothing of readiness, and none would have an address of its own to be asked by.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["Balancer", "Server"]

_LOOK_SECONDS: Final = 0.25
_ANSWER_SECONDS: Final = 3.0
_CHUNK: Final = 65_536


class Server(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class Balancer:
    """Leads each new connection to the server that has the fewest among those that are ready; bytes go as they come."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._connections = dict.fromkeys(servers, 0)
        self._ready: set[Server] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def connections(self) -> dict[Server, int]:
        """How many each server has of this balancer's."""
        return dict(self._connections)

    async def start(self, host: str, port: int) -> None:
        """Listens. OSError: the port is taken."""
        self._listener = await asyncio.start_server(self._accept, host, port)
        self._looking = asyncio.create_task(self._look_after())

    async def wait_all_ready(self) -> None:
        """Returns once each server has said that it is ready."""
        while len(self._ready) < len(self._connections):
            await asyncio.sleep(_LOOK_SECONDS / 4)

    async def stop(self) -> None:
        """Takes nobody more, and ends what is open."""
        if self._listener is None or self._looking is None:
            return
        self._listener.close()
        for task in (self._looking, *self._tasks):
            task.cancel()
        await asyncio.gather(self._looking, *self._tasks, return_exceptions=True)
        await self._listener.wait_closed()

    async def _look_after(self) -> None:
        while True:
            answers = await asyncio.gather(*(_is_ready(server) for server in self._connections))
            self._ready = {server for server, ready in zip(self._connections, answers, strict=True) if ready}
            await asyncio.sleep(_LOOK_SECONDS)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for server in sorted(self._ready, key=self._connections.__getitem__):
                with contextlib.suppress(OSError):
                    # Counted before there is one, or a crowd that comes at once would all go to the same.
                    self._connections[server] += 1
                    try:
                        far_reader, far_writer = await asyncio.open_connection(*server)
                        await _join((reader, writer), (far_reader, far_writer))
                        return
                    finally:
                        self._connections[server] -= 1
        finally:
            writer.transport.abort()


async def _join(
    near: tuple[asyncio.StreamReader, asyncio.StreamWriter], far: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    """Passes bytes on both ways, until both have ended or one breaks."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(near[0], far[1]))
            group.create_task(_pump(far[0], near[1]))
    except* OSError:
        pass
    finally:
        far[1].transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    await writer.drain()


async def _is_ready(server: Server) -> bool:
    """Whether `/readyz` says so."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(*server)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.transport.abort()
    except OSError:
        return False
