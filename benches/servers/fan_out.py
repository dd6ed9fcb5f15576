"""`FanoutServer` under measurement: the core alone, driven from Python as an embedding program would.

Arguments: the number of worker threads, the coalescing window in ms.
"""

import sys
import time

from benches.messages import TOKEN_SECRET, message
from jasaweb_rt import FanoutServer

_LOOK_SECONDS = 0.0002


def main() -> None:
    """Serves until its standard input ends."""
    workers, coalesce_ms = int(sys.argv[1]), int(sys.argv[2])
    server = FanoutServer(
        token_secret=TOKEN_SECRET,
        workers=workers,
        coalesce_ms=coalesce_ms,
        max_connections_per_user=0,
        max_connections_per_ip=0,
        connect_rate_per_ip=0,
    )
    server.start()
    print(f"port {server.address[1]}", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["open", count]:
                while server.stats().connections < int(count):
                    time.sleep(_LOOK_SECONDS)
                print(f"opened {count}", flush=True)
            case ["publish", rate, count, size]:
                _publish(server, float(rate), int(count), int(size))
                print(f"published {count}", flush=True)
            case _:
                raise SystemExit(f"this is no command: {line}")
    server.stop(1)


def _publish(server: FanoutServer, rate: float, count: int, size: int) -> None:
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        server.broadcast_to_all(message(time.monotonic_ns(), size))


main()
