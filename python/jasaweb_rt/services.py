"""What the controllers work with: settings, connections, the realtime core, and the services of the domain."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from jasaweb_rt.auth.passwords import PasswordChecker
from jasaweb_rt.config import Settings
from jasaweb_rt.database.errors import database_errors
from jasaweb_rt.domain.projects import ProjectService
from jasaweb_rt.realtime import Realtime

__all__ = ["Services"]

_ACQUIRE_SECONDS = 5.0


class Services:
    """Everything that a request may need. It owns neither the pool nor the core: who started them stops them."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool, realtime: Realtime) -> None:
        self.settings = settings
        self.realtime = realtime
        self.passwords = PasswordChecker()
        self.projects = ProjectService(self.connection, realtime)
        self._pool = pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Lends a connection, after at most 5 s.

        Raises:
            DatabaseUnavailableError: none is to be had, or it broke while it was lent.
        """
        with database_errors():
            async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection:
                yield connection
