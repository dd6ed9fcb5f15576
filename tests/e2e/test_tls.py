"""A whole server with TLS of its own."""

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.certificates import CertificateFiles, trusting
from tests.support.people import PASSWORD, insert_people
from tests.support.program import Program, environment, program, run
from tests.support.sockets import frame

_INSERT = (
    "insert into public.real_time_notifications (id, user_id, type, title, message)"
    " values ($1, 'client', 'user_message', 'Hello', 'From SQL')"
)


@pytest.fixture
def environ(tmp_path: Path, database_url: str) -> dict[str, str]:
    files = CertificateFiles(tmp_path)
    return environment(database_url, TLS_CERT=str(files.cert), TLS_KEY=str(files.key), REQUIRE_TLS="true")


@pytest.fixture
async def server(tmp_path: Path, environ: dict[str, str], connection: asyncpg.Connection) -> AsyncIterator[Program]:
    await insert_people(connection)
    async with program(tmp_path, environ, "serve") as running:
        await running.url()
        yield running


@pytest.fixture
async def https(server: Program) -> AsyncIterator[httpx.AsyncClient]:
    url = await server.url()
    assert url.startswith("https://127.0.0.1:")
    async with httpx.AsyncClient(base_url=url, timeout=30, verify=trusting()) as client:
        yield client


async def log_in(https: httpx.AsyncClient) -> httpx.Response:
    return await https.post(
        "/api/auth/login",
        json={"email": "client@jasaweb.test", "password": PASSWORD},
        headers={"Origin": str(https.base_url).rstrip("/")},
    )


async def open_socket(https: httpx.AsyncClient, query: str = "") -> ClientConnection:
    issued = (await https.post("/api/websocket/token")).json()
    assert issued["connectionUrl"] == f"{str(https.base_url).replace('https', 'wss').rstrip('/')}/ws"
    return await connect(f"{issued['connectionUrl']}?token={issued['token']}{query}", ssl=trusting())


async def test_cookies_are_secure_and_browsers_are_to_keep_to_https(https: httpx.AsyncClient) -> None:
    answer = await log_in(https)
    assert answer.status_code == 200
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    page = await https.get("/login")
    cookies = answer.headers.get_list("set-cookie") + page.headers.get_list("set-cookie")
    assert {cookie.partition("=")[0] for cookie in cookies} == {"auth_token", "csrftoken"}
    for cookie in cookies:
        assert "secure" in cookie.lower().split("; ")
    out = await https.post("/api/auth/logout", headers={"x-csrftoken": https.cookies["csrftoken"]})
    assert (out.status_code, "secure" in out.headers["set-cookie"].lower()) == (204, True)


async def test_what_was_missed_is_replayed_over_tls(https: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await log_in(https)
    async with await open_socket(https) as opened:
        assert (await frame(opened))["data"]["title"] == "Connected"
        epoch = (await frame(opened))["data"]["epoch"]
        await connection.execute(_INSERT, "n-1")
        assert (await frame(opened))["id"] == "n-1"
        # Cut, without a word of TLS or of the WebSocket.
        opened.transport.abort()
    await connection.execute(_INSERT, "n-2")
    await connection.execute(_INSERT, "n-3")
    async with await open_socket(https, f"&last_seq=1&epoch={epoch}") as again:
        assert (await frame(again))["data"]["title"] == "Connected"
        assert (await frame(again))["data"]["resumedFrom"] == 1
        assert [(await frame(again))["seq"] for _ in range(2)] == [2, 3]


async def test_plain_http_is_refused_with_a_word(server: Program) -> None:
    async with httpx.AsyncClient(base_url=(await server.url()).replace("https", "http"), timeout=30) as plain:
        answer = await plain.get("/healthz")
    assert (answer.status_code, "https:" in answer.json()["error"]) == (400, True)


async def test_listen_knows_its_own_server_and_takes_authorities(
    server: Program, tmp_path: Path, environ: dict[str, str], connection: asyncpg.Connection
) -> None:
    port = (await server.url()).rpartition(":")[2]
    settings = environ | {"JASAWEB_RT_PORT": port}
    url = f"wss://localhost:{port}/ws"
    for number, options in enumerate([[], ["--url", url, "--ca", str(tmp_path / "cert.pem")]]):
        async with program(tmp_path, settings, "listen", "--user", "client", *options) as listening:
            await listening.line('"type":"sync"')
            await connection.execute(_INSERT, f"n-{number}")
            told = json.loads((await listening.line('.*"user_message".*'))[0])
            assert told["id"] == f"n-{number}"
            assert await listening.end(signal.SIGINT) == 0
    async with program(tmp_path, settings, "listen", "--user", "client", "--url", url) as listening:
        await listening.line("certificate verify failed")
    code, output = await run(tmp_path, settings, "listen", "--user", "client", "--ca", str(tmp_path / "key.pem"))
    assert code == 2
    assert "has no certificate to trust" in output


async def test_listen_does_not_trust_the_rest_of_a_chain(
    server: Program, tmp_path: Path, environ: dict[str, str]
) -> None:
    first = (tmp_path / "cert.pem").read_text()
    (tmp_path / "other").mkdir()
    second = CertificateFiles(tmp_path / "other", "second").cert.read_text()
    # The server shows the first one in any case.
    chain = tmp_path / "chain.pem"
    settings = environ | {"JASAWEB_RT_PORT": (await server.url()).rpartition(":")[2], "JASAWEB_RT_TLS_CERT": str(chain)}
    for text, line in (
        (f"{first}\n{second}", '"type":"sync"'),
        (f"{second}\n{first}", "certificate verify failed"),
        ("nothing", "chain.pem has no certificate to trust"),
    ):
        chain.write_text(text)
        async with program(tmp_path, settings, "listen", "--user", "client") as listening:
            await listening.line(line)


async def test_a_certificate_that_changes_is_told_in_the_log(server: Program, tmp_path: Path) -> None:
    files = CertificateFiles(tmp_path, "second")
    await server.line("the TLS certificate was read anew")
    files.cert.write_text("")
    told = (await server.line(".*stays in use.*has no certificate in PEM.*"))[0]
    assert "WARNING" in told
    assert f"tls_cert: {files.cert} " in told
    async with httpx.AsyncClient(base_url=await server.url(), timeout=30, verify=trusting("second")) as client:
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"TLS_KEY": ""}, "JASAWEB_RT_TLS_KEY: must be given too"),
        ({"TLS_CERT": "none.pem"}, "JASAWEB_RT_TLS_CERT: none.pem cannot be read: No such file"),
        ({"TLS_KEY": "cert.pem"}, "JASAWEB_RT_TLS_KEY: cert.pem has no private key in PEM"),
    ],
)
async def test_what_cannot_be_used_is_named_at_the_start(
    tmp_path: Path, environ: dict[str, str], change: dict[str, str], words: str
) -> None:
    wrong = environ | {f"JASAWEB_RT_{name}": value for name, value in change.items()}
    code, output = await run(tmp_path, wrong, "serve")
    assert code == 2
    assert words in output
    assert "Traceback" not in output
