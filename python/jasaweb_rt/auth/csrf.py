"""Litestar's own CSRF protection, for whom it is meant: requests that a browser's cookie authenticates.

It stands behind the authentication. A request with `Authorization: Bearer` is not looked at, since its cookie is not
either, and neither is one that changes state for nobody: the guards answer that one.
"""

from litestar.config.csrf import CSRFConfig
from litestar.datastructures import Headers
from litestar.middleware.base import ASGIMiddleware
from litestar.middleware.csrf import CSRFMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from jasaweb_rt.auth.authentication import bearer_token

__all__ = ["CookieCSRF"]

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class CookieCSRF(ASGIMiddleware):
    """Cookie `csrftoken` (Secure over https), header `x-csrftoken`; routes with `exclude_from_csrf` are exempt."""

    def __init__(self, secret: str) -> None:
        self._plain = CSRFConfig(secret=secret)
        self._secure = CSRFConfig(secret=secret, cookie_secure=True)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if scope["type"] != "http" or bearer_token(Headers.from_scope(scope)) is not None:
            await next_app(scope, receive, send)
        elif scope["method"] not in _SAFE and scope.get("user") is None:
            await next_app(scope, receive, send)
        else:
            config = self._secure if scope["scheme"] == "https" else self._plain
            await CSRFMiddleware(next_app, config)(scope, receive, send)
