"""`RealtimePlugin`: the gateway inside a Litestar application that is not ours.

The application keeps its routes, its middleware, its log-in and its port. Sockets are taken in on a port of their own,
which answers `/ws` and nothing else.
"""

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
from litestar import Litestar, Request, post
from litestar.config.app import AppConfig
from litestar.datastructures import CacheControlHeader
from litestar.di import Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import HTTPRouteHandler
from litestar.plugins import InitPlugin

from jasaweb_rt.api.addresses import url_beside
from jasaweb_rt.api.errors import documented, exception_handlers
from jasaweb_rt.api.websocket import TokenBody
from jasaweb_rt.auth import connection_token
from jasaweb_rt.config import Settings
from jasaweb_rt.database import users
from jasaweb_rt.database.migrations import migrate, pending
from jasaweb_rt.database.pool import acquire, create_pool
from jasaweb_rt.database.users import User
from jasaweb_rt.exceptions import (
    ConfigurationError,
    MigrationError,
    RealtimeError,
    ServerStoppedError,
    UnauthenticatedError,
)
from jasaweb_rt.gateway import Gateway, open_gateway
from jasaweb_rt.hooks import Hooks
from jasaweb_rt.messages import timestamp
from jasaweb_rt.realtime import Realtime
from jasaweb_rt.services import close_pool

__all__ = ["Identify", "Identity", "RealtimePlugin"]

logger = logging.getLogger(__name__)

_DEPENDENCY = "realtime"
_POOL_SIZE = 4
_ACQUIRE_SECONDS = 5.0


class Identity(msgspec.Struct, frozen=True):
    """Who a request comes from, by the application's own word."""

    user_id: str
    """Key in the table `users`, which has the last word on existence and role."""
    session_ends: datetime | None = None
    """Aware. A socket of this session is closed then by 4001, unless its client brings a new token; None: no end."""


_Caller = str | Identity | None
Identify = Callable[[Request[Any, Any, Any]], _Caller | Awaitable[_Caller]]
"""Says who is signed in: a user's id, an `Identity`, or None for nobody. It may be `async def`; if not, it must not
block."""


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
        migrate: bool = False,
    ) -> None:
        """Nothing runs yet; trouble with settings, port or database shows when the application starts.

        Args:
            settings: `database_url` must be set; `host` and `port` are where sockets are taken in. Pages of the
                application need its origin in `allowed_origins`, since it has another port.
            hooks: who is told of connections, frames and domain events.
            identify: the application's own authentication. With it the plugin serves `POST token_path`, which answers
                `{"token", "expiresAt", "connectionUrl"}` or 401; without it there is no such route.
            token_path: path of that route.
            migrate: bring the database to this version at startup; otherwise `jasaweb-rt migrate` must have done so.
        """
        self.realtime = Realtime()
        self.hooks = Hooks() if hooks is None else hooks
        self._settings = settings
        self._identify = identify
        self._token_path = token_path
        self._migrate = migrate
        self._gateway: Gateway | None = None
        self._pool: asyncpg.Pool | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on which sockets are taken in. ServerStoppedError: the application is not running."""
        return self._running().server.address

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Adds the dependency, the token route and the plugin's life to an application."""
        if _DEPENDENCY in app_config.dependencies:
            raise ImproperlyConfiguredException(
                f"The application has a dependency {_DEPENDENCY!r} already; RealtimePlugin brings one, once"
            )
        app_config.dependencies[_DEPENDENCY] = Provide(lambda: self.realtime, sync_to_thread=False)
        app_config.signature_namespace.setdefault("Realtime", Realtime)
        if self._identify is not None:
            app_config.route_handlers.append(self._token_route(self._identify))
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
        url = self._settings.database_url
        if url is None:
            raise ConfigurationError("DATABASE_URL is not set; RealtimePlugin needs the URL of a PostgreSQL database")
        await self._prepare_database(url)
        pool = None
        if self._identify is not None:
            pool = await create_pool(url, max_size=_POOL_SIZE, application_name="jasaweb-rt tokens")
            stack.push_async_callback(close_pool, pool)
        gateway = await stack.enter_async_context(open_gateway(self._settings, url, hooks=self.hooks))
        self._gateway, self._pool = gateway, pool
        self.realtime.attach(gateway.server)

    async def _prepare_database(self, url: str) -> None:
        if self._migrate:
            for name in await migrate(self._settings.migrate_url or url):
                logger.info("applied migration %s", name)
        elif missing := await pending(url):
            raise MigrationError(
                f"The database lacks {', '.join(missing)}; run `jasaweb-rt migrate`, or let RealtimePlugin do it by "
                "migrate=True"
            )

    def _running(self) -> Gateway:
        if self._gateway is None:
            raise ServerStoppedError("The application of this RealtimePlugin is not running")
        return self._gateway

    def _token_route(self, identify: Identify) -> HTTPRouteHandler:
        @post(
            self._token_path,
            status_code=200,
            # The guide's clients send no CSRF header here, and a foreign page cannot read the answer.
            exclude_from_csrf=True,
            cache_control=CacheControlHeader(no_store=True),
            responses=documented(400, 401, 503),
            exception_handlers=exception_handlers,
            return_dto=None,
            tags=["websocket"],
        )
        async def issue_token(request: Request[Any, Any, Any]) -> TokenBody:
            """Issues a connection token for the caller, who has `users`' word for role and existence."""
            found = identify(request)
            identity = await found if inspect.isawaitable(found) else found
            return await self._issue(request, Identity(identity) if isinstance(identity, str) else identity)

        return issue_token

    async def _issue(self, request: Request[Any, Any, Any], identity: Identity | None) -> TokenBody:
        gateway = self._running()
        user = None if identity is None or _is_over(identity) else await self._find_user(identity.user_id)
        if identity is None or user is None:
            raise UnauthenticatedError("Authentication required")
        ends = identity.session_ends
        issued = connection_token.issue(
            user_id=user.id,
            role=user.role,
            name=user.name,
            secret=self._settings.token_secret,
            session_exp=None if ends is None else int(ends.timestamp()),
        )
        return TokenBody(
            token=issued.token,
            expires_at=timestamp(issued.expires_at),
            connection_url=url_beside(request, self._settings, gateway.server.address[1]),
        )

    async def _find_user(self, user_id: str) -> User | None:
        if self._pool is None:
            raise ServerStoppedError("The application of this RealtimePlugin is not running")
        async with acquire(self._pool, timeout=_ACQUIRE_SECONDS) as connection:
            return await users.find_by_id(connection, user_id)


def _is_over(identity: Identity) -> bool:
    return identity.session_ends is not None and identity.session_ends <= datetime.now(UTC)
