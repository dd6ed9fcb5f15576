"""`FanoutServer` for the soak: short times, small queues, and a callback for what clients send.

It has no arguments. Its orders, each a line, and what it answers:

| line | does | answer |
|---|---|---|
| `publish RATE COUNT SIZE` | sends to everyone, as the floor program does | `published COUNT` |
| `drown COUNT` | sends to `slow-0` and so on until COUNT were closed for not keeping up | `drowned COUNT` |
| `stats` | | `stats JSON`: the counters, the events that were dropped, and the bytes that wait for open connections |
"""

import contextlib
import json
import sys
import time
from typing import Any

from benches.messages import TOKEN_SECRET, message
from jasaweb_rt import FanoutServer
from jasaweb_rt._core import OverloadedError

_LOOK_SECONDS = 0.01
_DROWN_SECONDS = 60.0
_DROWNING_BYTES = 60_000


def main() -> None:
    """Serves until its standard input ends."""
    server = FanoutServer(
        token_secret=TOKEN_SECRET,
        workers=2,
        max_connections_per_user=0,
        max_connections_per_ip=0,
        connect_rate_per_ip=0,
        send_queue_bytes=262_144,
        ping_interval=2,
        pong_timeout=5,
    )
    heard = 0

    def hear(batch: list[tuple[str, str, str, bytes]]) -> None:
        nonlocal heard
        heard += len(batch)

    server.on_message(hear)
    server.start()
    print(f"port {server.address[1]}", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["publish", rate, count, size]:
                _publish(server, float(rate), int(count), int(size))
                print(f"published {count}", flush=True)
            case ["drown", count]:
                _drown(server, int(count))
                print(f"drowned {count}", flush=True)
            case ["stats"]:
                print(f"stats {json.dumps({**_counters(server), 'heard': heard})}", flush=True)
            case _:
                raise SystemExit(f"this is no command: {line}")
    server.stop(1)


def _publish(server: FanoutServer, rate: float, count: int, size: int) -> None:
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        server.broadcast_to_all(message(time.monotonic_ns(), size))


def _drown(server: FanoutServer, count: int) -> None:
    wanted, deadline = server.stats().slow_consumers + count, time.monotonic() + _DROWN_SECONDS
    frame = message(time.monotonic_ns(), _DROWNING_BYTES)
    while server.stats().slow_consumers < wanted:
        if time.monotonic() > deadline:
            raise SystemExit("those who do not read were not closed")
        with contextlib.suppress(OverloadedError):
            server.broadcast_to_users([f"slow-{number}" for number in range(count)], frame)
        time.sleep(_LOOK_SECONDS)


def _counters(server: FanoutServer) -> dict[str, Any]:
    stats = server.stats()
    names = [name for name in dir(stats) if not name.startswith("_")]
    numbers = {name: value for name in names if isinstance(value := getattr(stats, name), int)}
    waiting = sum(connection.queued_bytes for connection in server.connections())
    return {**numbers, "events_dropped": stats.drops.events, "waiting_bytes": waiting}


main()
