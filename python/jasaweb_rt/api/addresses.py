"""Where a request comes from, and what the outside calls this server.

Only the front door reaches the app, and it writes one true set of `X-Forwarded-*`: see `rust_core/src/forwarding.rs`.
"""

import ipaddress
import re
from typing import Any

from litestar.connection import ASGIConnection

from jasaweb_rt.config import Settings
from jasaweb_rt.exceptions import InvalidInputError

__all__ = ["connection_url", "is_from_metrics_network", "is_own_origin", "is_secure", "server_url", "url_beside"]

Connection = ASGIConnection[Any, Any, Any, Any]

# RFC 9110 section 7.2; checked, since it is put into headers and answers.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")


def server_url(connection: Connection, settings: Settings) -> str:
    """Scheme, host and path prefix under which the client reached this server, without a slash at the end.

    Raises:
        InvalidInputError: the `Host` header is missing or is no host.
    """
    if settings.public_url:
        return settings.public_url
    host = connection.headers.get("x-forwarded-host") or connection.headers.get("host") or ""
    if not _HOST.fullmatch(host):
        raise InvalidInputError("The Host header is not valid")
    return f"{connection.scope['scheme']}://{host}"


def connection_url(connection: Connection, settings: Settings) -> str:
    """The `ws:` or `wss:` URL of the WebSocket."""
    return f"{server_url(connection, settings).replace('http', 'ws', 1)}/ws"


def url_beside(connection: Connection, settings: Settings, port: int) -> str:
    """The `ws:` or `wss:` URL of a WebSocket that has a `port` of its own beside an application's.

    No front door stands before that application, so of the headers only `Host` is looked at.

    Raises:
        InvalidInputError: the `Host` header is missing or is no host.
    """
    if settings.public_url:
        return connection_url(connection, settings)
    host = _HOST.fullmatch(connection.headers.get("host") or "")
    if host is None:
        raise InvalidInputError("The Host header is not valid")
    is_encrypted = settings.tls_cert is not None or connection.scope["scheme"] == "https"
    return f"{'wss' if is_encrypted else 'ws'}://{host[1]}:{port}/ws"


def is_secure(connection: Connection, settings: Settings) -> bool:
    """Whether cookies are for https alone: the client came that way, or is to by the configured address."""
    return connection.scope["scheme"] == "https" or (settings.public_url or "").startswith("https://")


def is_own_origin(connection: Connection, settings: Settings) -> bool:
    """Whether `Origin` names this server or one that the settings allow by name (`*` names none)."""
    origin = connection.headers.get("origin", "").lower()
    scheme, _, rest = server_url(connection, settings).lower().partition("://")
    return origin == f"{scheme}://{_without_default_port(scheme, rest.partition('/')[0])}" or (
        origin != "*" and origin in settings.allowed_origins
    )


def is_from_metrics_network(connection: Connection, settings: Settings) -> bool:
    """Whether the client's true address may see the measures and the details of readiness.

    Where somebody who is not trusted claims to forward, the true address is not known, and so counts as outside.
    """
    if connection.client is None or "x-forwarded-untrusted" in connection.headers:
        return False
    try:
        address = ipaddress.ip_address(connection.client.host)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(network) for network in settings.metrics_networks)


def _without_default_port(scheme: str, host: str) -> str:
    # A browser leaves the scheme's own port out of an origin (RFC 6454 section 6.2).
    return host.removesuffix(":443" if scheme == "https" else ":80")
