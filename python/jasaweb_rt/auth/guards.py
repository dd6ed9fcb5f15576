"""Who may call a route."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from jasaweb_rt.exceptions import ForbiddenError, UnauthenticatedError

__all__ = ["must_be_admin", "must_be_signed_in"]


def must_be_signed_in(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Lets any user with a session pass."""
    if connection.user is None:
        raise UnauthenticatedError("Authentication required")


def must_be_admin(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Lets administrators pass."""
    must_be_signed_in(connection, handler)
    if connection.user.role != "admin":
        raise ForbiddenError("Only an administrator may do this")
