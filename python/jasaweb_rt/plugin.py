"""`RealtimePlugin`: the gateway inside a Litestar application that is not ours.

The application keeps its routes, its middleware, its log-in and its port. Sockets are taken in on a port of their own,
which answers `/ws` and nothing else.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import msgspec
from litestar import Litestar
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.plugins import InitPlugin

from jasaweb_rt.config import Keys, Settings
from jasaweb_rt.database.migrations import check_rights, migrate_for, pending
from jasaweb_rt.database.pool import create_pool
from jasaweb_rt.exceptions import ConfigurationError, MigrationError, RealtimeError, ServerStoppedError
from jasaweb_rt.gateway import Gateway, open_gateway
from jasaweb_rt.hooks import Hooks
from jasaweb_rt.plugin_routes import Callers, Identify, Identity, inbox_routes, token_route
from jasaweb_rt.realtime import Realtime
from jasaweb_rt.services import close_pool

__all__ = ["Identify", "Identity", "RealtimePlugin"]

logger = logging.getLogger(__name__)

_DEPENDENCY = "realtime"
_POOL_SIZE = 4
_NOT_RUNNING = "The application of this RealtimePlugin is not running"


class RealtimePlugin(InitPlugin):
    """Starts the gateway with the application and stops it with it.

    Handlers get a `Realtime` by the dependency `realtime`; elsewhere it is `plugin.realtime`, always the same one.
    Hooks run on the application's event loop. One plugin is for one application, which may be started again and again.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        hooks: Hooks | None = None,
        identify: Identify | None = None,
        token_path: str = "/api/websocket/token",  # noqa: S107  # a path
        inbox_path: str | None = "/api/notifications",
        migrate: bool = False,
    ) -> None:
        """Nothing runs yet; trouble with settings, port or database shows when the application starts.

        Args:
            settings: `database_url` must be set; `host` and `port` are where sockets are taken in. Pages of the
                application need its origin in `allowed_origins`, since it has another port.
            hooks: who is told of connections, frames and domain events.
            identify: the application's own authentication. With it the plugin serves what clients ask for by HTTP,
                with 401 for nobody; without it there are no such routes.
            token_path: `POST` there answers `{"token", "expiresAt", "connectionUrl"}`.
            inbox_path: `GET` there pages through the caller's notifications, and `POST` to its `/read` marks them as
                read. Both clients read there what is too much to be replayed. None: the application has such routes.
            migrate: bring the database to this version at startup; otherwise `jasaweb-rt migrate` must have done so.
        """
        self.realtime = Realtime()
        self.hooks = Hooks() if hooks is None else hooks
        self._settings = settings
        self._identify = identify
        self._token_path, self._inbox_path = token_path, inbox_path
        self._migrate = migrate
        self._callers: Callers | None = None
        self._gateway: Gateway | None = None
        self._pool: asyncpg.Pool | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on which sockets are taken in. ServerStoppedError: the application is not running."""
        if self._gateway is None:
            raise ServerStoppedError(_NOT_RUNNING)
        return self._gateway.server.address

    def replace_keys(self, keys: Keys) -> None:
        """Issues and checks connection tokens by other keys from now on, from any thread; sockets that are open stay.

        `jasaweb_rt.config.load_keys()` reads keys by the rules of the settings. What another key has signed opens a
        socket only while `keys.token_secret_previous` is that key. A later start goes by these keys, too.

        Raises:
            ServerStoppedError: the application is not running.
        """
        if self._gateway is None:
            raise ServerStoppedError(_NOT_RUNNING)
        self._gateway.replace_keys(keys)
        self._settings = msgspec.structs.replace(self._settings, **msgspec.structs.asdict(keys))

    async def end_session(self, identity: Identity) -> None:
        """Ends a session before its time, for the application's own log-out.

        Its sockets are closed with 4001, on every server of the database; tokens that were issued for it open none, and
        it gets no more. Other sessions of the user stay. `identity` is what `identify` said of it.

        Raises:
            ValueError: it names no session.
            DatabaseUnavailableError: the database does not answer.
            ServerStoppedError: the application is not running, or has no `identify`.
        """
        if self._callers is None:
            raise ServerStoppedError(_NOT_RUNNING)
        await self._callers.end(identity)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Adds the dependency, the routes and the plugin's life to an application."""
        if _DEPENDENCY in app_config.dependencies:
            raise ImproperlyConfiguredException(
                f"The application has a dependency {_DEPENDENCY!r} already; RealtimePlugin brings one, once"
            )
        app_config.dependencies[_DEPENDENCY] = Provide(lambda: self.realtime, sync_to_thread=False)
        app_config.signature_namespace.setdefault("Realtime", Realtime)
        if self._identify is not None:
            callers = self._callers = Callers(self._identify, self._current, self._settings)
            app_config.route_handlers.append(token_route(callers, self._token_path))
            if self._inbox_path is not None:
                app_config.route_handlers += inbox_routes(callers, self._inbox_path, app_config.request_class)
        app_config.lifespan.append(self._lifespan)
        return app_config

    @asynccontextmanager
    async def _lifespan(self, _: Litestar) -> AsyncIterator[None]:
        """From startup to shutdown."""
        async with AsyncExitStack() as stack:
            try:
                await self._start(stack)
            except RealtimeError as error:
                # Litestar and the server log a long traceback of it; its sentence shall not be sought in there.
                logger.error("RealtimePlugin cannot start: %s", error)
                raise
            try:
                yield
            finally:
                self.realtime.attach(None)
                self._gateway = self._pool = None

    async def _start(self, stack: AsyncExitStack) -> None:
        """Starts everything; `stack` stops it. Raises what the start of a gateway raises, and `MigrationError`."""
        if self._gateway is not None:
            raise ConfigurationError("This RealtimePlugin runs already; give each application a plugin of its own")
        if self._settings.role != "all":
            raise ConfigurationError(
                f"RealtimePlugin is a whole server, and role {self._settings.role!r} is a part of one; unset "
                "JASAWEB_RT_ROLE, or use `Realtime.connect` for the gateways of `jasaweb-rt serve --role gateway`"
            )
        url = self._settings.database_url
        if url is None:
            raise ConfigurationError("DATABASE_URL is not set; RealtimePlugin needs the URL of a PostgreSQL database")
        await self._prepare_database(url)
        pool = None
        if self._identify is not None:
            pool = await create_pool(url, max_size=_POOL_SIZE, application_name="jasaweb-rt routes")
            stack.push_async_callback(close_pool, pool)
        gateway = await stack.enter_async_context(open_gateway(self._settings, url, hooks=self.hooks))
        self._gateway, self._pool = gateway, pool
        self.realtime.attach(gateway.server)

    async def _prepare_database(self, url: str) -> None:
        if self._migrate:
            for name in await migrate_for(url, self._settings.migrate_url):
                logger.info("applied migration %s", name)
        elif missing := await pending(url):
            raise MigrationError(
                f"The database lacks {', '.join(missing)}; run `jasaweb-rt migrate`, or let RealtimePlugin do it by "
                "migrate=True"
            )
        await check_rights(url)

    def _current(self) -> tuple[Gateway, asyncpg.Pool]:
        if self._gateway is None or self._pool is None:
            raise ServerStoppedError(_NOT_RUNNING)
        return self._gateway, self._pool
