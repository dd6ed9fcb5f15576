"""The folder of the application's socket: its life, and what killed servers left behind."""

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jasaweb_rt.exceptions import RealtimeError
from jasaweb_rt.socket_folder import SocketFolder

# Binds the socket and stays; the path is told once it does.
_SERVER = """
import socket, sys, time
from jasaweb_rt.socket_folder import SocketFolder
folder = SocketFolder()
listener = socket.socket(socket.AF_UNIX)
listener.bind(str(folder.socket))
print(folder.socket, flush=True)
time.sleep(600)
"""


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder that nobody else uses. pytest's own have long names."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        monkeypatch.setattr(tempfile, "tempdir", path)
        yield Path(path)


def grow_old(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (0, 0))


def folders(parent: Path) -> set[str]:
    return {path.name for path in parent.iterdir()}


def test_only_we_may_enter_it_and_it_goes_with_what_is_in_it(parent: Path) -> None:
    folder = SocketFolder()
    assert stat.S_IMODE(folder.socket.parent.stat().st_mode) == 0o700
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder.socket))
        folder.remove()
    folder.remove()
    assert folders(parent) == set()


def test_what_a_killed_server_left_is_removed_and_a_living_ones_is_not(parent: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(parent)}
    ) as server:
        try:
            assert server.stdout is not None
            path = Path(server.stdout.readline().strip())
            assert path.is_socket()
            grow_old(path.parent)
            SocketFolder().remove()
            assert path.is_socket()
            server.send_signal(signal.SIGKILL)
            server.wait(30)
        finally:
            server.kill()
    grow_old(path.parent)
    SocketFolder().remove()
    assert folders(parent) == set()


def test_what_is_not_ours_or_in_use_or_young_stays(parent: Path) -> None:
    elsewhere = parent / "elsewhere"
    (elsewhere / "inside").mkdir(parents=True)
    (parent / "jasaweb-rt-app-link").symlink_to(elsewhere)
    (parent / "jasaweb-rt-app-file").touch()
    kept = parent / "jasaweb-rt-app-kept"
    kept.mkdir()
    (kept / "app.sock").write_text("no socket")
    empty, young = parent / "jasaweb-rt-app-empty", parent / "jasaweb-rt-app-young"
    heard = parent / "jasaweb-rt-app-heard"
    for folder in (empty, young, heard):
        folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(heard / "app.sock"))
        listener.listen()
        before = folders(parent)
        grow_old(kept, empty, heard)
        SocketFolder().remove()
        assert folders(parent) == before - {empty.name}
    assert (elsewhere / "inside").is_dir()
    assert (kept / "app.sock").read_text() == "no socket"


def test_a_temporary_folder_with_a_long_name_is_passed_over(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = parent / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    folder = SocketFolder()
    assert folder.socket.parent.parent == Path("/tmp")
    folder.remove()
    monkeypatch.setattr("jasaweb_rt.socket_folder._PREFIX", "x" * 100)
    with pytest.raises(RealtimeError, match="set TMPDIR"):
        SocketFolder()
