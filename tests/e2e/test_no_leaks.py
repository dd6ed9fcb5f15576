"""Tokens, passwords and keys reach no log, metric, error text, table or file, however much a server says.

Whatever can be done with a secret is done, rightly and wrongly; then all that was written is gone through.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from jasaweb_rt.auth import session_jwt
from tests.e2e.test_serve import accepts, postmaster_of
from tests.support.leaks import Secrets
from tests.support.payments import KEY
from tests.support.people import PASSWORD, SECRET, insert_people, session_token
from tests.support.program import TOKEN_SECRET, Program, environment, program, run
from tests.support.sockets import WAIT_SECONDS
from tests.support.tokens import connection_token

pytestmark = pytest.mark.timeout(300)

WRONG_PASSWORD = "a wrong password of this test"
CONNECTS: dict[str, Callable[[str], tuple[str, dict[str, str], list[str] | None]]] = {
    "token": lambda token: (f"?token={token}", {}, None),
    "jwt": lambda token: (f"?jwt={token}", {}, None),
    "header": lambda token: ("", {"Authorization": f"Bearer {token}"}, None),
    "subprotocol": lambda token: ("", {}, ["jasaweb.v1", f"bearer.{token}"]),
}
"""The four ways of bringing a token: query, headers and subprotocols."""


class Talk:
    """Does what clients do, and keeps what they were answered."""

    def __init__(self, url: str, secrets: Secrets) -> None:
        self.url, self.secrets = url, secrets
        self.http = httpx.AsyncClient(base_url=url, timeout=30)
        self.heard: list[tuple[str, str]] = []

    async def ask(self, method: str, path: str, *, may_hold: bool = False, **options: object) -> httpx.Response:
        """A request; `may_hold`: the answer is where a secret belongs."""
        response = await self.http.request(method, path, **options)  # type: ignore[arg-type]  # handed through
        where = f"the answer to {method} {path.partition('?')[0]}: {response.status_code}"
        if not may_hold:
            self.heard.append((where, f"{response.headers}\n{response.text}"))
        return response

    async def open(self, way: str, token: str, *frames: str) -> None:
        """A socket by one of the ways, on which frames are sent and all answers read."""
        query, headers, subprotocols = CONNECTS[way](token)
        url = f"{self.url.replace('http', 'ws', 1)}/ws{query}"
        try:
            async with connect(
                url,
                additional_headers=headers,
                subprotocols=subprotocols,  # type: ignore[arg-type]  # plain strings do
                ping_interval=None,
            ) as socket:
                self.heard.append((f"the handshake by {way}", str(socket.response and socket.response.headers)))
                for frame in frames:
                    await socket.send(frame)
                await socket.send('{"type":"ack","data":{"seq":999999},"timestamp":"","id":"the last"}')
                async with asyncio.timeout(WAIT_SECONDS):
                    while True:
                        said = str(await socket.recv())
                        self.heard.append((f"a frame on a socket by {way}", said))
                        if '"the last"' in said:
                            return
        except ConnectionClosed as end:
            self.heard.append((f"the end of a socket by {way}", str(end)))

    async def raw(self, request: str) -> None:
        """What no client sends."""
        host, port = self.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request.encode())
        async with asyncio.timeout(WAIT_SECONDS):
            said = await reader.read()
        self.heard.append((f"the answer to {request[:12]}", said.decode(errors="replace")))
        writer.close()
        await writer.wait_closed()


def tokens_of(secrets: Secrets, case: str) -> dict[str, str]:
    """Connection tokens of every kind, known to `secrets`."""
    made = {
        "good": connection_token("client", secret=TOKEN_SECRET, name="Client", jti=f"{case} good"),
        "expired": connection_token("client", secret=TOKEN_SECRET, exp=int(time.time()) - 5, jti=case),
        "forged": connection_token("client", secret="not the key of that server at all", jti=case),
        "another's": connection_token("other", secret=TOKEN_SECRET, jti=case),
        "a session's": session_token("client"),
    }
    return {kind: secrets.add_token(f"the {kind} token of {case}", token) for kind, token in made.items()}


async def use_sockets(talk: Talk, secrets: Secrets, case: str) -> None:
    """Every way of bringing a token, with tokens of every kind; and frames that hold some."""
    for way in CONNECTS:
        tokens = tokens_of(secrets, f"{case}, {way}")
        renewals = tokens_of(secrets, f"{case}, renewed by {way}")
        frames = [
            json.dumps({"type": "refresh", "data": {"token": token}, "timestamp": "", "id": kind})
            for kind, token in renewals.items()
        ]
        odd = [
            json.dumps({"type": "refresh", "data": {"token": [renewals["good"]]}, "timestamp": "", "id": "a list"}),
            json.dumps({"type": "user_message", "data": {"token": renewals["good"]}, "timestamp": "", "id": "extra"}),
            '{"type":"refresh","data":{"token":"' + renewals["good"],
        ]
        await talk.open(way, tokens["good"], *frames, *odd)
        for kind in ("expired", "forged", "a session's"):
            await talk.open(way, tokens[kind])
        await talk.open(way, tokens["good"] + "x")


async def use_http(talk: Talk, secrets: Secrets, case: str) -> None:
    """Log-in, rightly and wrongly; routes with a cookie and with Bearer; requests that are wrong in many ways."""
    origin = {"Origin": talk.url}
    log_in = {"email": "client@jasaweb.test", "password": PASSWORD}
    entered = await talk.ask("POST", "/api/auth/login", may_hold=True, json=log_in, headers=origin)
    cookie = entered.cookies.get("auth_token") or session_token("client")
    secrets.add_token(f"the session of {case}", cookie)
    expired = secrets.add_token(f"the expired session of {case}", session_token("client", lifetime=-9))
    forged = secrets.add_token(f"the forged session of {case}", session_token("client", secret="x" * 40))
    for body in (
        {**log_in, "password": WRONG_PASSWORD},
        {**log_in, "email": "nobody@jasaweb.test"},
        {**log_in, "more": PASSWORD},
        {"password": PASSWORD},
        {"email": "client@jasaweb.test", "password": [PASSWORD]},
        {"email": PASSWORD * 50, "password": PASSWORD * 50},
        [PASSWORD],
        PASSWORD,
    ):
        await talk.ask("POST", "/api/auth/login", json=body, headers=origin)
    await talk.ask("POST", "/api/auth/login", json=log_in, headers={"Origin": "http://evil.test"})
    for content in (f'{{"email":"a","password":"{PASSWORD}', f"email=a&password={PASSWORD}"):
        for kind in ("application/json", "text/plain"):
            await talk.ask("POST", "/api/auth/login", content=content, headers={**origin, "Content-Type": kind})
    for token in (cookie, expired, forged):
        for headers in (
            {"Cookie": f"auth_token={token}"},
            {"Authorization": f"Bearer {token}"},
            {"Authorization": f"Basic {token}"},
            {"Authorization": f"Bearer {token}", "Host": f"{token} ?"},
        ):
            for path in ("/api/auth/me", "/api/notifications", "/api/projects", "/login", "/client/dashboard"):
                given = await talk.ask("GET", path, may_hold=True, headers=headers)
                secrets.add(f"a CSRF token of {case}", given.cookies.get("csrftoken") or "no such token")
            await talk.ask("GET", f"/api/notifications?limit={token}", headers=headers)
            await talk.ask("GET", f"/api/auth/me?token={token}", headers=headers)
            await talk.ask("GET", f"/nothing/here?token={token}", headers=headers)
            await talk.ask("PATCH", "/api/projects/p-client", json={"status": token}, headers=headers)
            await talk.ask("POST", "/api/notifications/read", json={"upTo": 1}, headers=headers)
            issued = await talk.ask("POST", "/api/websocket/token", may_hold=True, headers=headers)
            if issued.status_code == 200:
                secrets.add_token(f"an issued token of {case}", issued.json()["token"])
    token = secrets.add_token(f"the token of {case} in a wrong handshake", connection_token("client", jti=case))
    for query in (f"token={token}&token={token}", f"token={token}&last_seq=x", f"jwt={token}%zz"):
        await talk.ask("GET", f"/ws?{query}", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
        await talk.ask("GET", f"/ws?{query}")
    await talk.raw(f"GET /ws?token={token} HTTP/1.1\r\nHost: a\r\nHost: {token}\r\nConnection: close\r\n\r\n")
    await talk.raw(f"GET /ws?token={token} HTTP/9.9\r\nAuthorization: Bearer {token}\r\n\r\n")
    await talk.raw(f"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token} {'x' * 70_000}\r\n\r\n")
    admin = {"Authorization": f"Bearer {secrets.add_token(f'the admin of {case}', session_token('admin'))}"}
    for path in (
        *("/metrics", "/readyz", "/healthz", "/schema/openapi.json"),
        *("/api/admin/websocket/status", "/api/admin/websocket/connections"),
    ):
        await talk.ask("GET", path, headers=admin)
    left = secrets.add_token(f"the session of {case} that is ended", session_token("client"))
    for _ in range(2):
        await talk.ask("POST", "/api/auth/logout", headers={"Authorization": f"Bearer {left}"})


async def tables_of(connection: asyncpg.Connection) -> list[tuple[str, str]]:
    """All rows of all tables, as text."""
    names = await connection.fetch(
        """select format('%I.%I', schemaname, tablename) as name from pg_tables
           where schemaname in ('public', 'jasaweb_rt')"""
    )
    return [
        (
            row["name"],
            "\n".join(str(line[0]) for line in await connection.fetch(f"select t::text from {row['name']} t")),
        )
        for row in names
    ]


async def without_database(talk: Talk, secrets: Secrets, folder: Path, url: str) -> None:
    """Does everything while PostgreSQL is killed again and again; returns once it is back."""

    async def kill() -> None:
        while True:
            if (found := postmaster_of(folder)) is not None:
                os.kill(found, signal.SIGKILL)
            await asyncio.sleep(0.05)

    killing = asyncio.create_task(kill())
    try:
        await use_http(talk, secrets, "a database that is away")
        await talk.open("token", tokens_of(secrets, "a database that is away, again")["expired"])
    finally:
        killing.cancel()
        await asyncio.wait([killing])
    async with asyncio.timeout(60):
        while not await accepts(url):
            await asyncio.sleep(0.05)


async def provoke(server: Program, folder: Path, environ: dict[str, str], secrets: Secrets) -> Talk:
    """Everything, on a server that runs."""
    talk = Talk(await server.url(), secrets)
    url = (await run(folder, environ, "database-url"))[1].strip()
    connection = await asyncpg.connect(url)
    await insert_people(connection)
    # PostgreSQL's own log shall say all that it is asked, with all parameters.
    await connection.execute("alter system set log_statement = 'all'")
    await connection.execute("select pg_reload_conf()")
    await use_http(talk, secrets, "a usual day")
    await use_sockets(talk, secrets, "a usual day")
    await connection.execute("alter table public.users rename to users_away")
    await use_http(talk, secrets, "a table that is missing")
    await connection.execute("alter table public.users_away rename to users")
    await use_sockets(talk, secrets, "a usual day again")
    talk.heard += await tables_of(connection)
    await connection.close(timeout=20)
    forged = secrets.add_token("the token of a command", connection_token("client", jti="listen"))
    listened = await run(folder, environ, "--debug", "listen", "--token", forged, "--url", talk.url)
    talk.heard.append(("the output of listen", listened[1]))
    await without_database(talk, secrets, folder, url)
    connection = await asyncpg.connect(url)
    talk.heard += await tables_of(connection)
    await connection.close(timeout=20)
    return talk


async def test_no_secret_is_written_anywhere(tmp_path: Path) -> None:
    secrets = Secrets()
    for name, secret in {
        "the password": PASSWORD,
        "the wrong password": WRONG_PASSWORD,
        "the key of sessions": SECRET,
        "the key of tokens": TOKEN_SECRET,
        "the key of payments": KEY,
    }.items():
        secrets.add(name, secret)
    environ = environment(MIDTRANS_SERVER_KEY=KEY, CONNECT_RATE_PER_IP="0", METRICS_NETWORKS="127.0.0.0/8")
    async with program(tmp_path, environ, "--debug", "serve", "--access-log") as server:
        talk = await provoke(server, tmp_path, environ, secrets)
        await talk.http.aclose()
        assert await server.end(signal.SIGTERM) == 0
    log = (tmp_path / ".jasaweb" / "postgres.log").read_text(errors="replace")
    found = [
        *secrets.found_in("the server's output", server.output),
        *(leak for where, said in talk.heard for leak in secrets.found_in(where, said)),
        # PostgreSQL's own files are large; what its tables hold was read as text.
        *secrets.found_below(tmp_path, but=tmp_path / ".jasaweb" / "postgres"),
    ]
    assert found == [], "\n".join(found)
    # What was looked for was looked for where something is.
    assert "POST /api/auth/login 200" in server.output
    assert "Traceback" in server.output, "there was no 500"
    assert "database" in server.output
    assert "client@jasaweb.test" in log, "PostgreSQL logged no parameters"
    assert any('"invalid_token"' in said for _, said in talk.heard)
    assert any("Invalid authentication" in said for _, said in talk.heard)


def test_what_is_looked_for_would_be_found(tmp_path: Path) -> None:
    secrets = Secrets()
    token = secrets.add_token("a token", session_token("client"))
    secrets.add("a password", PASSWORD)
    claims, signature = token.split(".")[1:]
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "log").write_bytes(b"\0\xff" + token.encode() + b"\0")
    assert len(secrets.found_below(tmp_path)) == 3
    assert secrets.found_in("a log", f'GET /ws?token={token} {{"password": "{PASSWORD}"}}') != []
    for part in (claims, signature[:12], signature[-20:], PASSWORD):
        assert secrets.found_in("a log", f"x{part}y") != []
    assert secrets.found_in("a log", session_token("client").split(".")[0]) == []
    assert session_jwt.verify(token, SECRET).id == "client"
