"""A server and its clients in a network of their own, which is cut: no end, no reset, no answer arrives any more.

Run as `unshare --user --map-root-user --net python -m tests.support.half_open`. Prints one line of JSON.
"""

import asyncio
import fcntl
import json
import socket
import struct
import sys
from contextlib import AsyncExitStack

from jasaweb_rt._core import Connected, Disconnected, FanoutServer
from tests.support.sockets import opened, until
from tests.support.tokens import SECRET

COUNT = 20
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 0x1


def set_loopback(up: bool) -> None:
    """As `ip link set lo up` or `down` (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)
        flags = flags | _IFF_UP if up else flags & ~_IFF_UP
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))


async def main() -> None:
    """Opens connections, cuts the network, and tells how each ended."""
    set_loopback(True)
    server = FanoutServer(
        token_secret=SECRET, connect_rate_per_ip=0, max_connections_per_ip=0, ping_interval=0.5, pong_timeout=5.0
    )
    server.start()
    ends: list[tuple[int, str]] = []

    def take() -> None:
        for event in server.drain_events():
            match event:
                case Disconnected():
                    ends.append((event.code, event.status))
                case Connected():
                    pass

    asyncio.get_running_loop().add_reader(server.fileno(), take)
    async with AsyncExitStack() as stack:
        for number in range(COUNT):
            await stack.enter_async_context(opened(server, f"user-{number}", close_timeout=0.1))
        half_open_http = stack.enter_context(socket.create_connection(server.address))
        half_open_http.sendall(b"GET / HTTP/1.1\r\n")
        await until(lambda: server.stats().http_connections == 1, "the HTTP connection")
        before = len(ends)
        set_loopback(False)
        await until(lambda: not server.stats().connections and len(ends) == COUNT, "the end of the sockets")
        await until(lambda: not server.stats().http_connections, "the end of the HTTP connection")
        found = list(ends)
        set_loopback(True)
        async with opened(server, "user-1"):
            again = server.stats().connections
    await asyncio.to_thread(server.stop, 0)
    sys.stdout.write(json.dumps({"before": before, "ends": found, "again": again}))


if __name__ == "__main__":
    asyncio.run(main())
