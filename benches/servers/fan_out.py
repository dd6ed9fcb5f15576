"""`FanoutServer` under measurement: the core alone, driven from Python as an embedding program would.

Argument: its options, as a JSON object. Its orders are those of the floor program (`benches/floor/src/main.rs`), and:

| line | does | answer |
|---|---|---|
| `text RATE COUNT SIZE BURST` | as `publish`, with messages of words, BURST of them at a time | `published COUNT` |
| `users RATE COUNT SIZE USERS` | as `publish`, to the first USERS users alone | `published COUNT` |
| `to USER RATE COUNT SIZE` | as `publish`, to one user, wherever in the cluster | `published COUNT` |
| `time RATE COUNT SIZE` | as `publish`; measures until the last write has returned | `timed NS NS …` |
| `fill USERS BYTES` | sends to the first USERS users, who do not read, until BYTES wait for each | `filled` |
| `disturb` | starts a thread that spins, and an event loop that is blocked for 200 ms at a time | `disturbed` |
| `stats` | | `stats {counters}` |
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from benches.messages import TOKEN_SECRET, message, text_message
from jasaweb_rt import FanoutServer

_LOOK_SECONDS = 0.005
_FINE_LOOK_SECONDS = 0.00005
_BLOCKED_SECONDS = 0.2
_WRITE_SECONDS = 10.0
_FILL_SECONDS = 30.0
_FILL_BYTES = 60_000
_LEAST_BYTES = 200
_FILL_LOOK_SECONDS = 0.01
# A socket's buffers may grow once more before they stay full.
_FULL_LOOKS = 20
# Of a frame of 126 bytes to 64 KiB (RFC 6455 section 5.2).
_HEADER_BYTES = 4


def main() -> None:
    """Serves until its standard input ends."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    server = FanoutServer(
        token_secret=TOKEN_SECRET,
        max_connections=0,
        max_connections_per_user=0,
        max_connections_per_ip=0,
        connect_rate_per_ip=0,
        **options,
    )
    server.start()
    print(f"port {server.address[1]}", flush=True)
    for line in sys.stdin:
        print(_carry_out(server, line), flush=True)
    server.stop(1)


def _carry_out(server: FanoutServer, line: str) -> str:
    match line.split():
        case ["open", count]:
            while server.stats().connections < int(count):
                time.sleep(_LOOK_SECONDS)
            return f"opened {count}"
        case ["publish", rate, count, size]:
            for _ in _at(float(rate), int(count)):
                server.broadcast_to_all(message(time.monotonic_ns(), int(size)))
            return f"published {count}"
        case ["arrive", size, *moments]:
            began = time.monotonic_ns()
            for moment in moments:
                due = began + int(moment) * 1000
                time.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
                server.broadcast_to_all(message(due, int(size)))
            return f"published {len(moments)}"
        case ["text", rate, count, size, burst]:
            for _ in _at(float(rate), int(count)):
                for _ in range(int(burst)):
                    server.broadcast_to_all(text_message(time.monotonic_ns(), int(size)))
            return f"published {count}"
        case ["each" | "many" as order, rate, count, size, users]:
            _distinct(server, order, float(rate), int(count), int(size), int(users))
            return f"published {count}"
        case ["users", rate, count, size, users]:
            ids = [f"user-{number}" for number in range(int(users))]
            for _ in _at(float(rate), int(count)):
                server.broadcast_to_users(ids, message(time.monotonic_ns(), int(size)))
            return f"published {count}"
        case ["to", user, rate, count, size]:
            for _ in _at(float(rate), int(count)):
                server.broadcast_to_user(user, message(time.monotonic_ns(), int(size)))
            return f"published {count}"
        case ["time", rate, count, size]:
            return "timed " + " ".join(map(str, _time(server, float(rate), int(count), int(size))))
        case ["fill", users, size]:
            _fill(server, {f"user-{number}" for number in range(int(users))}, int(size))
            return "filled"
        case ["disturb"]:
            threading.Thread(target=_spin, daemon=True).start()
            threading.Thread(target=lambda: asyncio.run(_block(server)), daemon=True).start()
            return "disturbed"
        case ["stats"]:
            stats = server.stats()
            found = {name: getattr(stats, name) for name in dir(stats) if not name.startswith("_")}
            if (cluster := stats.cluster) is not None:
                found |= {
                    f"cluster_{name}": getattr(cluster, name) for name in dir(cluster) if not name.startswith("_")
                }
            return f"stats {json.dumps({name: value for name, value in found.items() if isinstance(value, int)})}"
        case _:
            raise SystemExit(f"this is no command: {line}")


def _at(rate: float, count: int) -> Iterator[int]:
    """`count` numbers, `rate` a second."""
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        yield number


def _distinct(server: FanoutServer, order: str, rate: float, count: int, size: int, users: int) -> None:
    """To `users` users at a time, in turn over all, a message of its own each."""
    total = server.stats().users
    ids = [f"user-{number}" for number in range(total)]
    for number in _at(rate, count):
        begin = number * users
        now = [ids[index % total] for index in range(begin, begin + users)]
        if order == "each":
            for user in now:
                server.broadcast_to_user(user, message(time.monotonic_ns(), size))
        else:
            server.broadcast_many([(user, message(time.monotonic_ns(), size)) for user in now])


def _time(server: FanoutServer, rate: float, count: int, size: int) -> list[int]:
    """Nanoseconds from each publication to the return of its last write.

    The counter of bytes is looked at closely only when the time is near, so that looking costs next to nothing.
    """
    taken: list[int] = []
    for _ in _at(rate, count):
        stats = server.stats()
        end = stats.bytes_written + stats.connections * (size + _HEADER_BYTES)
        began = time.monotonic_ns()
        server.broadcast_to_all(message(began, size))
        if taken:
            time.sleep(min(taken) * 0.85e-9)
        while server.stats().bytes_written < end:
            if time.monotonic_ns() - began > _WRITE_SECONDS * 1e9:
                raise SystemExit("not everything was written: a socket is full, or was closed")
            time.sleep(_FINE_LOOK_SECONDS)
        taken.append(time.monotonic_ns() - began)
    return taken


def _fill(server: FanoutServer, users: set[str], size: int) -> None:
    """Sends until the sockets' buffers are full, and `size` bytes wait for each of `users` behind that."""
    looks = 0
    deadline = time.monotonic() + _FILL_SECONDS
    while looks < _FULL_LOOKS:
        if time.monotonic() > deadline:
            raise SystemExit("the sockets take more and more")
        looks += 1
        for connection in server.connections():
            lacking = size - connection.queued_bytes - _HEADER_BYTES
            if connection.user_id in users and lacking > _LEAST_BYTES:
                server.broadcast_to_user(connection.user_id, b"x" * min(lacking, _FILL_BYTES))
                looks = 0
        time.sleep(_FILL_LOOK_SECONDS)


def _spin() -> None:
    while True:
        pass


async def _block(server: FanoutServer) -> None:
    asyncio.get_running_loop().add_reader(server.fileno(), server.drain_events)
    while True:
        time.sleep(_BLOCKED_SECONDS)  # noqa: ASYNC251  # to block the loop is what it is for
        await asyncio.sleep(0)


main()
