"""What a process may be told of its part in a server, and where a gateway and its app meet."""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from jasaweb_rt import config_source
from jasaweb_rt.exceptions import ConfigurationError

if TYPE_CHECKING:
    from jasaweb_rt.config import Settings

__all__ = ["UNIX", "app_url", "check", "host_and_port", "is_loopback", "socket_in"]

UNIX = "unix:"
_NAME = "JASAWEB_RT_APP_URL"
# 107 bytes of sockaddr_un on Linux and 103 on macOS, less what `app_listener` puts behind it at first.
_PATH_LIMIT = 94
_DEFAULT_NAME = "app.sock"


def app_url(name: str, text: str) -> str:
    """Accepts `unix:/path/to/socket` or `http://host:port`, and gives the latter without a slash at its end."""
    if text.startswith(UNIX):
        return UNIX + _socket_path(name, text.removeprefix(UNIX))
    parts = config_source.split(name, text)
    is_plain = parts.path in {"", "/"} and not (parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme != "http" or not parts.hostname or not parts.port or not is_plain:
        raise ConfigurationError(
            f"{name} must be unix:/path/to/socket or http://host:port, without user and path, as in http://10.0.0.7:8001."
        )
    return text.rstrip("/")


def host_and_port(url: str) -> tuple[str, int] | None:
    """Host and port of an `app_url` that is of TCP; None: it is of a Unix socket."""
    if url.startswith(UNIX):
        return None
    parts = config_source.split(_NAME, url)
    return parts.hostname or "", parts.port or 0


def socket_in(data_dir: Path) -> str:
    """The URL where gateway and app of one folder meet, if none is configured.

    Raises:
        ConfigurationError: the folder's name leaves no room for a socket's.
    """
    return UNIX + _socket_path(_NAME, str(data_dir.resolve() / _DEFAULT_NAME))


def check(settings: "Settings", texts: Mapping[str, str]) -> None:
    """Refuses settings that go with another role. `texts`: what is configured, by field.

    Raises:
        ConfigurationError: with the name of the variable and the mend.
    """
    if settings.role == "all" and settings.app_url is not None:
        raise ConfigurationError(
            f"{_NAME} is where a gateway and an app meet, and role 'all' is both; unset it, or set JASAWEB_RT_ROLE to "
            "'gateway' or 'app'."
        )
    if settings.role != "app":
        return
    for field in ("host", "port"):
        if field in texts:
            raise ConfigurationError(
                f"{config_source.variable(field)} is of the front door, which role 'app' has none of; unset it, and "
                f"say by {_NAME} where the app listens."
            )
    address = settings.app_url and host_and_port(settings.app_url)
    if address and not is_loopback(address[0]) and not settings.trusted_proxies:
        raise ConfigurationError(
            f"{_NAME} is {settings.app_url}, which others may reach; name the networks of the gateways by "
            "JASAWEB_RT_TRUSTED_PROXIES, since what they say of a client is believed."
        )


def _socket_path(name: str, path: str) -> str:
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ConfigurationError(f"{name} is {UNIX + path!r}, but wants the whole path of a socket after {UNIX}.")
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise ConfigurationError(
            f"{name} names a socket with a path of {len(os.fsencode(path))} bytes, and the system allows {_PATH_LIMIT} "
            f"of them; set it to a shorter one, such as {UNIX}/run/jasaweb-rt/app.sock."
        )
    return path


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
