"""Finds out who a request comes from: `request.user` is a `User` or None, `request.auth` the session's claims or None.

It refuses nobody; that is for the guards. A route with `exclude_from_auth` in its options is never looked at.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.middleware.base import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from jasaweb_rt.auth import session_jwt
from jasaweb_rt.auth.keys import KeyRing
from jasaweb_rt.auth.session_jwt import SessionClaims
from jasaweb_rt.database.users import User
from jasaweb_rt.exceptions import UnauthenticatedError

__all__ = ["FindKeys", "FindUser", "SessionAuthentication", "bearer_token"]

FindUser = Callable[[ASGIConnection[Any, Any, Any, Any], SessionClaims], Awaitable[User | None]]
"""Reads the user of a session that was not ended, for a connection's application."""

FindKeys = Callable[[ASGIConnection[Any, Any, Any, Any]], KeyRing]
"""The keys of a connection's application."""


def bearer_token(headers: Headers) -> str | None:
    """The token of `Authorization: Bearer` (RFC 6750 section 2.1), perhaps empty; None without that header."""
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


class SessionAuthentication(ASGIMiddleware):
    """Reads the session JWT from `Authorization: Bearer` or, where there is no such header, from the session cookie.

    Existence and role of the user are read from `users`, never believed from the JWT, and so is whether it was ended.
    """

    scopes = (ScopeType.HTTP,)
    exclude_opt_key = "exclude_from_auth"

    def __init__(self, session_cookie: str, find_keys: FindKeys, find_user: FindUser) -> None:
        self._session_cookie = session_cookie
        self._find_keys = find_keys
        self._find_user = find_user

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Sets `user` and `auth` of the scope."""
        connection: ASGIConnection[Any, Any, Any, Any] = ASGIConnection(scope)
        user = claims = None
        token = bearer_token(connection.headers)
        if token is None:
            token = connection.cookies.get(self._session_cookie)
        if token:
            try:
                claims = session_jwt.verify(token, self._find_keys(connection).current.jwt_secret)
                user = await self._find_user(connection, claims)
            except UnauthenticatedError:
                pass
        scope["user"], scope["auth"] = (user, claims) if user else (None, None)
        await next_app(scope, receive, send)
