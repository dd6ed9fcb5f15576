"""Malformed HTTP and smuggled requests end at the front door: what is behind it agrees on every boundary."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from jasaweb_rt._core import FanoutServer
from tests.support.http_backends import Record, strict_backend, uvicorn_backend
from tests.support.http_corpus import CORPUS, LAST, Seen
from tests.support.sockets import WAIT_SECONDS
from tests.support.tokens import SECRET

# Where more is sent than the front door reads or throws away, its answer may be lost to a reset (RFC 9112 section 9.6).
_READ_AT_LEAST = 64 * 1024

_BACKENDS: dict[str, Callable[[Path], AbstractAsyncContextManager[Record]]] = {
    "strict": strict_backend,
    "uvicorn": uvicorn_backend,
}


class _Door:
    """The front door before an application."""

    def __init__(self, server: FanoutServer, record: Record) -> None:
        self.server = server
        self.record = record

    async def answers(self, sent: bytes, *, breaks_off: bool = False, piece: int = 1 << 20) -> list[int]:
        """The status of each answer to what is sent in pieces of so many bytes, up to the end of the connection."""
        return _statuses(await asyncio.to_thread(self._exchange, sent, breaks_off, piece))

    def _exchange(self, sent: bytes, breaks_off: bool, piece: int) -> bytes:
        received = b""
        with socket.create_connection(self.server.address, WAIT_SECONDS) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(ConnectionError):
                for at in range(0, len(sent), piece):
                    client.sendall(sent[at : at + piece])
                if breaks_off:
                    client.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while more := client.recv(65_536):
                    received += more
        return received


def _statuses(received: bytes) -> list[int]:
    """Reads answers by their lengths; what is left over is an error, but behind a 101."""
    statuses = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        assert end, head
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status = first.split(" ")[:2]
        assert version in {"HTTP/1.0", "HTTP/1.1"}
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if int(status) == 100:
            continue
        statuses.append(int(status))
        if int(status) == 101:
            break
        length = int(fields.get("content-length", "0"))
        assert "transfer-encoding" not in fields
        assert len(received) >= length
        received = received[length:]
    return statuses


@pytest.fixture(params=_BACKENDS)
async def door(request: pytest.FixtureRequest) -> AsyncIterator[_Door]:
    """One of them before each of the backends. Its limits are the documented ones, but for those of one address."""
    # A socket's path may be 107 bytes long.
    with TemporaryDirectory() as folder:
        path = Path(folder) / "app"
        async with _BACKENDS[request.param](path) as record:
            server = FanoutServer(
                token_secret=SECRET, app_url=f"unix:{path}", connect_rate_per_ip=0, max_connections_per_ip=0
            )
            server.start()
            try:
                yield _Door(server, record)
            finally:
                await asyncio.to_thread(server.stop, 0)


async def test_every_trick_ends_as_it_should_and_nobody_disagrees(door: _Door) -> None:
    wrong = []
    for case in CORPUS:
        door.record.seen.clear()
        answers = await door.answers(case.sent, breaks_off=case.breaks_off)
        allowed = [list(case.answers)]
        if len(case.sent) > _READ_AT_LEAST:
            allowed.append(list(case.answers[:-1]))
        # The marker's answer comes behind whatever the case had the application see.
        assert await door.answers(LAST) == [200]
        seen = [*case.seen, Seen("GET", "/last")]
        if answers not in allowed or door.record.seen != seen:
            wrong.append((case.name, answers, list(door.record.seen)))
    assert not wrong
    assert not door.record.faults
    assert door.server.stats().panics == 0


async def test_every_trick_is_refused_however_slowly_it_comes(door: _Door) -> None:
    """Cut into single bytes, where a parser that looks at what it has at a time could be misled."""
    cases = [case for case in CORPUS if len(case.sent) <= 400 and "behind it" not in case.name][::4]
    wrong = []
    for case in cases:
        door.record.seen.clear()
        answers = await door.answers(case.sent, breaks_off=case.breaks_off, piece=1)
        assert await door.answers(LAST) == [200]
        allowed = [(list(case.answers), [*case.seen, Seen("GET", "/last")])]
        if "with content" in case.name:
            # It is answered before its content is there, and the rest of that is not waited for but thrown away.
            allowed.append(([400], [Seen("GET", "/last")]))
        if (answers, door.record.seen) not in allowed:
            wrong.append((case.name, answers, list(door.record.seen)))
    assert not wrong
    assert not door.record.faults


_CLAIMS = [
    "Forwarded: for=192.0.2.1;proto=https;host=evil.test",
    "X-Forwarded-For: 192.0.2.1",
    "X-Forwarded-For: 192.0.2.2, 127.0.0.1",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.test",
    "X-Forwarded-Port: 443",
    "X-Forwarded-Prefix: /admin",
    "X-Forwarded-Server: evil.test",
    "X-Forwarded-Ssl: on",
    "X-Forwarded-Untrusted: 0",
    "X-Forwarded: 192.0.2.1",
    "X-Real-IP: 192.0.2.1",
    "X-Client-IP: 192.0.2.1",
    "Client-IP: 192.0.2.1",
    "True-Client-IP: 192.0.2.1",
    "CF-Connecting-IP: 192.0.2.1",
    "CF-Connecting-IPv6: 2001:db8::1",
    "Fastly-Client-IP: 192.0.2.1",
    "X-Cluster-Client-IP: 192.0.2.1",
    "X-Envoy-External-Address: 192.0.2.1",
    "X-Original-Forwarded-For: 192.0.2.1",
    "X-Original-URL: /admin",
    "X-Original-Host: evil.test",
    "X-Rewrite-URL: /admin",
    "X-Host: evil.test",
]


async def test_no_claim_of_a_client_about_itself_reaches_the_application(door: _Door) -> None:
    spellings = [line for claim in _CLAIMS for line in (claim, claim.upper(), _underscored(claim))]
    sent = [[line, line] for line in spellings]
    sent += [[*_CLAIMS[:20]], [*_CLAIMS[20:]], ["Connection: close, X-Forwarded-For, X-Forwarded-Proto, Host"]]
    for lines in sent:
        request = "\r\n".join(["GET /a HTTP/1.1", "Host: site.test", *lines, "", ""]).encode()
        assert await door.answers(request + LAST) in ([200, 200], [200])
        fields = dict(found := door.record.fields[0])
        assert len(found) == len(fields), found
        untrusted = {} if lines[0].startswith("Connection") else {"x-forwarded-untrusted": "1"}
        truth = {"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http", **untrusted}
        assert fields == {"host": "site.test", **truth}, lines
        door.record.fields.clear()
        door.record.seen.clear()


def _underscored(line: str) -> str:
    name, colon, value = line.partition(":")
    return name.replace("-", "_") + colon + value


async def test_trailers_bring_no_claims_either(door: _Door) -> None:
    claims = "".join(f"{claim}\r\n" for claim in _CLAIMS)
    names = ", ".join(claim.partition(":")[0] for claim in _CLAIMS)
    head = f"POST /a HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\nTrailer: {names}\r\n\r\n"
    request = f"{head}2\r\nhi\r\n0\r\n{claims}\r\n".encode()
    assert await door.answers(request + LAST) == [200, 200]
    assert door.record.seen == [Seen("POST", "/a", b"hi"), Seen("GET", "/last")]
    assert not door.record.faults
