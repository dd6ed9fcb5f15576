"""The public port: free, or already that of a server of ours."""

import contextlib
import errno
import http.client
import socket
import ssl
from collections.abc import Iterator
from typing import Final

import msgspec

from jasaweb_rt.config import PREFIX, Settings
from jasaweb_rt.doctor.findings import Finding, Verdict

__all__ = ["look"]

_ANSWER_SECONDS: Final = 5.0
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # what is looked up, not bound


class _Readiness(msgspec.Struct):
    """As much of the answer of `/readyz` as tells a server of ours from another, and how it fares."""

    success: bool
    checks: dict[str, str | bool] = {}  # a default that msgspec copies


def look(settings: Settings) -> Iterator[Finding]:
    """Tries to listen where a server with these settings would."""
    host = "127.0.0.1" if settings.host == "localhost" else settings.host
    where = f"{settings.host} port {settings.port}"
    try:
        with socket.create_server((host, settings.port), family=_family(host)):
            pass
    except OSError as error:
        yield _refused(settings, host, where, error)
    else:
        yield _finding("ok", f"{where} is free" if settings.port else "a free one is taken at each start")


def _refused(settings: Settings, host: str, where: str, error: OSError) -> Finding:
    if error.errno == errno.EADDRINUSE:
        return _taken(settings, host, where)
    if error.errno == errno.EACCES:
        return _finding(
            "wrong",
            f"{where} is for privileged programs; choose one above 1023, or give the service "
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return _finding("wrong", f"{settings.host} is no address of this machine; set {PREFIX}HOST to one, or 0.0.0.0")
    return _finding("wrong", f"nothing can listen on {where} ({error.strerror}); choose another {PREFIX}HOST")


def _taken(settings: Settings, host: str, where: str) -> Finding:
    readiness = _ask(settings, _EVERYWHERE.get(host, host))
    if readiness is None:
        return _finding(
            "wrong", f"{where} is taken by another program; stop that, or choose another {PREFIX}PORT (ss -ltnp)"
        )
    failed = sorted(name for name, state in readiness.checks.items() if state in ("failed", True))
    if not readiness.success:
        what = f": {', '.join(failed)}" if failed else ""
        return _finding("wrong", f"{where} is served by a jasaweb-rt that is not ready{what}; docs/faults.md says more")
    return _finding("ok", f"{where} is served by a jasaweb-rt that is ready")


def _ask(settings: Settings, host: str) -> _Readiness | None:
    """What `/readyz` answers on the port; None: nothing that a server of ours would."""
    connection: http.client.HTTPConnection
    if settings.tls_cert is None:
        connection = http.client.HTTPConnection(host, settings.port, timeout=_ANSWER_SECONDS)
    else:
        # Who it is does not matter here, and the name in its certificate is not the one that we use.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, settings.port, timeout=_ANSWER_SECONDS, context=context)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/readyz")
            return msgspec.json.decode(connection.getresponse().read(65536), type=_Readiness)
        except (OSError, http.client.HTTPException, msgspec.DecodeError):
            return None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _finding(verdict: Verdict, text: str) -> Finding:
    return Finding(verdict, "port", text)
