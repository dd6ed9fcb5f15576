"""A server core in a process of its own, for a load without a server to put it on.

It takes its orders by lines on standard input, the first of which holds its options as JSON, and answers each by a
line on standard output: `port P` once it listens; `published COUNT` after `publish RATE COUNT SIZE`. It ends with its
input.
"""

import contextlib
import json
import sys
import time
from typing import Any

from jasaweb_rt import FanoutServer
from jasaweb_rt.exceptions import OverloadedError

__all__ = ["stamped"]


def stamped(size: int) -> bytes:
    """A frame of at least `size` bytes that names this moment, for `LoadClient` to time."""
    head = b'{"type":"bench","data":{"stamp":%d,"pad":"' % time.monotonic_ns()
    return head + b"x" * (size - len(head) - 3) + b'"}}'


def main() -> None:
    """Serves until standard input ends."""
    options: dict[str, Any] = json.loads(sys.stdin.readline())
    # All clients come from one address, as fast as they can; how many there may be was checked before.
    server = FanoutServer(
        max_connections=0, max_connections_per_user=0, max_connections_per_ip=0, connect_rate_per_ip=0, **options
    )
    server.start()
    try:
        _say(f"port {server.address[1]}")
        for line in sys.stdin:
            match line.split():
                case ["publish", rate, count, size]:
                    _publish(server, float(rate), int(count), int(size))
                    _say(f"published {count}")
                case _:
                    raise SystemExit(f"this is no order: {line}")
    except OverloadedError as error:
        raise SystemExit(f"More was sent than can be written ({error}): choose a lower --rate or --size.") from None
    finally:
        server.stop(1)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _publish(server: FanoutServer, rate: float, count: int, size: int) -> None:
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        server.broadcast_to_all(stamped(size))


if __name__ == "__main__":
    # Ctrl-C goes to the command as well, which says so.
    with contextlib.suppress(KeyboardInterrupt):
        main()
