"""A program of a test's own, to be stopped or killed and started again: on one port, with one data directory."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg

from tests.browser.application import Application
from tests.support.embedded import running
from tests.support.ports import free_port
from tests.support.program import Program, environment, program, run


class RestartableProgram:
    """`jasaweb-rt serve`, its embedded PostgreSQL included. `app` is the one that runs now."""

    def __init__(self, folder: Path) -> None:
        self.app: Application
        self._folder = folder
        self._environ = environment(PORT=str(free_port()))
        self._program: Program
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Returns once it listens."""
        self._program = await self._stack.enter_async_context(program(self._folder, self._environ, "serve"))
        await self._program.url()
        code, database_url = await run(self._folder, self._environ, "database-url")
        assert code == 0, database_url
        pool = await self._stack.enter_async_context(asyncpg.create_pool(database_url.strip(), min_size=1, max_size=4))
        self.app = Application(f"http://127.0.0.1:{self._environ['JASAWEB_RT_PORT']}", pool)

    async def end(self, number: signal.Signals) -> None:
        """Ends it by a signal, and what belongs to it."""
        code = await self._program.end(number)
        assert code == (-number if number == signal.SIGKILL else 0), self._program.output
        await self._stack.aclose()

    async def clear_away(self) -> None:
        """Ends it whatever state it is in."""
        await self._stack.aclose()

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """Its database alone, while the program is down."""
        async with running(self._folder / ".jasaweb") as server:
            connection = await asyncpg.connect(server.url)
            try:
                yield connection
            finally:
                await connection.close()
