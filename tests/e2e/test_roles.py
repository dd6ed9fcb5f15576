"""A gateway and its application as two processes: what each answers, and what is refused."""

import asyncio
import contextlib
import json
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.people import bearer, insert_people
from tests.support.ports import free_port
from tests.support.program import TOKEN_SECRET, Program, environment, names, program, run
from tests.support.sockets import closed, frame
from tests.support.tokens import connection_token

ADMIN = bearer("admin")
EVERYWHERE = "0.0.0.0"  # noqa: S104  # where strangers are told apart
CONNECTIONS = "/api/admin/websocket/connections"
BROADCAST = "/api/admin/websocket/broadcast"
WORD = {"audience": "all", "type": "system_announcement", "title": "Maintenance", "message": "Tonight at ten"}
NO_WAY = "has no way to their sockets; set JASAWEB_RT_NATS_URL, for the gateways too"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Its name is short, as a socket in it needs it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


class Pair(NamedTuple):
    """Both processes, and an HTTP client of the gateway."""

    gateway: Program
    app: Program
    http: httpx.AsyncClient


def of_app(environ: dict[str, str], **settings: str) -> dict[str, str]:
    """The environment of an application: it has no port of its own."""
    kept = {name: value for name, value in environ.items() if name != "JASAWEB_RT_PORT"}
    return kept | {f"JASAWEB_RT_{name}": value for name, value in settings.items()}


@contextlib.asynccontextmanager
async def pair(folder: Path, environ: dict[str, str], **settings_of_app: str) -> AsyncIterator[Pair]:
    async with (
        program(folder, environ, "serve", "--role", "gateway") as gateway,
        httpx.AsyncClient(base_url=await gateway.url(), timeout=30) as http,
        program(folder, of_app(environ, **settings_of_app), "serve", "--role", "app") as app,
    ):
        await app.line("listening on ")
        yield Pair(gateway, app, http)


@contextlib.asynccontextmanager
async def socket_of(http: httpx.AsyncClient, user_id: str, role: str = "client") -> AsyncIterator[ClientConnection]:
    url = str(http.base_url).replace("http", "ws", 1)
    headers = {"Authorization": f"Bearer {connection_token(user_id, role, secret=TOKEN_SECRET)}"}
    async with connect(f"{url}/ws", additional_headers=headers, ping_interval=None) as socket:
        while (await frame(socket))["type"] != "sync":
            pass
        yield socket


async def listed(http: httpx.AsyncClient, count: int, query: str = "") -> list[dict[str, Any]]:
    """The connections, once there are `count`: the recorder writes them within a second or so."""
    async with asyncio.timeout(40):
        while True:
            body = (await http.get(f"{CONNECTIONS}{query}", headers=ADMIN)).json()
            if body["total"] == count:
                items: list[dict[str, Any]] = body["items"]
                return items
            await asyncio.sleep(0.05)


async def test_an_administrator_sees_all_sockets_from_an_application_that_has_none(
    folder: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await insert_people(connection)
    environ = environment(database_url, APP_URL=f"unix:{folder}/app.sock")
    async with pair(folder, environ) as (_, _, http), socket_of(http, "client") as socket:
        async with socket_of(http, "admin", "admin"):
            assert [item["userId"] for item in await listed(http, 2)] == ["client", "admin"]
            status = (await http.get("/api/admin/websocket/status", headers=ADMIN)).json()
            assert (status["connections"], status["users"], status["draining"]) == (2, 2, False)
            assert {status[name] for name in ("nodeId", "relayReady", "deliveries", "rates")} == {None}
        (item,) = await listed(http, 1, "?search=CLI")
        assert (item["role"], item["name"], item["clientAddress"]) == ("client", "Client", "127.0.0.1")
        assert (item["lastSeq"], item["queuedBytes"]) == (None, None)
        assert item["userAgent"].startswith("Python/")
        assert [await listed(http, 0, query) for query in ("?userId=other", "?role=admin", "?search=%25")] == [[]] * 3
        assert await listed(http, 1, "?limit=1&offset=1") == []

        # Without NATS there is no way from an application to sockets, but by what is stored.
        gone = await http.delete(f"{CONNECTIONS}/none", headers=ADMIN)
        assert gone.status_code == 404
        for answer in (
            await http.delete(f"{CONNECTIONS}/{item['connectionId']}", headers=ADMIN),
            await http.post(BROADCAST, json=WORD | {"durable": False}, headers=ADMIN),
        ):
            assert answer.status_code == 503
            assert NO_WAY in answer.json()["error"]
        assert (await http.post(BROADCAST, json=WORD, headers=ADMIN)).json() == {"durable": True, "count": 4}
        pushed = await frame(socket)
        assert (pushed["seq"], pushed["data"]["title"]) == (1, "Maintenance")


async def test_a_gateway_answers_probes_and_frames_without_its_application(
    folder: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await insert_people(connection)
    environ = environment(database_url, APP_URL=f"unix:{folder}/app.sock")
    async with (
        program(folder, environ, "serve", "--role", "gateway") as gateway,
        httpx.AsyncClient(base_url=await gateway.url(), timeout=30) as http,
    ):
        await gateway.line("this node relays")
        ready = await http.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["checks"] == {
            "database": "ok",
            "relay": "ok",
            "listener": "ok",
            "disk": "ok",
            "draining": False,
        }
        assert (await http.get("/healthz")).json() == {"success": True}
        assert (await http.head("/healthz")).status_code == 200
        async with socket_of(http, "client") as socket:
            assert "jasaweb_rt_connections 1.0" in (await http.get("/metrics")).text
            away = await http.get("/api/projects", headers=bearer("client"))
            assert (away.status_code, away.headers["retry-after"]) == (503, "1")
            # Frames of clients are carried out by the gateway itself.
            await socket.send(json.dumps({"type": "read", "data": {"upTo": 0}}))
            await socket.send(json.dumps({"type": "nonsense", "data": {}, "id": "mine"}))
            while (answer := await frame(socket))["type"] != "error":
                pass
            assert answer["data"]["ref"] == "mine"
            assert await gateway.end(signal.SIGTERM) == 0
            assert (await closed(socket))[0] == 1001


async def test_an_application_on_a_port_believes_its_gateways_alone(
    folder: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await insert_people(connection)
    app_url = f"http://127.0.0.1:{free_port()}"
    environ = environment(database_url, APP_URL=app_url, METRICS_NETWORKS="192.0.2.0/24")
    async with pair(folder, environ) as (_, app, http):
        token = await http.post("/api/websocket/token", headers=bearer("client"))
        assert token.json()["connectionUrl"] == f"{str(http.base_url).replace('http', 'ws', 1)}/ws"
        assert await app.end(signal.SIGTERM) == 0
        # On loopback the gateway is believed, whatever proxies are named for it; elsewhere these are the gateways.
        elsewhere = of_app(environ, TRUSTED_PROXIES="192.0.2.7/32", APP_URL=app_url.replace("127.0.0.1", EVERYWHERE))
        async with program(folder, elsewhere, "serve", "--role", "app") as other:
            await other.line("listening on ")
            for asked in (http.get("/login"), http.get("/api/projects", headers=bearer("client"))):
                refused = await asked
                assert refused.status_code == 403
                assert "Only a gateway may ask this" in refused.json()["error"]
            async with httpx.AsyncClient(base_url=app_url, timeout=30) as direct:
                ready = await direct.get("/readyz", headers={"X-Forwarded-For": "192.0.2.7"})
                assert (ready.status_code, ready.json()) == (200, {"success": True})


async def test_an_application_tells_of_itself_to_who_asks_it(
    folder: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    app_url = f"http://127.0.0.1:{free_port()}"
    environ = of_app(environment(database_url, APP_URL=app_url))
    async with (
        program(folder, environ, "serve", "--role", "app", "--access-log") as app,
        httpx.AsyncClient(base_url=app_url, timeout=30) as http,
    ):
        await app.line(f"listening on {app_url}")
        checks = {"database": "ok", "disk": "ok", "draining": False}
        assert (await http.get("/readyz")).json() == {"success": True, "checks": checks}
        measures = (await http.get("/metrics")).text
        assert "jasaweb_rt_draining 0.0" in measures
        assert "jasaweb_rt_connections" not in measures
        await app.line(r"GET /metrics 200 ")
        assert await app.end(signal.SIGTERM) == 0


async def test_one_folder_is_enough_to_try_it(folder: Path) -> None:
    """The gateway brings the database and makes the key, and the application finds both, and the socket."""
    environ = environment()
    del environ["JASAWEB_RT_JWT_SECRET"]
    del environ["JASAWEB_RT_TOKEN_SECRET"]
    code, output = await run(folder, of_app(environ), "serve", "--role", "app")
    assert code == 1
    assert "set DATABASE_URL to that of the gateways, or start a gateway in this folder first" in output
    async with pair(folder, environ) as (gateway, app, http):
        assert (await http.get("/login")).status_code == 200
        await app.line(f"listening on unix:{folder}/.jasaweb/app.sock")
        assert await app.end(signal.SIGTERM) == 0
        assert (await http.get("/login")).status_code == 503
        assert await gateway.end(signal.SIGTERM) == 0
    assert "app.sock" in names(folder / ".jasaweb")
    assert "Traceback" not in app.output + gateway.output


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (["--role", "gateway", "--demo"], {}, "--demo is the whole server in one process"),
        (["--demo"], {"ROLE": "app", "PORT": ""}, "--demo is the whole server in one process"),
        (["--role", "app", "--port", "8000"], {"PORT": ""}, "JASAWEB_RT_PORT is of the front door"),
        (["--role", "app", "--host", "127.0.0.1"], {"PORT": ""}, "JASAWEB_RT_HOST is of the front door"),
        (["--role", "all"], {"APP_URL": "http://127.0.0.1:1"}, "role 'all' is both"),
        (["--role", "gateway"], {"APP_URL": "http://127.0.0.1"}, "must be unix:/path/to/socket or http://host:port"),
        (["--role", "gateway"], {"APP_URL": "unix:/tmp/app.sock"}, "where anybody may put one"),
        (["--role", "app"], {"PORT": "", "APP_URL": "unix:/tmp/app.sock"}, "where anybody may put one"),
        (["--role", "app"], {"PORT": "", "APP_URL": "http://192.0.2.1:80"}, "by JASAWEB_RT_TRUSTED_PROXIES"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_the_mend(
    folder: Path, database_url: str, arguments: list[str], settings: dict[str, str], words: str
) -> None:
    code, output = await run(folder, environment(database_url, **settings), "serve", *arguments)
    assert code == 2
    assert words in output
    assert "Traceback" not in output
