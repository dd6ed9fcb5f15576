"""One shape for every error: `{"success": false, "error": "<sentence>"}`, and the one mapping of errors to statuses."""

import logging
from typing import Any, Literal

import msgspec
from litestar import Request, Response
from litestar.enums import MediaType
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ExceptionHandlersMap

from jasaweb_rt.database.errors import is_timeout, is_unavailable, unavailable
from jasaweb_rt.exceptions import (
    ConflictError,
    DatabaseBusyError,
    DatabaseFullError,
    DatabaseUnavailableError,
    ForbiddenError,
    InvalidInputError,
    NotConfiguredError,
    NotFoundError,
    OverloadedError,
    RealtimeError,
    ServerStoppedError,
    TooManyRequestsError,
    UnauthenticatedError,
)
from jasaweb_rt.sparing_log import SparingLog

__all__ = ["EMPTY", "SIGNED_IN", "ErrorBody", "documented", "exception_handlers"]

logger = logging.getLogger(__name__)
# While the database is away every request fails, and all for the same reason.
sparing = SparingLog(logger)

AnyRequest = Request[Any, Any, Any]

_STATUS: dict[type[RealtimeError], int] = {
    InvalidInputError: 400,
    UnauthenticatedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    TooManyRequestsError: 429,
    NotConfiguredError: 503,
    OverloadedError: 503,
    ServerStoppedError: 503,
}
_DATABASE_UNAVAILABLE = "The database is not available; try again later"
_DATABASE_BUSY = "The database is busy; try again later"
_DATABASE_FULL = "The database has no room left; try again later"
_SENTENCES = {
    401: "Authentication required",
    404: "Not found",
    405: "This method is not allowed here",
    413: "The body is too large",
}
_MEANINGS = {
    400: "The request breaks a rule; the sentence names it",
    401: "Nobody is signed in",
    403: "Not allowed, or the CSRF header is missing",
    404: "There is no such thing",
    409: "It does not fit what is stored, or others are changing the same rows",
    413: "The body is too large",
    415: "The body is not called JSON",
    426: "Only a WebSocket upgrade is served here",
    429: "Too many requests; see Retry-After",
    503: "Not available at present; see Retry-After",
}


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What every error answers."""

    success: Literal[False] = False
    error: str
    """One sentence."""


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """Declares errors of a route for OpenAPI; those of the front door, 429 and 503, every route may answer."""
    return {
        status: ResponseSpec(data_container=ErrorBody, description=_MEANINGS[status], generate_examples=False)
        for status in sorted({*statuses, 429, 503})
    }


SIGNED_IN: list[dict[str, list[str]]] = [{"bearer": []}, {"cookie": []}]
"""Declares that a route wants a session, by one of these ways (`app.py` says what they are)."""

EMPTY = {204: ResponseSpec(data_container=None, description="Done; there is no content", generate_examples=False)}
"""Declares the success of a route that answers without content."""


def _answer(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response[ErrorBody]:
    return Response(ErrorBody(error=sentence), status_code=status, media_type=MediaType.JSON, headers=headers or {})


def _on_own_error(_: AnyRequest, error: RealtimeError) -> Response[ErrorBody]:
    if isinstance(error, DatabaseUnavailableError):
        return _database_fails(error)
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
    if status == 500:
        return _internal(error)
    headers = {}
    if isinstance(error, UnauthenticatedError):
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 section 15.5.2
    if isinstance(error, TooManyRequestsError):
        headers["Retry-After"] = str(error.retry_after)
    if status == 503:
        headers["Retry-After"] = "5"
    return _answer(status, str(error), headers)


def _on_http_exception(_: AnyRequest, error: HTTPException) -> Response[ErrorBody]:
    if error.status_code >= 500:
        return _internal(error)
    sentence = _validation_sentence(error) or _SENTENCES.get(error.status_code) or error.detail
    return _answer(error.status_code, sentence, dict(error.headers or {}))


def _on_any_other(_: AnyRequest, error: Exception) -> Response[ErrorBody]:
    if is_unavailable(error):
        return _database_fails(unavailable(error))
    if is_timeout(error):
        sparing.log(logging.ERROR, f"PostgreSQL did not finish a request in time: {error}")
        return _answer(503, _DATABASE_BUSY, {"Retry-After": "5"})
    return _internal(error)


def _database_fails(error: DatabaseUnavailableError) -> Response[ErrorBody]:
    # Its own sentence names hosts, and is for the operator.
    sparing.log(logging.ERROR, str(error))
    if isinstance(error, DatabaseFullError):
        sentence = _DATABASE_FULL
    elif isinstance(error, DatabaseBusyError):
        sentence = _DATABASE_BUSY
    else:
        sentence = _DATABASE_UNAVAILABLE
    return _answer(503, sentence, {"Retry-After": "5"})


def _internal(error: Exception) -> Response[ErrorBody]:
    logger.error("a request failed: %s", type(error).__name__, exc_info=error)
    return _answer(500, "Internal server error")


def _validation_sentence(error: HTTPException) -> str | None:
    """The faults that Litestar lists beside a validation error, each with its field."""
    faults = error.extra if isinstance(error.extra, list) else []
    return "; ".join(_fault_sentence(fault) for fault in faults if isinstance(fault, dict)) or None


def _fault_sentence(fault: dict[str, Any]) -> str:
    key, message = fault.get("key"), str(fault.get("message"))
    # Where an argument did not come at all, Litestar hands on what its look-up raised: the name in quotes.
    if key and message == repr(key):
        return "The body is missing" if key == "data" else f"{key} is missing"
    return f"{key}: {message}" if key else message


exception_handlers: ExceptionHandlersMap = {
    RealtimeError: _on_own_error,
    HTTPException: _on_http_exception,
    Exception: _on_any_other,
}
"""What an application is to be built with."""
