"""The programs of a run: a PostgreSQL of its own, started again whenever it has ended, and the server or servers."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import asyncpg
import httpx

from jasaweb_rt.database.embedded import EmbeddedPostgres
from jasaweb_rt.database.migrations import migrate
from tests.simulator.clocks import MovedClock, build_library
from tests.simulator.links import Plug, plug_into
from tests.simulator.plan import Plan
from tests.simulator.servers import Server
from tests.support.databases import add_users
from tests.support.ports import free_port

_READY_SECONDS = 60.0
_STATEMENT_SECONDS = 20.0

# Only processes die here and no machine, so what they wrote is safe without fsync.
_POSTGRES = {"fsync": "off", "autovacuum_naptime": "1s"}


class Database:
    """PostgreSQL, its clock, and what is done to it."""

    def __init__(self, postgres: EmbeddedPostgres, clock: MovedClock) -> None:
        self.url = postgres.url
        self.clock = clock
        self._postgres = postgres

    def send_signal(self, number: signal.Signals) -> bool:
        """Sends it a signal; false where it does not run just now. It is started again by its owner."""
        pid = self._postgres.pid
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False

    def signal_backend(self, pid: int, number: signal.Signals) -> bool:
        """Sends a process of it a signal; false where there is no such process any more."""
        with contextlib.suppress(OSError, IndexError):
            # Field 4, behind a name in brackets: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
            parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == self._postgres.pid:
                os.kill(pid, number)
                return True
        return False

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of its own; raises what asyncpg raises where there is none to be had."""
        connection = await asyncpg.connect(self.url, timeout=_STATEMENT_SECONDS, command_timeout=_STATEMENT_SECONDS)
        try:
            yield connection
        finally:
            connection.terminate()


class World:
    """All programs of a run. See `open_world`."""

    def __init__(self, database: Database, servers: Sequence[Server], sites: Sequence[str], site: str) -> None:
        """`sites`: where each server answers HTTP; `site`: where those do who do not care which one it is."""
        self.database = database
        self.servers = servers
        self.site = site
        self._sites = sites

    @property
    def complaints(self) -> list[str]:
        """What a program has done that it should not do, whatever happens to it."""
        return [complaint for server in self.servers for complaint in server.complaints]

    def way(self, device: int) -> Plug:
        """Where the link of a device leads."""
        del device
        return plug_into(("127.0.0.1", self.servers[0].port))

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Runs each server, again and again, for as long as the block."""
        serving = [asyncio.create_task(server.serve()) for server in self.servers]
        try:
            yield
        finally:
            for task in serving:
                task.cancel()
            for outcome in await asyncio.gather(*serving, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    async def ready(self) -> None:
        """Returns once each server says that it is ready, which it must by itself, in a minute."""
        waiting = list(self._sites)
        async with asyncio.timeout(_READY_SECONDS), httpx.AsyncClient(timeout=5) as http:
            while waiting:
                with contextlib.suppress(httpx.HTTPError):
                    if (await http.get(f"{waiting[0]}/readyz")).status_code == 200:
                        del waiting[0]
                        continue
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def open_world(plan: Plan, folder: Path) -> AsyncIterator[World]:
    """A database and one server, in `folder`; the latter runs while `serving`."""
    library = await build_library(folder)
    async with open_database(plan, folder, library) as database:
        clock = MovedClock(library, folder / "server.clock")
        server = Server(folder, "server", clock, database_url=database.url, port=free_port())
        site = f"http://127.0.0.1:{server.port}"
        yield World(database, [server], [site], site)


@contextlib.asynccontextmanager
async def open_database(
    plan: Plan, folder: Path, library: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Database]:
    """Starts PostgreSQL, in `folder`, with the users of `plan` in its database; stops it at the end.

    `library` is what moves its clock; `settings` are added to postgresql.conf.
    """
    clock = MovedClock(library, folder / "database.clock")
    postgres = EmbeddedPostgres(folder / "database", settings=_POSTGRES | dict(settings or {}))
    # PostgreSQL has the environment of whoever starts it, again and again.
    with patch.dict(os.environ, clock.environ):
        postgres.start()
        try:
            await postgres.wait_ready()
            await migrate(postgres.url)
            database = Database(postgres, clock)
            async with database.connection() as connection:
                await add_users(connection, *((user, "client") for user in plan.users))
            yield database
        finally:
            await asyncio.to_thread(postgres.stop)
