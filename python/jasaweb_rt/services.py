"""What the controllers work with: settings, connections, the process they run in, and the services of the domain."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from jasaweb_rt.app_node import open_app_node
from jasaweb_rt.auth.login_limits import LoginLimits
from jasaweb_rt.auth.passwords import PasswordChecker
from jasaweb_rt.config import Settings
from jasaweb_rt.database.pool import acquire, create_pool
from jasaweb_rt.domain.broadcasts import BroadcastService
from jasaweb_rt.domain.inbox import InboxService
from jasaweb_rt.domain.invoices import InvoiceService
from jasaweb_rt.domain.projects import ProjectService
from jasaweb_rt.domain.user_messages import UserMessageService
from jasaweb_rt.exceptions import ConfigurationError, DatabaseBusyError
from jasaweb_rt.gateway import open_gateway
from jasaweb_rt.hooks import Hooks
from jasaweb_rt.node import Node
from jasaweb_rt.vitals import Vitals

__all__ = ["Services", "close_pool", "open_services"]

_ACQUIRE_SECONDS = 5.0
# Each holds a request and what it brought; who comes when so many wait would hardly get a turn in time.
_MAX_WAITING = 200
_CLOSE_SECONDS = 5.0


class Services:
    """Everything that a request may need. It owns neither the pool nor the node: who started them stops them."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool, node: Node, *, demo: bool = False) -> None:
        self.settings = settings
        self.node = node
        self.demo = demo
        """Whether the log-in page offers the accounts of the demo."""
        self.keys = node.keys
        self.vitals = Vitals(settings, node, self.connection)
        self.overview = node.overview(self.connection)
        self.passwords = PasswordChecker()
        self.login_limits = LoginLimits()
        emit, realtime = node.hooks.emit, node.realtime
        self.broadcasts = BroadcastService(self.connection, realtime, emit)
        self.inbox = InboxService(self.connection, emit)
        self.invoices = InvoiceService(self.connection, realtime, emit)
        self.projects = ProjectService(self.connection, realtime, emit)
        self.user_messages = UserMessageService(self.connection, realtime, emit)
        self._disk = node.disk
        self._pool = pool
        self._waiting = 0

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Lends a connection, after at most 5 s.

        Raises:
            DatabaseBusyError: all stay in use, or 200 others wait for one.
            DatabaseUnavailableError: none is to be had, or it broke while it was lent.
        """
        if self._waiting >= _MAX_WAITING:
            raise DatabaseBusyError(
                f"All connections to PostgreSQL are in use, and {_MAX_WAITING} requests wait for one already; "
                "look in pg_stat_activity for what holds them up"
            )
        with self._disk.watching():
            async with AsyncExitStack() as stack:
                self._waiting += 1
                try:
                    connection = await stack.enter_async_context(acquire(self._pool, timeout=_ACQUIRE_SECONDS))
                finally:
                    self._waiting -= 1
                yield connection


@asynccontextmanager
async def open_services(settings: Settings, hooks: Hooks | None = None) -> AsyncIterator[Services]:
    """Opens a pool on `settings.database_url`, and starts a gateway with `hooks`; stops all in the end.

    In role `app` there is no gateway: sockets are elsewhere.

    Raises:
        ConfigurationError: no database is configured, or the port is taken.
        DatabaseUnavailableError: the database does not answer.
    """
    if settings.database_url is None:
        raise ConfigurationError("DATABASE_URL is not set; set it, or let `jasaweb-rt serve` bring its own PostgreSQL.")
    pool = await create_pool(settings.database_url)
    try:
        if settings.role == "app":
            async with open_app_node(settings, hooks) as node:
                yield Services(settings, pool, node)
        else:
            async with open_gateway(settings, settings.database_url, hooks=hooks) as gateway:
                yield Services(settings, pool, gateway)
    finally:
        await close_pool(pool)


async def close_pool(pool: asyncpg.Pool, seconds: float = _CLOSE_SECONDS) -> None:
    """Closes a pool, if need be by force once `seconds` are over."""
    try:
        async with asyncio.timeout(seconds):
            await pool.close()
    except TimeoutError:
        pool.terminate()
