"""Litestar's channels in memory, with the WebSocket handlers that the plugin makes, served by uvicorn on uvloop."""

import asyncio
import socket

import uvicorn
import uvloop
from litestar import Litestar
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend

from benches.peers.orders import BACKLOG, HOST, obey

# The handler's path is the channel's name, and that is where the clients connect.
_CHANNEL = "ws"
_STARTED_LOOK_SECONDS = 0.01


async def main() -> None:
    """Serves until its standard input ends."""
    channels = ChannelsPlugin(backend=MemoryChannelsBackend(), channels=[_CHANNEL], create_ws_route_handlers=True)
    # Of uvicorn's implementations of WebSocket, the cheapest here; nothing is compressed in the other programs either.
    server = uvicorn.Server(
        uvicorn.Config(
            Litestar(plugins=[channels]),
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            backlog=BACKLOG,
            log_level="warning",
        )
    )
    with socket.create_server((HOST, 0), backlog=BACKLOG) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started:
            await asyncio.sleep(_STARTED_LOOK_SECONDS)
        await obey(
            listening.getsockname()[1],
            lambda: len(server.server_state.connections),
            lambda message: channels.publish(message, _CHANNEL),
        )
        server.should_exit = True
        await serving


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
