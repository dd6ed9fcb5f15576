"""`websockets`: its asyncio server and its `broadcast()`, on uvloop."""

import asyncio

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from benches.peers.orders import BACKLOG, HOST, obey


async def main() -> None:
    """Serves until its standard input ends."""
    connections: set[ServerConnection] = set()

    async def register(connection: ServerConnection) -> None:
        connections.add(connection)
        try:
            await connection.wait_closed()
        finally:
            connections.remove(connection)

    def to_all(message: bytes) -> None:
        # It is JSON, and encoded; `broadcast` takes bytes for a binary message otherwise.
        broadcast(connections, message, text=True)

    # Nothing is compressed in the other programs either.
    async with serve(register, HOST, 0, compression=None, backlog=BACKLOG) as server:
        await obey(next(iter(server.sockets)).getsockname()[1], lambda: len(connections), to_all)


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
