"""The settings: whether they can be used, and whether a server that has them can be reached as is meant."""

import ipaddress
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from jasaweb_rt import config_source
from jasaweb_rt.config import PREFIX, Settings, load_settings
from jasaweb_rt.core_settings import open_core
from jasaweb_rt.doctor.findings import Finding, Verdict
from jasaweb_rt.exceptions import ConfigurationError

__all__ = ["Configuration", "is_loopback", "look"]

_SECRET_OF_SESSIONS: Final = (f"{PREFIX}JWT_SECRET", f"{PREFIX}JWT_SECRET_FILE")
_FILES: Final = ("JWT_SECRET_FILE", "TOKEN_SECRET_FILE", "TOKEN_SECRET_PREVIOUS_FILE", "TLS_KEY", "NATS_CREDENTIALS")


class Configuration(msgspec.Struct, frozen=True):
    """What the settings are, as far as they can be used, and what was found."""

    settings: Settings | None
    """None: nothing could be read."""
    refused: frozenset[str]
    """Variables that cannot be used; `settings` has the default for each."""
    findings: list[Finding]


def look(environ: Mapping[str, str] = os.environ, dotenv: Path = Path(".env")) -> Configuration:
    """Reads the settings as a server does, but goes on behind the first error and makes no secret."""
    findings: list[Finding] = []
    try:
        given = config_source.given(environ, dotenv)
    except ConfigurationError as error:
        return Configuration(None, frozenset(), [_finding("wrong", _sentence(error))])
    if not any(given.get(name) for name in _SECRET_OF_SESSIONS):
        findings.append(
            _finding(
                "advice",
                f"neither {' nor '.join(_SECRET_OF_SESSIONS)} is set, so a server makes its own; set the site's, or no "
                "session of the site is accepted",
            )
        )
        given[_SECRET_OF_SESSIONS[0]] = secrets.token_hex(32)
    refused: set[str] = set()
    settings = None
    while settings is None:
        try:
            settings = load_settings(given, None)
        except ConfigurationError as error:
            findings.append(_finding("wrong", _sentence(error)))
            variable = str(error).split()[0]
            if given.pop(variable, None) is None:
                return Configuration(None, frozenset(refused), findings)
            refused.add(variable)
            if variable in _SECRET_OF_SESSIONS and not any(given.get(name) for name in _SECRET_OF_SESSIONS):
                given[_SECRET_OF_SESSIONS[0]] = secrets.token_hex(32)
    if settings.role == "app":
        findings.append(_finding("ok", f"an application, to which gateways come at {settings.app_address}"))
    else:
        refusals = list(_use(settings))
        findings += refusals or _exposure(settings)
    findings += _readable_secrets(given, dotenv)
    if all(finding.verdict != "wrong" for finding in findings):
        findings.insert(0, _finding("ok", "every setting is known and can be used"))
    return Configuration(settings, frozenset(refused), findings)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`, an IP address or `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _use(settings: Settings) -> Iterator[Finding]:
    """What the core refuses: limits that do not go together, TLS files that do not fit."""
    try:
        open_core(settings, None)
    except ConfigurationError as error:
        yield _finding("wrong", _sentence(error))


def _exposure(settings: Settings) -> Iterator[Finding]:
    """Who can reach the server, and how what they say travels."""
    is_local = is_loopback(settings.host)
    is_tls_required = not is_local if settings.require_tls is None else settings.require_tls
    is_encrypted_by = "a trusted proxy" if settings.trusted_proxies else "us" if settings.tls_cert else None
    if is_encrypted_by is None and is_tls_required:
        yield _finding(
            "wrong",
            f"on {settings.host} every WebSocket is refused by 403, for TLS is required and can come neither from us "
            f"nor from a proxy; set {PREFIX}TLS_CERT and {PREFIX}TLS_KEY, or name the proxy in {PREFIX}TRUSTED_PROXIES",
        )
    elif is_encrypted_by is None and not is_local:
        yield _finding(
            "advice",
            f"{PREFIX}REQUIRE_TLS is off and {settings.host} can be reached from outside, so tokens and sessions "
            f"travel in the clear; set {PREFIX}TLS_CERT and {PREFIX}TLS_KEY, or put a proxy with TLS before it",
        )
    else:
        how = f"TLS by {is_encrypted_by}" if is_encrypted_by else "this machine alone can reach it"
        yield _finding("ok", f"{settings.host}: {how}")
    yield from _public_url(settings)
    for network in settings.trusted_proxies:
        if ipaddress.ip_network(network).prefixlen == 0:
            yield _finding(
                "advice",
                f"{PREFIX}TRUSTED_PROXIES trusts everybody ({network}), who can then claim any address; name the "
                "networks that the proxies are in",
            )
    if "*" in settings.allowed_origins:
        yield _finding(
            "advice",
            f"{PREFIX}ALLOWED_ORIGINS is *, so a page of any site may open sockets with a token that it has; name the "
            "origins of your pages",
        )


def _public_url(settings: Settings) -> Iterator[Finding]:
    if settings.public_url is None or settings.trusted_proxies:
        return
    scheme = urlsplit(settings.public_url).scheme
    if scheme == "https" and settings.tls_cert is None:
        yield _finding(
            "wrong",
            f"{PREFIX}PUBLIC_URL says https, which a proxy must speak, and none is trusted: all clients count as one "
            f"address, and as unencrypted; name the proxy in {PREFIX}TRUSTED_PROXIES",
        )
    elif scheme == "http" and settings.tls_cert is not None:
        yield _finding(
            "wrong",
            f"{PREFIX}PUBLIC_URL says http, and the port speaks TLS alone, so no client can use the connectionUrl that "
            "is built from it; write https",
        )


def _readable_secrets(given: Mapping[str, str], dotenv: Path) -> Iterator[Finding]:
    """Files with secrets that everybody on this machine may read."""
    files = {given.get(PREFIX + name) for name in _FILES} - {None, ""}
    for path in sorted({Path(file) for file in files if file} | {dotenv}):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if mode & stat.S_IROTH and stat.S_ISREG(mode):
            yield _finding("advice", f"everybody on this machine can read {path}; chmod o= {path}")


def _finding(verdict: Verdict, text: str) -> Finding:
    return Finding(verdict, "configuration", text)


def _sentence(error: Exception) -> str:
    return str(error).rstrip(".")
