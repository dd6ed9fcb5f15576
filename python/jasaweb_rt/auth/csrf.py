"""Litestar's own CSRF protection, for whom it is meant: requests that a browser's cookie authenticates.

It stands behind the authentication. A request with `Authorization: Bearer` is not looked at, since its cookie is not
either, and neither is one that changes state for nobody: the guards answer that one.
"""

from typing import Any

from litestar.config.csrf import CSRFConfig
from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.middleware.base import ASGIMiddleware
from litestar.middleware.csrf import CSRFMiddleware, generate_csrf_token
from litestar.types import ASGIApp, Receive, Scope, Send

from jasaweb_rt.auth.authentication import FindKeys, bearer_token

__all__ = ["CookieCSRF"]

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class CookieCSRF(ASGIMiddleware):
    """Cookie `csrftoken` (Secure over https, or always) and header `x-csrftoken`.

    Routes with `exclude_from_csrf` are exempt.
    """

    scopes = (ScopeType.HTTP,)
    exclude_opt_key = "exclude_from_csrf"

    def __init__(self, find_keys: FindKeys, *, always_secure: bool = False) -> None:
        self._find_keys = find_keys
        self._always_secure = always_secure

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Lets the request pass, or refuses it by 403."""
        connection: ASGIConnection[Any, Any, Any, Any] = ASGIConnection(scope)
        changes_state = scope.get("method") not in _SAFE
        if bearer_token(connection.headers) is not None or (changes_state and scope.get("user") is None):
            await next_app(scope, receive, send)
            return
        secret = self._find_keys(connection).current.csrf_secret
        is_secure = self._always_secure or scope["scheme"] == "https"
        config = CSRFConfig(secret=secret, cookie_secure=is_secure)
        await _Renewing(next_app, config)(scope, receive, send)


class _Renewing(CSRFMiddleware):
    """Replaces a cookie that does not hold, for its key was replaced; a browser would keep it, and be refused by it."""

    def create_send_wrapper(self, send: Send, token: str, csrf_cookie: str | None) -> Send:
        """Sets the cookie where there is none, or none that holds."""
        if csrf_cookie is not None and self._decode_csrf_token(csrf_cookie) is None:
            csrf_cookie, token = None, generate_csrf_token(secret=self.config.secret)
        return super().create_send_wrapper(send, token, csrf_cookie)

    def _decode_csrf_token(self, token: str) -> str | None:
        """The secret of a token that holds; one of ours is ASCII, and of others Litestar makes an error of its own."""
        return super()._decode_csrf_token(token) if token.isascii() else None
