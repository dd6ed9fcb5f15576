"""Where an application listens that runs apart from its gateway, so that its successor may begin before it ends.

A Unix socket is made under a name beside the one that is configured, and put in its place once requests are answered:
whoever connects reaches the old one or the new one, and never neither. The old one goes on with what it has. A TCP port
is shared (`SO_REUSEPORT`), so that both are asked until one of them ends.
"""

import contextlib
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from jasaweb_rt import config_role
from jasaweb_rt.exceptions import ConfigurationError

__all__ = ["AppListener", "check_socket_folder"]

_NAME = "JASAWEB_RT_APP_URL"
_SOCKET_MODE = 0o660


class AppListener:
    """The socket of one application: serve inside `bound`, then `publish`."""

    def __init__(self, url: str) -> None:
        """`url` as `Settings.app_address` has it."""
        self._url = url
        self._path = Path(url.removeprefix(config_role.UNIX))
        self._bound_as: Path | None = None

    @contextlib.contextmanager
    def bound(self) -> Iterator[socket.socket]:
        """A socket that is bound and does not listen yet, under a name that nobody asks for where it is a Unix one.

        Raises:
            ConfigurationError: the address cannot be had, or the socket's folder is not safe.
        """
        address = config_role.host_and_port(self._url)
        try:
            listener = self._bind_unix() if address is None else _bind_tcp(*address)
        except OSError as error:
            raise self._refusal(error) from None
        try:
            with listener:
                yield listener
        finally:
            if self._bound_as is not None:
                # Where it was not put in place. The name of one that was stays, as it may be the successor's by now.
                self._bound_as.unlink(missing_ok=True)

    def publish(self) -> None:
        """Puts a Unix socket in place, whatever was there before; who connects from now on reaches it.

        Raises:
            ConfigurationError: that name is taken by what is no socket, or may not be written.
        """
        if self._bound_as is None:
            return
        try:
            self._bound_as.rename(self._path)
        except OSError as error:
            raise self._refusal(error) from None
        self._bound_as = None

    def _refusal(self, error: OSError) -> ConfigurationError:
        # A name that is not found has a number of its own, below 0.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error
        return ConfigurationError(f"Cannot listen on {self._url} ({reason}); choose another address by {_NAME}")

    def _bind_unix(self) -> socket.socket:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_socket_folder(self._url)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise ConfigurationError(
                    f"{_NAME} names {self._path}, which is no socket; remove it, or choose another"
                )
        # Not a process id: in containers that share the folder all may have the same.
        name = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(name))
            self._bound_as = name
            # Nobody can connect to what does not listen yet.
            name.chmod(_SOCKET_MODE)
            with contextlib.suppress(PermissionError):
                # A gateway of another user comes in by the folder's group.
                os.chown(name, -1, name.parent.stat().st_gid)
        except OSError:
            listener.close()
            raise
        return listener


def check_socket_folder(url: str) -> None:
    """Refuses a Unix socket in a folder that anybody may write to.

    Others could put a socket of their own there, and be told every request. A folder that does not exist yet passes.

    Raises:
        ConfigurationError: with the mend.
    """
    if not url.startswith(config_role.UNIX):
        return
    folder = Path(url.removeprefix(config_role.UNIX)).parent
    with contextlib.suppress(FileNotFoundError):
        if folder.stat().st_mode & stat.S_IWOTH:
            raise ConfigurationError(
                f"{_NAME} names a socket in {folder}, where anybody may put one; use a folder that is yours alone, "
                "such as /run/jasaweb-rt"
            )


def _bind_tcp(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
