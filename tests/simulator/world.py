"""The programs of a run: a PostgreSQL of its own and `jasaweb-rt serve`, each started again whenever it has ended."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import asyncpg
import httpx

from jasaweb_rt.database.embedded import EmbeddedPostgres
from jasaweb_rt.database.migrations import migrate
from tests.simulator.clocks import MovedClock, build_library
from tests.simulator.plan import Plan
from tests.support.databases import add_users
from tests.support.ports import free_port
from tests.support.program import Program, environment, program

_READY_SECONDS = 60.0
_LONGEST_LIFE = 3_600.0
_STATEMENT_SECONDS = 20.0

# Only processes die here and no machine, so what they wrote is safe without fsync.
_POSTGRES = {"fsync": "off", "autovacuum_naptime": "1s"}

# Slow consumers and silent peers shall be found within a run, and one address has all clients.
_SERVER = {
    "SEND_QUEUE_BYTES": "65536",
    "PING_INTERVAL": "2",
    "PONG_TIMEOUT": "1",
    "DRAIN_SECONDS": "2",
    "MAX_CONNECTIONS_PER_USER": "0",
    "MAX_CONNECTIONS_PER_IP": "0",
    "CONNECT_RATE_PER_IP": "0",
    "MESSAGE_RATE": "0",
}

# Killed; told to stop before it could listen to that; stopped as it was told; the database was away when it started.
_EXPECTED_ENDS = {-signal.SIGKILL, -signal.SIGTERM, 0, 1}


class Clocks(NamedTuple):
    """Clocks that can be set."""

    server: MovedClock
    database: MovedClock


class World:
    """See `open_world`."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres, clocks: Clocks) -> None:
        self.url = postgres.url
        """Of the database."""
        self.port = free_port()
        """Where the server listens, every time."""
        self.complaints: list[str] = []
        """What a server has done that it should not do, whatever happens to it."""
        self.clocks = clocks
        self._folder = folder
        self._postgres = postgres
        self._server: Program | None = None
        self._starts = 0
        self._environ = environment(self.url, PORT=str(self.port), **_SERVER) | {"TMPDIR": str(folder)}
        self._environ |= clocks.server.environ

    async def serve(self) -> None:
        """Runs the server, and the next one when it has ended, until it is cancelled; each writes a log."""
        while True:
            async with program(self._folder, self._environ, "serve") as running:
                self._server = running
                self._starts += 1
                try:
                    code = await running.end(seconds=_LONGEST_LIFE)
                    if code not in _EXPECTED_ENDS:
                        self.complaints.append(f"server {self._starts} ended with {code}")
                finally:
                    self._server = None
                    (self._folder / f"server-{self._starts:03}.log").write_text(running.output)
                    if "Traceback" in running.output or "panicked" in running.output:
                        self.complaints.append(f"server {self._starts} logged a traceback")

    def signal_server(self, number: signal.Signals) -> bool:
        """Sends the server a signal; false where none runs just now."""
        if self._server is None or self._server.ended:
            return False
        # Not by the process object: it would take the exit code from asyncio, if the process has ended just now.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._server.pid, number)
            return True
        return False

    def signal_postgres(self, number: signal.Signals) -> bool:
        """Sends PostgreSQL a signal; false where it does not run just now. It is started again by its owner."""
        pid = self._postgres.pid
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False

    def signal_backend(self, pid: int, number: signal.Signals) -> bool:
        """Sends a process of PostgreSQL's a signal; false where there is no such process any more."""
        with contextlib.suppress(OSError, IndexError):
            # Field 4, behind a name in brackets: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
            parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == self._postgres.pid:
                os.kill(pid, number)
                return True
        return False

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of its own; raises what asyncpg raises where there is none to be had."""
        connection = await asyncpg.connect(self.url, timeout=_STATEMENT_SECONDS, command_timeout=_STATEMENT_SECONDS)
        try:
            yield connection
        finally:
            connection.terminate()

    async def ready(self) -> None:
        """Returns once the server says that it is ready, which it must be in a minute."""
        async with asyncio.timeout(_READY_SECONDS), httpx.AsyncClient(timeout=5) as http:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await http.get(f"http://127.0.0.1:{self.port}/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def open_world(plan: Plan, folder: Path) -> AsyncIterator[World]:
    """Starts PostgreSQL, in `folder`, with the users of `plan` in its database; stops it at the end."""
    library = await build_library(folder)
    clocks = Clocks(*(MovedClock(library, folder / name) for name in ("server.clock", "database.clock")))
    postgres = EmbeddedPostgres(folder / "database", settings=_POSTGRES)
    # PostgreSQL has the environment of whoever starts it, again and again.
    with patch.dict(os.environ, clocks.database.environ):
        postgres.start()
        try:
            await postgres.wait_ready()
            await migrate(postgres.url)
            world = World(folder, postgres, clocks)
            async with world.database() as connection:
                await add_users(connection, *((user, "client") for user in plan.users))
            yield world
        finally:
            await asyncio.to_thread(postgres.stop)
