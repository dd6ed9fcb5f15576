"""Takes the orders that `benches/floor/src/main.rs` describes, on the event loop of a peer."""

import asyncio
import sys
import time
from collections.abc import Callable

from benches.messages import message

__all__ = ["BACKLOG", "HOST", "obey"]

HOST = "127.0.0.1"
BACKLOG = 4096
"""Connections that may wait to be accepted, as many as at our own door."""

_LOOK_SECONDS = 0.001


async def obey(port: int, connections: Callable[[], int], broadcast: Callable[[bytes], None]) -> None:
    """Carries out what standard input says until it ends.

    Args:
        port: where the peer listens.
        connections: how many are connected now.
        broadcast: sends a message to each of them.
    """
    _say(f"port {port}")
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := (await orders.readline()).decode():
        match line.split():
            case ["open", count]:
                while connections() < int(count):
                    await asyncio.sleep(_LOOK_SECONDS)
                _say(f"opened {count}")
            case ["publish", rate, count, size]:
                await _publish(broadcast, float(rate), int(count), int(size))
                _say(f"published {count}")
            case _:
                raise SystemExit(f"this is no command: {line}")


def _say(line: str) -> None:
    print(line, flush=True)


async def _publish(broadcast: Callable[[bytes], None], rate: float, count: int, size: int) -> None:
    began = time.monotonic()
    for number in range(count):
        # Also where it is late: what waits in the loop has its turn.
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        broadcast(message(time.monotonic_ns(), size))
