"""Run as a program: starts a NATS server in the directory given, says its process id when it is ready, then waits."""

import asyncio
import sys
from pathlib import Path

from tests.support.nats_server import NatsServer


def main() -> None:
    server = NatsServer(Path(sys.argv[1]))
    server.start()
    asyncio.run(server.wait_ready())
    print(server.pid, flush=True)  # noqa: T201 - the test reads it
    sys.stdin.read()
    server.kill()


if __name__ == "__main__":
    main()
