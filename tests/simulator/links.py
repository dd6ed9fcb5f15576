"""The way from one program to another: a relay that cuts, stalls and delays."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from enum import Enum

Plug = Callable[[], Awaitable[socket.socket]]
"""Connects to where a link leads: a new socket each time, which does not block. OSError: there is nobody."""

# Small, so that a stalled link is soon felt by the server.
_BUFFER = 8_192
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


class Way(Enum):
    """The direction of bytes."""

    DOWN = "from the server"
    UP = "from the client"


def plug_into(
    address: tuple[str, int] | str, new_socket: Callable[[], socket.socket] = socket.socket, *, buffer: int = _BUFFER
) -> Plug:
    """Connects by `new_socket`, whose receive buffer is made that small."""

    async def plug() -> socket.socket:
        made = new_socket()
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            await asyncio.get_running_loop().sock_connect(made, address)
        except BaseException:
            made.close()
            raise
        return made

    return plug


class Link:
    """Forwards bytes both ways between whoever connects to `listening` and where `plug` leads.

    `listening` is bound already, and the link's from here on.
    """

    def __init__(self, plug: Plug, listening: socket.socket, *, buffer: int = _BUFFER) -> None:
        self._plug = plug
        self._listening = listening
        self._buffer = buffer
        self._listener: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._away = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._delay = 0.0
        self._left: dict[Way, int | None] = {Way.DOWN: None, Way.UP: None}
        self._abrupt = False
        self._was_cut = asyncio.Event()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listening.getsockname()[1]
        return port

    async def listen(self) -> None:
        """Takes connections from now on."""
        start = asyncio.start_unix_server if self._listening.family == socket.AF_UNIX else asyncio.start_server
        # Ours before anything is waited for, where this may be cancelled.
        self._listener = await start(self._accept, sock=self._listening, limit=self._buffer, start_serving=False)
        await self._listener.start_serving()

    async def stop(self) -> None:
        """Cuts everything and takes no more."""
        self.heal()
        self.cut(abrupt=True)
        if self._listener is None:
            self._listening.close()
        else:
            self._listener.close()
            await self._listener.wait_closed()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def heal(self) -> None:
        """Undoes every fault that lasts."""
        self._flows.set()
        self._delay = 0.0
        self._away = False
        self._left = {Way.DOWN: None, Way.UP: None}

    def cut(self, *, abrupt: bool) -> bool:
        """Ends every connection at once: by a reset, or by an end of the stream. False where there was none."""
        there_was = bool(self._ends)
        for end in self._ends:
            if abrupt:
                with contextlib.suppress(OSError):
                    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()
        return there_was

    async def cut_within(self, way: Way, size: int, *, abrupt: bool, seconds: float) -> bool:
        """Cuts after `size` more bytes of one direction; false where they did not come in time."""
        self._left[way], self._abrupt = size, abrupt
        self._was_cut.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._was_cut.wait()
        except TimeoutError:
            return False
        finally:
            self._left[way] = None
        return True

    async def stall(self, seconds: float) -> bool:
        """Lets nothing through for a while, and holds the connections."""
        self._flows.clear()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._flows.set()
        return True

    async def slow(self, delay: float, seconds: float) -> bool:
        """Holds everything that is read up by `delay` for a while."""
        self._delay = delay
        try:
            await asyncio.sleep(seconds)
        finally:
            self._delay = 0.0
        return True

    async def away(self, seconds: float) -> bool:
        """Has no way through for a while."""
        self._away = True
        try:
            self.cut(abrupt=True)
            await asyncio.sleep(seconds)
        finally:
            self._away = False
        return True

    def _accept(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._serve(reader, near))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if self._away:
            near.transport.abort()
            return
        self._ends.add(near)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await self._connect()
            self._ends.add(far)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, far, Way.UP))
                pumps.create_task(self._pump(far_reader, near, Way.DOWN))
        except* OSError:
            pass
        finally:
            for end in (near, far):
                if end is not None:
                    self._ends.discard(end)
                    end.transport.abort()
                    with contextlib.suppress(OSError):
                        await end.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        plugged = await self._plug()
        try:
            opened = asyncio.open_unix_connection if plugged.family == socket.AF_UNIX else asyncio.open_connection
            return await opened(sock=plugged, limit=self._buffer)
        except BaseException:
            plugged.close()
            raise

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        while data := await reader.read(self._buffer):
            await self._flows.wait()
            if self._delay:
                await asyncio.sleep(self._delay)
            left = self._left[way]
            if left is not None and len(data) >= left:
                writer.write(data[:left])
                await writer.drain()
                self._left[way] = None
                self.cut(abrupt=self._abrupt)
                self._was_cut.set()
                return
            if left is not None:
                self._left[way] = left - len(data)
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


@contextlib.asynccontextmanager
async def open_link(
    plug: Plug, listening: socket.socket | None = None, *, buffer: int = _BUFFER
) -> AsyncIterator[Link]:
    """A link, as long as the block; without `listening` at a port of its own on loopback."""
    link = Link(plug, listening or socket.create_server(("127.0.0.1", 0)), buffer=buffer)
    try:
        await link.listen()
        yield link
    finally:
        await link.stop()


@contextlib.asynccontextmanager
async def open_links(plugs: Sequence[Plug]) -> AsyncIterator[list[Link]]:
    """A link to each of these, as long as the block."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_link(plug)) for plug in plugs]
