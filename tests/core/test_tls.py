"""TLS of the core alone, as OpenSSL sees it: that is what browsers' and Python's clients are closest to."""

import asyncio
import json
import logging
import socket
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from jasaweb_rt import FanoutServer
from jasaweb_rt.client import RealtimeClient
from tests.core.conftest import StartServer
from tests.core.test_client import message, next_frame
from tests.support.certificates import CertificateFiles, trusting
from tests.support.sockets import closed, frame, frames, until
from tests.support.tokens import SECRET, connection_token


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return CertificateFiles(tmp_path)


@pytest.fixture
def secure(start_server: StartServer, files: CertificateFiles) -> FanoutServer:
    """A server that speaks TLS."""
    return start_server(tls_cert=files.cert, tls_key=str(files.key))


def url(server: FanoutServer) -> str:
    return f"wss://localhost:{server.address[1]}/ws"


def open_socket(server: FanoutServer, context: ssl.SSLContext | None = None) -> connect:
    headers = {"Authorization": f"Bearer {connection_token('u-1')}"}
    return connect(url(server), additional_headers=headers, ssl=context or trusting(), ping_interval=None)


def handshake(server: FanoutServer, context: ssl.SSLContext) -> ssl.SSLSocket:
    """The outcome of a TLS handshake, without a request."""
    plain = socket.create_connection(server.address, timeout=20)
    try:
        return context.wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_frames_go_both_ways(secure: FanoutServer, version: ssl.TLSVersion) -> None:
    context = trusting()
    context.minimum_version = context.maximum_version = version
    heard: list[bytes] = []
    secure.on_message(lambda batch: heard.extend(sent[3] for sent in batch))
    async with open_socket(secure, context) as opened:
        assert opened.transport.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
        await frame(opened)
        secure.broadcast_to_user("u-1", message("x" * 100_000))
        assert (await frame(opened))["data"]["content"] == "x" * 100_000
        await opened.send("{}")
        await until(lambda: heard == [b"{}"])


def test_older_versions_are_refused(secure: FanoutServer) -> None:
    context = trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError) as refused:
        handshake(secure, context)
    # The server said so; the connection was not just lost.
    assert "_ALERT_" in str(refused.value)


def test_http_1_1_is_agreed_on_and_nothing_else(secure: FanoutServer) -> None:
    context = trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with handshake(secure, context) as agreed:
        assert agreed.selected_alpn_protocol() == "http/1.1"
    context.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError):
        handshake(secure, context)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda files: files.cert.unlink(), r"tls_cert: \S+cert.pem cannot be read: No such file"),
        (lambda files: files.key.unlink(), r"tls_key: \S+key.pem cannot be read: No such file"),
        (lambda files: files.cert.write_text("x"), r"tls_cert: \S+cert.pem has no certificate in PEM"),
        (lambda files: files.key.write_text("x"), r"tls_key: \S+key.pem has no private key in PEM"),
        (lambda files: CertificateFiles(files.cert.parent / "x", "second"), r"is not the key of the certificate"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    files: CertificateFiles, damage: Callable[[CertificateFiles], object], words: str
) -> None:
    other = files.cert.parent / "x"
    other.mkdir()
    damage(files)
    key = other / "key.pem" if (other / "key.pem").exists() else files.key
    with pytest.raises(ValueError, match=words):
        FanoutServer(token_secret=SECRET, tls_cert=files.cert, tls_key=key)


def test_certificate_and_key_go_together(files: CertificateFiles) -> None:
    with pytest.raises(ValueError, match="tls_key: must be given too"):
        FanoutServer(token_secret=SECRET, tls_cert=files.cert)
    with pytest.raises(ValueError, match="tls_cert: must be given too"):
        FanoutServer(token_secret=SECRET, tls_key=files.key)


async def test_a_new_certificate_is_for_those_who_come_after(secure: FanoutServer, files: CertificateFiles) -> None:
    async with open_socket(secure) as before:
        await frame(before)
        files.replace("second")
        async with await _once_trusted(secure, "second") as after:
            await frame(after)
            assert secure.broadcast_to_user("u-1", message("to both")) == 2
            for opened in (before, after):
                assert (await frame(opened))["data"]["content"] == "to both"
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(secure, trusting("first"))


async def _once_trusted(server: FanoutServer, name: str) -> ClientConnection:
    """A connection, as soon as the server has the certificate `name`."""
    async with asyncio.timeout(40):
        while True:
            try:
                return await open_socket(server, trusting(name))
            except ssl.SSLCertVerificationError:
                await asyncio.sleep(0.05)


async def test_a_slow_reader_gets_every_frame_whole_or_the_close(secure: FanoutServer) -> None:
    """The client's window is small, so records are cut wherever the kernel likes."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, secure.address)
    headers = {"Authorization": f"Bearer {connection_token('u-1')}"}
    async with connect(
        url(secure),
        sock=narrow,
        ssl=trusting(),
        server_hostname="localhost",
        additional_headers=headers,
        compression=None,
        max_queue=1,
        ping_interval=None,
    ) as opened:
        await frame(opened)
        for number in range(20):
            secure.broadcast_to_user("u-1", json.dumps({"n": number, "x": "x" * 40_000}))
        assert [told["n"] for told in await frames(opened, 20)] == list(range(20))
        number = 0
        while secure.stats().slow_consumers == 0:
            secure.broadcast_to_user("u-1", json.dumps({"n": number, "x": "x" * 40_000}))
            number += 1
        assert await closed(opened) == (4002, "Slow consumer")


async def test_a_stop_says_1001(start_server: StartServer, files: CertificateFiles) -> None:
    server = start_server(tls_cert=files.cert, tls_key=files.key)
    async with open_socket(server) as opened:
        await frame(opened)
        ended, _ = await asyncio.gather(closed(opened), asyncio.to_thread(server.stop, 20))
        assert ended[0] == 1001


async def test_the_client_speaks_tls(secure: FanoutServer) -> None:
    async with RealtimeClient(url(secure), connection_token("u-1"), tls=trusting()) as client:
        assert (await next_frame(client))["data"]["title"] == "Connected"
        secure.broadcast_to_user("u-1", message("a"))
        assert (await next_frame(client))["data"]["content"] == "a"


async def test_the_client_believes_no_certificate_but_those_that_it_is_told_of(
    secure: FanoutServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with RealtimeClient(url(secure), connection_token("u-1"), tls=trusting("second")) as client:
        waiting = asyncio.create_task(next_frame(client))
        await until(lambda: "certificate verify failed" in caplog.text)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert {record.levelno for record in caplog.records if "verify failed" in record.getMessage()} == {logging.WARNING}
    assert secure.stats().connections_opened == 0
