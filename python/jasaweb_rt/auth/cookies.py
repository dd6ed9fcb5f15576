"""Cookies that no reader has trouble with."""

from litestar.enums import ScopeType
from litestar.middleware.base import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

__all__ = ["PlainCookies"]


class PlainCookies(ASGIMiddleware):
    """Leaves out cookies with a backslash, which none may have (RFC 6265 section 4.1.1).

    Python before 3.11.10 and 3.12.6 takes time that grows by the square to undo escapes in a quoted value
    (CVE-2024-7592): 15 KB, from anybody, would stop all requests for a second. It stands before whatever reads cookies.
    """

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Hands the request on with the cookies that are plain."""
        if any(name == b"cookie" and b"\\" in value for name, value in scope["headers"]):
            scope["headers"] = [
                (
                    name,
                    b";".join(pair for pair in value.split(b";") if b"\\" not in pair) if name == b"cookie" else value,
                )
                for name, value in scope["headers"]
            ]
        await next_app(scope, receive, send)
