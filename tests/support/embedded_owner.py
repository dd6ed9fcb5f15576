"""Run as a program: starts an embedded PostgreSQL in the directory given, says when it is ready, waits for the end."""

import asyncio
import sys
from pathlib import Path

from jasaweb_rt.database.embedded import EmbeddedPostgres


def main() -> None:
    server = EmbeddedPostgres(Path(sys.argv[1]))
    url = server.start()
    asyncio.run(server.wait_ready())
    print(server.pid, url, flush=True)  # noqa: T201 - the test reads it
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
