"""`RealtimePlugin` in a foreign application: under a real uvicorn, with that application's own routes and log-in."""

import socket as sockets
import threading
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import jwt
import msgspec
import pytest
from litestar import Litestar, Request, get, post
from litestar.config.csrf import CSRFConfig
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult, DefineMiddleware
from litestar.params import FromPath
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from jasaweb_rt import Hooks, Realtime, RealtimePlugin
from jasaweb_rt.config import Keys, Settings
from jasaweb_rt.exceptions import ServerStoppedError
from jasaweb_rt.hooks import ConnectionOpened
from jasaweb_rt.plugin import Identity
from tests.support.asgi import NotStartedError, served
from tests.support.certificates import CertificateFiles, trusting
from tests.support.databases import add_users
from tests.support.ports import free_port
from tests.support.sockets import closed, frame, until
from tests.support.tokens import SECRET


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(jwt_secret=SECRET, token_secret=SECRET, database_url=database_url, port=0, drain_seconds=1)


@pytest.fixture(autouse=True)
async def filled(connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"), ("budi", "client"))


class HeaderLogin(AbstractAuthenticationMiddleware):
    """The foreign application's log-in: it believes a header, and refuses who has none."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        user_id = connection.headers.get("x-user")
        if user_id is None:
            raise NotAuthorizedException("Say who you are")
        return AuthenticationResult(user=user_id, auth=None)


def who(request: Request[Any, Any, Any]) -> str | None:
    return request.headers.get("x-user")


@get("/hello")
async def hello(request: Request[str, Any, Any], mine: NamedDependency[str]) -> str:
    return f"{mine}, {request.user}"


@post("/orders/{order:str}", exclude_from_csrf=True)
async def ship(order: FromPath[str], realtime: NamedDependency[Realtime], url: NamedDependency[str]) -> int:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await realtime.notify(
                "anna", "project_update", title="Shipped", message=order, data={"a": 1}, connection=connection
            )
    finally:
        await connection.close()
    return realtime.broadcast_to_user("anna", '{"type": "progress"}')


def foreign_app(plugin: RealtimePlugin, url: str | None, **options: Any) -> Litestar:
    return Litestar(
        [hello, ship],
        plugins=[plugin],
        dependencies={"mine": given("Hello"), "url": given(url or "")},
        logging_config=None,
        **options,
    )


def given(value: str) -> Any:
    async def provide() -> str:
        return value

    return provide


def client_of(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=20)


async def token_of(http: httpx.AsyncClient, user: str = "anna") -> dict[str, str]:
    response = await http.post("/api/websocket/token", headers={"x-user": user})
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    body: dict[str, str] = response.json()
    return body


async def connected(stack: AsyncExitStack, body: Mapping[str, str]) -> ClientConnection:
    protocols = [Subprotocol("jasaweb.v1"), Subprotocol(f"bearer.{body['token']}")]
    socket = await stack.enter_async_context(connect(body["connectionUrl"], subprotocols=protocols))
    assert [(await frame(socket))["type"] for _ in range(2)] == ["system_announcement", "sync"]
    return socket


async def test_a_foreign_application_gets_sockets(settings: Settings) -> None:
    hooks, told, threads = Hooks(), list[str](), set[threading.Thread]()

    @hooks.on_connect
    async def note(event: ConnectionOpened) -> None:
        told.append(event.user_id)
        threads.add(threading.current_thread())

    plugin = RealtimePlugin(settings, identify=lambda request: str(request.user), hooks=hooks)
    app = foreign_app(
        plugin,
        settings.database_url,
        middleware=[DefineMiddleware(HeaderLogin)],
        csrf_config=CSRFConfig(secret="s" * 32),
    )
    with pytest.raises(ServerStoppedError):
        _ = plugin.address
    # An application may be started again, as test clients do.
    for count in (1, 2):
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(served(app))
            http = await stack.enter_async_context(client_of(url))
            assert (await http.get("/hello", headers={"x-user": "anna"})).text == "Hello, anna"
            assert (await http.get("/hello")).status_code == 401
            refused = await http.post("/api/websocket/token")
            assert (refused.status_code, refused.json()["error"]) == (401, "Authentication required")
            socket = await connected(stack, await token_of(http))
            assert (await http.post("/orders/42", headers={"x-user": "budi"})).json() == 1
            both = [await frame(socket), await frame(socket)]
            [shipped] = [item for item in both if "seq" in item]
            assert shipped["data"] == {"a": 1, "title": "Shipped", "message": "42"}
            assert shipped["seq"] == count
            assert {"type": "progress"} in both
            await until(lambda count=count: told == ["anna"] * count)  # type: ignore[misc]
            # The port of the sockets has nothing else.
            beside = f"http://127.0.0.1:{plugin.address[1]}"
            for path, status in [("/", 404), ("/hello", 404), ("/api/websocket/token", 404), ("/ws", 426)]:
                assert (await http.get(f"{beside}{path}")).status_code == status
    assert threads == {threading.main_thread()}
    with pytest.raises(ServerStoppedError, match="has no server that runs"):
        plugin.realtime.broadcast_to_all("{}")


async def test_whom_the_token_route_serves(settings: Settings) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    answers: dict[str, str | Identity | None] = {
        "anna": "anna",
        "with-end": Identity("anna", ends),
        "over": Identity("anna", datetime.now(UTC)),
        "unknown": "not-in-the-table-users",
        "nobody": None,
    }

    async def identify(request: Request[Any, Any, Any]) -> str | Identity | None:
        return answers[request.headers["x-user"]]

    plugin = RealtimePlugin(settings, identify=identify, token_path="/rt/token")
    async with served(foreign_app(plugin, None)) as url, client_of(url) as http:

        async def ask(user: str, **headers: str) -> httpx.Response:
            return await http.post("/rt/token", headers={"x-user": user, **headers})

        claims = [
            jwt.decode((await ask(user)).json()["token"], SECRET, algorithms=["HS256"], audience="websocket")
            for user in ("anna", "with-end")
        ]
        assert [(claim["sub"], claim["role"], claim["name"]) for claim in claims] == [
            ("anna", "client", "User anna")
        ] * 2
        assert "session_exp" not in claims[0]
        assert claims[1]["session_exp"] == int(ends.timestamp())
        for user in ("over", "unknown", "nobody"):
            response = await ask(user)
            assert (response.status_code, response.json()) == (
                401,
                {"success": False, "error": "Authentication required"},
            )
        port = plugin.address[1]
        assert (await ask("anna", host="shop.example:8000")).json()["connectionUrl"] == f"ws://shop.example:{port}/ws"
        assert (await ask("anna", host="[::1]")).json()["connectionUrl"] == f"ws://[::1]:{port}/ws"
        forged = await ask("anna", **{"x-forwarded-host": "evil.example"})
        assert forged.json()["connectionUrl"] == f"ws://127.0.0.1:{port}/ws"
        assert (await ask("anna", host="a b")).status_code == 400
        assert (await http.post("/api/websocket/token")).status_code == 404


async def test_behind_a_proxy_the_public_url_is_told(settings: Settings) -> None:
    public = msgspec.structs.replace(settings, public_url="https://rt.example.org")
    plugin = RealtimePlugin(public, identify=who)
    async with served(foreign_app(plugin, None)) as url, client_of(url) as http:
        assert (await token_of(http))["connectionUrl"] == "wss://rt.example.org/ws"


async def test_a_port_with_tls_is_told_as_such(settings: Settings, tmp_path: Path) -> None:
    files = CertificateFiles(tmp_path)
    encrypted = msgspec.structs.replace(settings, tls_cert=str(files.cert), tls_key=str(files.key))
    plugin = RealtimePlugin(encrypted, identify=who)
    async with served(foreign_app(plugin, None)) as url, client_of(url) as http:
        body = await token_of(http)
        assert body["connectionUrl"] == f"wss://127.0.0.1:{plugin.address[1]}/ws"
        async with connect(f"{body['connectionUrl']}?token={body['token']}", ssl=trusting()) as socket:
            assert (await frame(socket))["data"]["title"] == "Connected"


async def test_pages_of_the_application_need_its_origin_to_be_allowed(settings: Settings) -> None:
    allowing = msgspec.structs.replace(settings, allowed_origins=("http://shop.example",))
    plugin = RealtimePlugin(allowing, identify=who)
    async with served(foreign_app(plugin, None)) as url, client_of(url) as http:
        body = await token_of(http)
        protocols = [Subprotocol("jasaweb.v1"), Subprotocol(f"bearer.{body['token']}")]
        async with connect(
            body["connectionUrl"], subprotocols=protocols, origin=Origin("http://shop.example")
        ) as socket:
            assert (await frame(socket))["data"]["title"] == "Connected"
        with pytest.raises(InvalidStatus) as refused:
            await connect(body["connectionUrl"], subprotocols=protocols, origin=Origin(url))
        assert refused.value.response.status_code == 403


async def test_without_a_log_in_of_its_own_there_is_no_token_route(settings: Settings) -> None:
    async with served(foreign_app(RealtimePlugin(settings), None)) as url, client_of(url) as http:
        assert (await http.post("/api/websocket/token")).status_code == 404


async def test_two_applications_in_one_process(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        plugins = [RealtimePlugin(settings, identify=who) for _ in range(2)]
        urls = [await stack.enter_async_context(served(foreign_app(plugin, None))) for plugin in plugins]
        clients = [await stack.enter_async_context(client_of(url)) for url in urls]
        first, second = [await connected(stack, await token_of(http)) for http in clients]
        assert [plugin.realtime.broadcast_to_user("anna", '{"type": "mine"}') for plugin in plugins] == [1, 1]
        assert [await frame(socket) for socket in (first, second)] == [{"type": "mine"}] * 2


def test_its_routes_are_part_of_the_applications_schema(settings: Settings) -> None:
    app = foreign_app(RealtimePlugin(settings, identify=who), None)
    ours = {"/api/websocket/token", "/api/notifications", "/api/notifications/read"}
    assert set(app.openapi_schema.to_schema()["paths"]) == {"/hello", "/orders/{order}"} | ours


def test_one_plugin_an_application(settings: Settings) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="has a dependency 'realtime' already"):
        Litestar(plugins=[RealtimePlugin(settings), RealtimePlugin(settings)])


async def fails_to_start(plugin: RealtimePlugin, caplog: pytest.LogCaptureFixture) -> str:
    """The sentence that is logged."""
    caplog.clear()
    with pytest.raises(NotStartedError):
        async with served(foreign_app(plugin, None)):
            pass
    [said] = [record.getMessage() for record in caplog.records if record.name == "jasaweb_rt.plugin"]
    return said.removeprefix("RealtimePlugin cannot start: ")


async def test_what_prevents_a_start_is_said_in_a_sentence(
    settings: Settings, empty_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    change = msgspec.structs.replace
    # Bound and not listening: nobody else can have it, and whoever connects is refused.
    with sockets.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        said = await fails_to_start(RealtimePlugin(change(settings, port=port), identify=who), caplog)
        assert said == (
            f"Cannot listen on 127.0.0.1 port {port} (Address already in use); "
            "stop what uses it, or choose another by JASAWEB_RT_PORT and JASAWEB_RT_HOST"
        )
        away = f"postgresql://nobody@127.0.0.1:{port}/none"
        said = await fails_to_start(RealtimePlugin(change(settings, database_url=away)), caplog)
    assert f"127.0.0.1:{port}/none" in said
    said = await fails_to_start(RealtimePlugin(change(settings, database_url=None)), caplog)
    assert "DATABASE_URL is not set" in said
    said = await fails_to_start(RealtimePlugin(change(settings, database_url=empty_database_url)), caplog)
    assert said.startswith("The database lacks 0001_")
    assert said.endswith("run `jasaweb-rt migrate`, or let RealtimePlugin do it by migrate=True")


async def test_after_a_failed_start_it_can_be_tried_again(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with sockets.create_server(("127.0.0.1", port)):
        plugin = RealtimePlugin(msgspec.structs.replace(settings, port=port), identify=who)
        await fails_to_start(plugin, caplog)
    async with served(foreign_app(plugin, None)):
        assert plugin.address == ("127.0.0.1", port)


async def test_it_can_migrate_and_runs_in_one_application_at_a_time(
    settings: Settings, empty_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = RealtimePlugin(msgspec.structs.replace(settings, database_url=empty_database_url), migrate=True)
    async with served(foreign_app(plugin, None)):
        assert "This RealtimePlugin runs already" in await fails_to_start(plugin, caplog)
        assert plugin.address[1] > 0
    async with served(foreign_app(plugin, None)):
        pass


async def test_a_log_out_of_the_application_ends_its_session_alone(settings: Settings) -> None:
    def identify(request: Request[Any, Any, Any]) -> Identity:
        return Identity("anna", session=request.headers.get("x-user"))

    plugin = RealtimePlugin(settings, identify=identify)
    app = foreign_app(plugin, settings.database_url)
    with pytest.raises(ServerStoppedError):
        await plugin.end_session(Identity("anna", session="first"))
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(app))
        http = await stack.enter_async_context(client_of(url))
        first = await connected(stack, await token_of(http, "first"))
        unused = await token_of(http, "first")
        second = await connected(stack, await token_of(http, "second"))
        with pytest.raises(ValueError, match="names no session"):
            await plugin.end_session(Identity("anna"))
        await plugin.end_session(Identity("anna", session="first"))
        assert await closed(first) == (4001, "Session expired")
        async with connect(unused["connectionUrl"], additional_headers=bearer(unused)) as late:
            assert await closed(late) == (4001, "Session expired")
        assert (await http.post("/api/websocket/token", headers={"x-user": "first"})).status_code == 401
        plugin.realtime.broadcast_to_user("anna", '{"still":"here"}')
        assert await frame(second) == {"still": "here"}


async def test_keys_are_replaced_while_it_runs(settings: Settings) -> None:
    plugin = RealtimePlugin(settings, identify=who)
    app = foreign_app(plugin, settings.database_url)
    with pytest.raises(ServerStoppedError):
        plugin.replace_keys(settings.keys)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(client_of(await stack.enter_async_context(served(app))))
        before = await token_of(http)
        socket = await connected(stack, before)
        both = Keys(jwt_secret=SECRET, token_secret="the-next-key-of-connection-tokens", token_secret_previous=SECRET)
        plugin.replace_keys(both)
        await connected(stack, before)
        await connected(stack, await token_of(http))
        plugin.replace_keys(msgspec.structs.replace(both, token_secret_previous=None))
        async with connect(before["connectionUrl"], additional_headers=bearer(before)) as late:
            assert await closed(late) == (1008, "Invalid authentication")
        await connected(stack, await token_of(http))
        plugin.realtime.broadcast_to_user("anna", '{"still":"here"}')
        assert await frame(socket) == {"still": "here"}
    async with served(app) as url, client_of(url) as http:
        claims = jwt.decode(
            (await token_of(http))["token"], both.token_secret, algorithms=["HS256"], audience="websocket"
        )
        assert claims["sub"] == "anna"


def bearer(body: Mapping[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {body['token']}"}
