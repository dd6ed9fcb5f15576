"""PostgreSQL under measurement: the embedded one, with its defaults, and databases in it."""

import asyncio
import contextlib
import itertools
import logging
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from benches.load import ALL_CORES, on_cores
from jasaweb_rt.database.embedded import EmbeddedPostgres
from jasaweb_rt.database.migrations import migrate

__all__ = ["Database", "Postgres", "Session", "postgres"]

# Not the system's folder for temporary files, which may lie in memory.
_BUILD = Path(__file__).parent.parent / "build"
_STATEMENT_SECONDS = 120.0
_WAIT_SECONDS = 60.0
_CLOSE_SECONDS = 5.0
_LOOK_SECONDS = 0.05

_ADD_USERS = """
insert into public.users (id, email, password, name)
select 'user-' || n, 'user-' || n || '@jasaweb.test', '', 'User ' || n from generate_series(0, $1::int - 1) n
"""


class Session:
    """A connection; every call waits for its end."""

    def __init__(self, runner: asyncio.Runner, connection: asyncpg.Connection) -> None:
        self._runner = runner
        self._connection = connection

    def run(self, statement: str, *arguments: object) -> object:
        """Runs a statement, and returns the first column of its first row; None where it has no row."""
        return self._runner.run(self._connection.fetchval(statement, *arguments))


class Database:
    """A database."""

    def __init__(self, url: str) -> None:
        self.url = url

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A connection for as long as the block."""
        with asyncio.Runner() as runner:
            connection = runner.run(_connect(self.url))
            try:
                yield Session(runner, connection)
            finally:
                runner.run(connection.close(timeout=_CLOSE_SECONDS))

    def run(self, statement: str, *arguments: object) -> object:
        """Runs a statement on a connection of its own, as `Session.run` does."""
        with self.session() as session:
            return session.run(statement, *arguments)

    def wait_for(self, condition: str, *arguments: object, look: float = _LOOK_SECONDS) -> bool:
        """Returns true once the statement `condition` does, looking every `look` seconds, or false after a minute."""
        deadline = time.monotonic() + _WAIT_SECONDS
        with self.session() as session:
            while not session.run(condition, *arguments):
                if time.monotonic() > deadline:
                    return False
                time.sleep(look)
        return True


async def _connect(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(url, command_timeout=_STATEMENT_SECONDS)


class Postgres:
    """A server that runs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._server = Database(url)
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def database(self, users: int, *, triggers: bool = True) -> Iterator[Database]:
        """A database with our tables and `users` users, `user-0` and so on, for as long as the block.

        `triggers`: whether a notification is numbered, counted and relayed, or nothing but stored.
        """
        name = f"bench_{next(self._numbers)}"
        self._server.run(f'create database "{name}"')
        try:
            database = Database(urllib.parse.urlunsplit(urllib.parse.urlsplit(self._url)._replace(path=f"/{name}")))
            asyncio.run(migrate(database.url))
            with database.session() as session:
                session.run(_ADD_USERS, users)
                if not triggers:
                    session.run("alter table public.real_time_notifications disable trigger user")
                # Or the server would do it in the middle of a round, or not.
                session.run("vacuum analyze")
            yield database
        finally:
            self._server.run(f'drop database "{name}" with (force)')


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """Runs a server on a data directory of its own for as long as the block.

    What is started in the block, clients and writers too, may use both cores, as the server does.
    """
    # It recommends a server of one's own.
    logging.getLogger(EmbeddedPostgres.__module__).setLevel(logging.ERROR)
    _BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-postgres-", dir=_BUILD) as folder, on_cores(ALL_CORES):
        # Whoever runs the server instead of root has to come through.
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder) / "data")
        try:
            server.start()
            asyncio.run(server.wait_ready())
            yield Postgres(server.url)
        finally:
            server.stop()
