"""The folder of the application's Unix socket, and those that killed servers left behind.

Whoever reaches the socket is believed every header, so only we may enter the folder. It is locked while it is in use,
and such a lock ends with its process, however that ends (flock(2)): a folder that is not locked is nobody's any more.
"""

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import Final

from jasaweb_rt.exceptions import RealtimeError

__all__ = ["SocketFolder"]

_PREFIX: Final = "jasaweb-rt-app-"
_SOCKET_NAME: Final = "app.sock"
_SOCKET_PATH_LIMIT: Final = 103  # bytes of sockaddr_un without its end: 107 on Linux, 103 on macOS
# A folder that is younger may not be locked yet.
_LEFT_SECONDS: Final = 60.0


class SocketFolder:
    """A new folder whose name leaves room for the socket's; those of our user that are nobody's are removed."""

    def __init__(self) -> None:
        """Makes it. RealtimeError: every temporary folder has too long a name."""
        parent = _short_parent()
        self._path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        self._lock = _lock(self._path)
        _remove_leftovers(parent)

    @property
    def socket(self) -> Path:
        """Where the socket is to be bound."""
        return self._path / _SOCKET_NAME

    def remove(self) -> None:
        """Removes the folder with what is in it. May be called again, and while the socket is in use."""
        shutil.rmtree(self._path, ignore_errors=True)
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _short_parent() -> str:
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108  # mkdtemp makes it private
        # As long as the names that mkdtemp makes.
        if len(os.fsencode(Path(parent) / f"{_PREFIX}12345678" / _SOCKET_NAME)) <= _SOCKET_PATH_LIMIT:
            return parent
    raise RealtimeError("The name of every temporary folder is too long for a Unix socket; set TMPDIR to a shorter one")


def _lock(path: Path) -> int | None:
    """The descriptor that holds the folder's lock; None where the file system has no locks."""
    folder = _opened(path)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
    except OSError:
        os.close(folder)
        return None
    return folder


def _remove_leftovers(parent: str) -> None:
    """Removes folders of ours that nobody has locked: empty, or with a socket in them on which nobody listens."""
    before = time.time() - _LEFT_SECONDS
    for path in Path(parent).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            folder = _opened(path)
            try:
                status = os.fstat(folder)
                if status.st_uid == os.geteuid() and status.st_mtime < before:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove_dead(path / _SOCKET_NAME)
                    path.rmdir()
            finally:
                os.close(folder)


def _remove_dead(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            if path.is_socket():
                path.unlink()


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
