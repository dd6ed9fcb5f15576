"""What systemd is told, and that nothing comes of it where it does not listen."""

import socket
from pathlib import Path

import pytest

from jasaweb_rt.supervisor import READY, STOPPING, tell_supervisor


@pytest.mark.parametrize("abstract", [False, True])
def test_both_kinds_of_socket_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"@{tmp_path}/notify" if abstract else f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind("\0" + name[1:] if abstract else name)
        supervisor.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        for state in (READY, STOPPING):
            tell_supervisor(state)
            assert supervisor.recv(100) == state.encode()


@pytest.mark.parametrize("name", ["", "vsock:2:1234", "/nowhere/notify"])
def test_where_nobody_listens_nothing_happens(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    tell_supervisor(READY)
