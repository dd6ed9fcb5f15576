"""What is put under load: a server that is named by its URL, or a core that we start; and who publishes there."""

import contextlib
import http.client
import ipaddress
import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from jasaweb_rt.exceptions import ConfigurationError, RealtimeError

__all__ = ["Publish", "Target", "admin_publisher", "named_target", "own_server"]

_STOP_SECONDS = 10.0
_HTTP_SECONDS = 10.0

Publish = Callable[[float, int, int], None]
"""Sends messages that name their moment to everyone: how many a second, how many, of how many bytes."""


class TargetError(RealtimeError):
    """The server under load cannot be reached, or does not do what it was told; the message says what to look at."""


@dataclass(frozen=True)
class Target:
    """Where the clients connect."""

    address: tuple[str, int]
    """An IP address and a port."""
    host: str
    """What the `Host` header says."""
    path: str
    """Path and query of the WebSocket."""

    def request(self, token: str) -> bytes:
        """The upgrade request of one client."""
        return (
            f"GET {self.path} HTTP/1.1\r\nHost: {self.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Authorization: Bearer {token}\r\n\r\n"
        ).encode()


def named_target(url: str) -> Target:
    """The server at a `ws://` URL.

    Raises:
        ConfigurationError: it is no such URL.
        TargetError: its host has no address.
    """
    parts = _split(url)
    host, port = parts.hostname or "", parts.port or 80
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise TargetError(f"{host} has no address: {error.strerror or error}") from None
        address = str(found[0][4][0])
    path = (parts.path or "/ws") + (f"?{parts.query}" if parts.query else "")
    return Target((address, port), parts.netloc.rpartition("@")[2], path)


@contextlib.contextmanager
def own_server(workers: int | None) -> Iterator[tuple[Target, str, Publish]]:
    """A server core in a process of its own, for as long as the block: where it is, its token secret, its publisher.

    Raises:
        TargetError: it did not start.
    """
    secret = secrets.token_hex()
    process = subprocess.Popen(
        [sys.executable, "-m", "jasaweb_rt.bench.own_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def order(line: str, word: str) -> str:
        try:
            process.stdin.write(line + "\n")  # type: ignore[union-attr]  # it has pipes
            process.stdin.flush()  # type: ignore[union-attr]
            said = process.stdout.readline()  # type: ignore[union-attr]
        except BrokenPipeError:
            said = ""
        if not said.startswith(f"{word} "):
            raise TargetError("The server that was started for the load has ended; its reason stands above")
        return said.removeprefix(f"{word} ").strip()

    def publish(rate: float, count: int, size: int) -> None:
        order(f"publish {rate} {count} {size}", "published")

    try:
        port = int(order(json.dumps({"token_secret": secret, "workers": workers}), "port"))
        yield Target(("127.0.0.1", port), f"127.0.0.1:{port}", "/ws"), secret, publish
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def admin_publisher(target: Target, session: str) -> Publish:
    """Publishes through the broadcast route of a whole server, as the administrator of that session JWT.

    Nothing is stored: the messages go to who is connected.
    """
    headers = {"Authorization": f"Bearer {session}", "Content-Type": "application/json", "Host": target.host}

    def publish(rate: float, count: int, size: int) -> None:
        connection = http.client.HTTPConnection(*target.address, timeout=_HTTP_SECONDS)
        try:
            began = time.monotonic()
            for number in range(count):
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
                _broadcast(connection, headers, size)
        except OSError as error:
            raise TargetError(f"The server does not take broadcasts: {error}") from None
        finally:
            connection.close()

    return publish


def _broadcast(connection: http.client.HTTPConnection, headers: dict[str, str], size: int) -> None:
    body = {
        "audience": "all",
        "type": "system_announcement",
        "title": "Load",
        "message": "jasaweb-rt bench",
        "data": {"stamp": time.monotonic_ns(), "pad": "x" * max(0, size - _OTHER_BYTES)},
        "durable": False,
    }
    connection.request("POST", "/api/admin/websocket/broadcast", json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace")
    if answer.status != 200:
        raise TargetError(f"The server refused a broadcast with {answer.status}: {text}")


# Of such a frame, without its padding.
_OTHER_BYTES = 220


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme == "wss":
        raise ConfigurationError(
            "The clients speak no TLS; name the server behind the proxy, as in ws://10.0.0.5:8000/ws"
        )
    if parts.scheme != "ws" or not parts.hostname:
        raise ConfigurationError(f"{url} is not the URL of a WebSocket, as in ws://127.0.0.1:8000/ws")
    return parts
