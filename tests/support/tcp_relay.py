"""A TCP relay that a test puts before a server, to cut the way to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.support.ports import free_port


class TcpRelay:
    """Forwards bytes both ways between a port of its own on loopback and a target."""

    def __init__(self, host: str, port: int) -> None:
        self.port = free_port()
        self.target = (host, port)
        """Where new connections are led."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def pause(self) -> None:
        """Takes nothing more from either side, whose buffers fill; what was taken is still passed on."""
        self._flowing.clear()

    def resume(self) -> None:
        """Goes on after `pause`."""
        self._flowing.set()

    async def start(self) -> None:
        """Listens; after `cut`, on the same port again."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """Resets every connection and refuses new ones, until `start`."""
        if self._server is not None:
            # Who was let in this very moment is first taken note of: asyncio would lose that socket, unclosed.
            for listener in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listener)
            await asyncio.sleep(0)
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:
            writer.transport.abort()
            return
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await self._reach()
            self._writers.add(far)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far))
                group.create_task(self._pump(far_reader, writer))
        except* OSError:
            pass
        finally:
            for end in (writer, far):
                if end is not None:
                    self._writers.discard(end)
                    end.transport.abort()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.target)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


@contextlib.asynccontextmanager
async def tcp_relay(host: str, port: int) -> AsyncIterator[TcpRelay]:
    """Runs one as long as the block."""
    relay = TcpRelay(host, port)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.cut()
