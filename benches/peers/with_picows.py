"""`picows`: its own transports, one `send` each, on uvloop."""

import asyncio

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from benches.peers.orders import BACKLOG, HOST, obey


class Client(WSListener):
    """A connection that is in `transports` while it is open."""

    def __init__(self, transports: set[WSTransport]) -> None:
        self._transports = transports

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The upgrade is done."""
        self._transports.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The connection has ended."""
        self._transports.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame of the client, whose only one is a close."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


async def main() -> None:
    """Serves until its standard input ends."""
    transports: set[WSTransport] = set()

    def listener(_request: WSUpgradeRequest) -> Client:
        return Client(transports)

    def to_all(message: bytes) -> None:
        for transport in transports:
            transport.send(WSMsgType.TEXT, message)

    server = await ws_create_server(listener, HOST, 0, backlog=BACKLOG)
    await obey(server.sockets[0].getsockname()[1], lambda: len(transports), to_all)
    server.close()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
