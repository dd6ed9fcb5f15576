"""Where an application listens: its successor takes over without a moment between the two."""

import contextlib
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from jasaweb_rt.app_listener import AppListener, check_socket_folder
from jasaweb_rt.exceptions import ConfigurationError
from tests.support.ports import free_port
from tests.support.program import names

SECONDS = 20.0


@contextlib.contextmanager
def serving(url: str) -> Iterator[socket.socket]:
    """An application that is in place."""
    listener = AppListener(url)
    with listener.bound() as bound:
        bound.listen()
        bound.settimeout(SECONDS)
        listener.publish()
        yield bound


@contextlib.contextmanager
def asking(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SECONDS)
        client.connect(str(path))
        yield client


def answers(listener: socket.socket, client: socket.socket) -> socket.socket:
    """Whoever connected to `listener` first is `client`; their connection there."""
    connection, _ = listener.accept()
    connection.settimeout(SECONDS)
    client.sendall(b"hello")
    assert connection.recv(5) == b"hello"
    return connection


def test_a_successor_takes_the_place_and_the_predecessor_goes_on_with_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(serving(f"unix:{path}"))
        early = stack.enter_context(asking(path))
        waiting = stack.enter_context(asking(path))
        early_there = stack.enter_context(answers(first, early))
        second = stack.enter_context(serving(f"unix:{path}"))
        late = stack.enter_context(asking(path))
        stack.enter_context(answers(second, late))
        # The one that had connected before, and was not taken in, is still the first one's.
        stack.enter_context(answers(first, waiting))
        early_there.sendall(b"still here")
        assert early.recv(10) == b"still here"
        assert names(tmp_path) == ["app.sock"]


def test_one_that_ends_leaves_the_name_to_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(contextlib.ExitStack())
        first.enter_context(serving(f"unix:{path}"))
        second = stack.enter_context(serving(f"unix:{path}"))
        first.close()
        client = stack.enter_context(asking(path))
        stack.enter_context(answers(second, client))


def test_what_is_not_in_place_yet_is_reached_by_nobody_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "app.sock"
    with AppListener(f"unix:{path}").bound():
        with pytest.raises(FileNotFoundError), asking(path):
            pass
        (name,) = names(path.parent)
        made = (path.parent / name).stat()
        assert stat.S_IMODE(made.st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert names(path.parent) == []


def test_after_the_last_one_nobody_answers(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with serving(f"unix:{path}"):
        pass
    with pytest.raises(ConnectionRefusedError), asking(path):
        pass


def test_a_folder_that_anybody_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    url = f"unix:{tmp_path}/app.sock"
    with pytest.raises(ConfigurationError, match="where anybody may put one; use a folder that is yours alone"):
        check_socket_folder(url)
    with pytest.raises(ConfigurationError, match="where anybody may put one"), AppListener(url).bound():
        pass
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there_yet_passes(tmp_path: Path) -> None:
    check_socket_folder(f"unix:{tmp_path}/none/app.sock")
    check_socket_folder("http://127.0.0.1:1")


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "app.sock").write_text("mine")
    with (
        pytest.raises(ConfigurationError, match="which is no socket; remove it"),
        AppListener(f"unix:{tmp_path}/app.sock").bound(),
    ):
        pass
    assert (tmp_path / "app.sock").read_text() == "mine"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://192.0.2.1:8001", "Cannot listen on http://192.0.2.1:8001 (Cannot assign requested address)"),
        ("http://no.such.host.invalid:8001", "Cannot listen on http://no.such.host.invalid:8001 ("),
        ("unix:/proc/none/app.sock", "Cannot listen on unix:/proc/none/app.sock (No such file or directory)"),
    ],
)
def test_an_address_that_cannot_be_had_is_named(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught, AppListener(url).bound():
        pass
    assert words in str(caught.value)
    assert "choose another address by JASAWEB_RT_APP_URL" in str(caught.value)


def test_a_port_is_shared_with_the_successor() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(contextlib.ExitStack())
        first.enter_context(serving(url))
        second = stack.enter_context(serving(url))
        first.close()
        client = stack.enter_context(socket.create_connection(second.getsockname(), SECONDS))
        stack.enter_context(answers(second, client))
