"""What a request may not have although the routes would not mind: read before a route looks at anything.

A body is JSON under its own name and as `strict_json` has it; a query has no name that the route does not know, none
twice, and nothing that is no text.
"""

from functools import cache
from typing import Any, cast
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from jasaweb_rt import strict_json
from jasaweb_rt.exceptions import InvalidInputError

__all__ = ["StrictRequest", "must_ask_what_is_known", "strict"]

AnyRequest = Request[Any, Any, Any]
Connection = ASGIConnection[Any, Any, Any, Any]

_JSON = "application/json"
_MAX_PARAMETERS = 100


class _StrictBody(Request[Any, Any, Any]):
    """Reads a body as JSON only where it is called so, and is read alike by every program."""

    async def json(self) -> Any:  # noqa: ANN401  # any JSON
        """The body, decoded to what the route takes.

        Raises:
            HTTPException: 415, it is not called JSON, or in another encoding than UTF-8 (RFC 8259 section 8.1).
            InvalidInputError: `strict_json` refuses it, or it breaks a rule of its type; the sentence names the field.
        """
        kind, parameters = self.content_type
        if kind != _JSON or parameters.get("charset", "utf-8").lower() != "utf-8":
            raise HTTPException(status_code=415, detail="The Content-Type must be application/json, in UTF-8")
        body = await self.body()
        strict_json.check(body)
        field = self.route_handler.parsed_data_field
        # By its very type: Litestar would take 0 for false, and "5" for 5.
        try:
            return msgspec.json.decode(body, type=Any if field is None else field.annotation)
        except msgspec.ValidationError as error:
            raise InvalidInputError(_sentence(str(error))) from None


def _sentence(error: str) -> str:
    """The sentence of msgspec, with the field before it."""
    fault, _, path = error.rpartition(" - at `$")
    return f"{path[:-1].removeprefix('.')}: {fault}" if fault else error


class StrictRequest(_StrictBody):
    """The request class of the application."""


def strict(request_class: type[AnyRequest] | None) -> type[AnyRequest]:
    """`request_class`, which an application has chosen for its routes, with a body that is read as above."""
    if request_class is None or request_class is Request:
        return StrictRequest
    return cast("type[AnyRequest]", type(request_class.__name__, (_StrictBody, request_class), {}))


def must_ask_what_is_known(connection: Connection, handler: BaseRouteHandler) -> None:
    """Lets a query pass in which each name is a parameter of the route and stands once, and each value is text.

    A guard. Routes with `any_query` in their options are not looked at.

    Raises:
        InvalidInputError: with the name of the parameter.
    """
    query = connection.scope["query_string"]
    if not query or handler.opt.get("any_query"):
        return
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
        )
    except UnicodeDecodeError:
        raise InvalidInputError("The query is not URL-encoded UTF-8") from None
    except ValueError:
        raise InvalidInputError(f"The query has more than {_MAX_PARAMETERS} parameters") from None
    known, seen = _parameters(handler), set[str]()
    for name, value in pairs:
        called = strict_json.quoted(name)
        if name not in known:
            raise InvalidInputError(f"The query has a parameter {called}, which is not known here")
        if name in seen:
            raise InvalidInputError(f"The query has the parameter {called} twice")
        if "\x00" in value:
            raise InvalidInputError(f"{called} has a NUL character, which PostgreSQL does not keep")
        seen.add(name)


@cache
def _parameters(handler: BaseRouteHandler) -> frozenset[str]:
    declared = handler.parsed_fn_signature.parameters.items()
    return frozenset(
        field.kwarg_definition.name or name
        for name, field in declared
        if isinstance(field.kwarg_definition, QueryParameter)
    )
