"""What clients ask `RealtimePlugin` for by HTTP, by the log-in of the application that it is in."""

import hashlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
from litestar import Request, get, post
from litestar.datastructures import CacheControlHeader
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, JSONBody

from jasaweb_rt.api.addresses import url_beside
from jasaweb_rt.api.errors import documented, exception_handlers
from jasaweb_rt.api.notifications import After, CountersBody, Inbox, Limit
from jasaweb_rt.api.strictness import must_ask_what_is_known, strict
from jasaweb_rt.api.websocket import TokenBody
from jasaweb_rt.config import Settings
from jasaweb_rt.database import notifications, sessions
from jasaweb_rt.database.pool import acquire
from jasaweb_rt.database.users import User
from jasaweb_rt.domain.inbox import InboxService
from jasaweb_rt.exceptions import UnauthenticatedError
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.messages import Read

__all__ = ["Callers", "Identify", "Identity", "inbox_routes", "token_route"]

AnyRequest = Request[Any, Any, Any]

_ACQUIRE_SECONDS = 5.0
_ENDED_IS_KNOWN = timedelta(days=1)
"""Of a session without an end: far longer than a token lives that was issued for it."""


class Identity(msgspec.Struct, frozen=True):
    """Who a request comes from, by the application's own word."""

    user_id: str
    """Key in the table `users`, which has the last word on existence and role."""
    session_ends: datetime | None = None
    """Aware. A socket of this session is closed then by 4001, unless its client brings a new token; None: no end."""
    session: str | None = None
    """Names the session among those of the user, by whatever the application has for it, so that it can be ended before
    its time (`RealtimePlugin.end_session`); of this only a hash is kept and sent."""

    @property
    def session_id(self) -> str | None:
        """What stands for `session` in tokens and in the database."""
        return None if self.session is None else hashlib.sha256(self.session.encode()).hexdigest()[:16]


_Caller = str | Identity | None
Identify = Callable[[AnyRequest], _Caller | Awaitable[_Caller]]
"""Says who is signed in: a user's id, an `Identity`, or None for nobody. It may be `async def`; if not, it must not
block."""


class Callers:
    """Who calls, and what they are answered from."""

    def __init__(
        self, identify: Identify, current: Callable[[], tuple[Gateway, asyncpg.Pool]], settings: Settings
    ) -> None:
        """`current` gives what runs; it raises `ServerStoppedError` where nothing does."""
        self._identify = identify
        self._current = current
        self._settings = settings

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Lends a connection, after at most 5 s.

        Raises:
            DatabaseUnavailableError: none is to be had, or it broke while it was lent.
            ServerStoppedError: the application is not running.
        """
        _, pool = self._current()
        async with acquire(pool, timeout=_ACQUIRE_SECONDS) as connection:
            yield connection

    async def who(self, request: AnyRequest) -> tuple[User, Identity]:
        """Who calls.

        Raises:
            UnauthenticatedError: nobody, or nobody any more, or somebody who is not in `users`.
        """
        found = self._identify(request)
        caller = await found if inspect.isawaitable(found) else found
        identity = Identity(caller) if isinstance(caller, str) else caller
        if identity is not None and not _is_over(identity):
            async with self.connection() as connection:
                user = await sessions.find_user(connection, identity.user_id, identity.session_id or "")
            if user is not None:
                return user, identity
        raise UnauthenticatedError("Authentication required")

    def token(self, request: AnyRequest, user: User, identity: Identity) -> TokenBody:
        """A connection token, and where it is to be brought."""
        gateway, _ = self._current()
        ends = identity.session_ends
        return TokenBody.issue(
            user,
            secret=gateway.keys.current.token_secret,
            session_exp=None if ends is None else int(ends.timestamp()),
            session_id=identity.session_id,
            url=url_beside(request, self._settings, gateway.server.address[1]),
        )

    async def end(self, identity: Identity) -> None:
        """Ends a session; see `RealtimePlugin.end_session`."""
        if identity.session_id is None:
            raise ValueError("the Identity names no session; identify must have given it one, too")
        ends = identity.session_ends or datetime.now(UTC) + _ENDED_IS_KNOWN
        async with self.connection() as connection:
            await sessions.end(connection, identity.user_id, identity.session_id, int(ends.timestamp()))

    async def mark_read(self, user: User, what: Read) -> CountersBody:
        """As `InboxService.mark_read`."""
        gateway, _ = self._current()
        counters = await InboxService(self.connection, gateway.hooks.emit).mark_read(user.id, what)
        return CountersBody(unread=counters.unread, rev=counters.rev)


def token_route(callers: Callers, path: str) -> HTTPRouteHandler:
    """`POST path`: a connection token."""

    @post(
        path,
        status_code=200,
        # The guide's clients send no CSRF header here, and a foreign page cannot read the answer.
        exclude_from_csrf=True,
        cache_control=CacheControlHeader(no_store=True),
        guards=[must_ask_what_is_known],
        responses=documented(400, 401),
        exception_handlers=exception_handlers,
        return_dto=None,
        tags=["websocket"],
    )
    async def issue_token(request: AnyRequest) -> TokenBody:
        """Issues a connection token for the caller, who has `users`' word for role and existence."""
        return callers.token(request, *await callers.who(request))

    return issue_token


def inbox_routes(callers: Callers, path: str, request_class: type[AnyRequest] | None) -> list[HTTPRouteHandler]:
    """`GET path`: the caller's inbox; `POST path/read`: what of it was read.

    `request_class` is the application's own; `identify` is given one of it. Marking takes JSON only, which a foreign
    page cannot send without leave, whatever protection the application has; its CSRF protection holds for it too.
    """

    @get(
        path,
        cache_control=CacheControlHeader(no_store=True),
        guards=[must_ask_what_is_known],
        responses=documented(400, 401),
        exception_handlers=exception_handlers,
        return_dto=None,
        tags=["notifications"],
    )
    async def inbox(
        request: AnyRequest, after: After = 0, limit: Limit = 100, unread: FromQuery[bool] = False
    ) -> Inbox:
        """Pages through the caller's notifications."""
        user, _ = await callers.who(request)
        async with callers.connection() as connection:
            return Inbox.of(await notifications.inbox(connection, user.id, after, limit, unread_only=unread))

    @post(
        f"{path.rstrip('/')}/read",
        status_code=200,
        guards=[must_ask_what_is_known],
        request_class=strict(request_class),
        responses=documented(400, 401, 403, 409, 413, 415),
        exception_handlers=exception_handlers,
        dto=None,
        return_dto=None,
        tags=["notifications"],
    )
    async def mark_read(request: AnyRequest, data: JSONBody[Read]) -> CountersBody:
        """Marks notifications of the caller as read: `ids`, or everything `upTo` a seq. Others' ids change nothing."""
        user, _ = await callers.who(request)
        return await callers.mark_read(user, data)

    return [inbox, mark_read]


def _is_over(identity: Identity) -> bool:
    return identity.session_ends is not None and identity.session_ends <= datetime.now(UTC)
