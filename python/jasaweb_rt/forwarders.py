"""Who is believed to tell from where a request truly came: the front door before an application, and nobody else."""

import ipaddress
from collections.abc import Sequence

from litestar.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

__all__ = ["behind_front_door", "behind_gateways"]

_LOOPBACK = ("127.0.0.0/8", "::1/128")
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_REFUSAL = (
    b'{"success":false,"error":"Only a gateway may ask this of an application; '
    b'JASAWEB_RT_TRUSTED_PROXIES names their networks"}'
)


def behind_front_door(app: ASGIApp) -> ASGIApp:
    """Takes client and scheme from the headers of whoever asks: only the front door can, and it writes one true set."""
    return ProxyHeadersMiddleware(app, trusted_hosts="*")  # type: ignore[arg-type,return-value]  # the same protocol


def behind_gateways(app: ASGIApp, networks: Sequence[str]) -> ASGIApp:
    """The same on a port that others may reach, too.

    Who does not come from `networks` (none: loopback) is asked for nothing but probes, and none of their headers tells
    who they are. So nobody gets past the limits of a front door.
    """
    gateways = [ipaddress.ip_network(network) for network in networks or _LOOPBACK]
    believing = behind_front_door(app)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if _comes_from(scope, gateways):
            await believing(scope, receive, send)
        elif scope["path"] in _PROBES:
            headers = [(name, value) for name, value in scope["headers"] if not _tells_of_client(name)]
            if len(headers) < len(list(scope["headers"])):
                # As a front door says it: whoever that was, it is not the peer itself.
                headers.append((b"x-forwarded-untrusted", b"1"))
            await app({**scope, "headers": headers}, receive, send)  # type: ignore[arg-type]  # the same scope
        else:
            await _refuse(send)

    return answer


def _comes_from(scope: Scope, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    client = scope.get("client")
    if client is None:
        return False
    address = ipaddress.ip_address(client[0])
    # A listener on `::` sees IPv4 in IPv6 (RFC 4291 section 2.5.5.2).
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)


def _tells_of_client(name: bytes) -> bool:
    return name.startswith(b"x-forwarded-") or name in {b"forwarded", b"x-real-ip"}


async def _refuse(send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_REFUSAL)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSAL, "more_body": False})
