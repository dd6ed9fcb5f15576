"""The web application in a process without sockets, as a program of its own may serve it; its gateway is another."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest

from jasaweb_rt import app_cluster, create_app
from jasaweb_rt.app_node import AppNode, open_app_node
from jasaweb_rt.config import Settings
from jasaweb_rt.domain.events import BroadcastMade, NotificationsRead
from jasaweb_rt.exceptions import ConfigurationError, ServerStoppedError
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.hooks import ConnectionClosed, ConnectionOpened, Event, FrameCarriedOut, Hooks
from jasaweb_rt.messages import Read
from jasaweb_rt.metrics import Metrics
from tests.support import tokens
from tests.support.cluster import fenced, joined, reached
from tests.support.databases import add_users
from tests.support.nats_server import NatsServer, nats_server
from tests.support.people import SECRET, bearer, insert_people
from tests.support.sockets import closed, frame, opened, opened_many, until

WORD = {"audience": "clients", "type": "system_announcement", "title": "T", "message": "M"}


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(jwt_secret=SECRET, token_secret=tokens.SECRET, role="app", database_url=database_url)


async def test_its_own_requests_are_told_to_its_hooks(settings: Settings, connection: asyncpg.Connection) -> None:
    await insert_people(connection)
    hooks, told = Hooks(), list[BroadcastMade]()
    hooks.on(BroadcastMade)(lambda event: told.append(event))
    app = create_app(settings, hooks=hooks)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]  # stricter scopes of its own
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://rt.test") as http:
        answer = await http.post("/api/admin/websocket/broadcast", json=WORD, headers=bearer("admin"))
        assert answer.json() == {"durable": True, "count": 2}
        await until(lambda: told, "the hook")
        ready = await http.get("/readyz")
        assert ready.json() == {"success": True, "checks": {"database": "ok", "disk": "ok", "draining": False}}
    assert [event.count for event in told] == [2]


async def test_there_is_no_way_to_sockets_and_it_says_so(settings: Settings) -> None:
    node = AppNode(settings)
    calls: list[Callable[[], object]] = [
        lambda: node.realtime.broadcast_to_user("anna", "{}"),
        lambda: node.realtime.broadcast_to_all("{}"),
        lambda: node.disconnect("n-1", 4500),
    ]
    for call in calls:
        with pytest.raises(ServerStoppedError, match="set JASAWEB_RT_NATS_URL, for the gateways too"):
            call()


async def test_its_keys_are_replaced(settings: Settings) -> None:
    node = AppNode(settings)
    node.replace_keys(msgspec.structs.replace(settings.keys, token_secret="another key of the tests, as long"))
    assert node.keys.current.token_secret == "another key of the tests, as long"


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with nats_server(tmp_path) as server:
        yield server


@pytest.fixture
async def gateway(
    settings: Settings, database_url: str, nats: NatsServer, connection: asyncpg.Connection
) -> AsyncIterator[Gateway]:
    """In the cluster; anna and the administrator citra may connect."""
    await add_users(connection, ("anna", "client"), ("citra", "admin"))
    gateway = Gateway(
        msgspec.structs.replace(
            settings, role="gateway", nats_url=(nats.url,), port=0, max_connections_per_ip=0, connect_rate_per_ip=0
        ),
        database_url,
    )
    await asyncio.to_thread(gateway.start)
    await until(lambda: gateway.link.is_up, "the link of the gateway")
    yield gateway
    await asyncio.to_thread(gateway.stop, 1)


@asynccontextmanager
async def app_node(settings: Settings, nats: NatsServer, hooks: Hooks | None = None) -> AsyncIterator[AppNode]:
    """What it has asked NATS for is known there."""
    async with open_app_node(msgspec.structs.replace(settings, nats_url=(nats.url,)), hooks) as node:
        assert node.cluster is not None
        await joined([node.cluster.client])
        await fenced(node.cluster.client)
        yield node


async def test_it_reaches_sockets_by_nats(settings: Settings, nats: NatsServer, gateway: Gateway) -> None:
    async with app_node(settings, nats) as node, opened(gateway.server, "anna") as socket:
        assert node.cluster is not None
        assert (await frame(socket))["type"] == "sync"
        await reached(node.cluster.client, "anna", socket)
        assert node.realtime.broadcast_to_user("anna", '{"to":"anna"}') == 0
        assert await frame(socket) == {"to": "anna"}
        node.realtime.broadcast_to_all('{"to":"all"}')
        assert await frame(socket) == {"to": "all"}
        assert node.conditions.nats is True
        assert b"jasaweb_rt_cluster_connected 1.0" in Metrics(*node.measures()).encode("")[0]
        (info,) = gateway.server.connections()
        assert node.disconnect(info.connection_id, 4500)
        assert await closed(socket) == (4500, "Disconnected by an administrator")


async def test_its_hooks_are_told_what_happens_at_the_gateway(
    settings: Settings, nats: NatsServer, gateway: Gateway
) -> None:
    told: list[Event] = []
    hooks = Hooks()
    hooks.on_connect(told.append)
    hooks.on_disconnect(told.append)
    hooks.on_frame(Read)(told.append)
    hooks.on(NotificationsRead)(told.append)
    async with app_node(settings, nats, hooks), app_node(settings, nats):
        async with opened(gateway.server, "anna") as socket:
            await until(lambda: len(told) == 1, "the connection")
            await socket.send('{"type":"read","data":{"upTo":0},"id":"mine"}')
            await until(lambda: len(told) == 2, "the frame")
        await until(lambda: len(told) == 3, "the end")
    assert gateway.hook_events_dropped == 0
    connected, carried_out, ended = told
    assert isinstance(connected, ConnectionOpened)
    assert (connected.user_id, connected.client_address) == ("anna", "127.0.0.1")
    assert isinstance(carried_out, FrameCarriedOut)
    assert (carried_out.message, carried_out.ref) == (Read(up_to=0), "mine")
    assert isinstance(ended, ConnectionClosed)
    assert ended.connection_id == connected.connection_id == carried_out.connection_id


async def test_each_event_is_told_to_one_of_several_applications(
    settings: Settings, nats: NatsServer, gateway: Gateway
) -> None:
    told: list[list[ConnectionOpened]] = [[], []]
    hooks = [Hooks(), Hooks()]
    for several, where in zip(hooks, told, strict=True):
        several.on_connect(where.append)
    async with (
        app_node(settings, nats, hooks[0]),
        app_node(settings, nats, hooks[1]),
        opened_many(gateway.server, ("anna", "client"), ("citra", "admin"), count=8),
    ):
        await until(lambda: sum(map(len, told)) == 16, "every connection")
    ids = [event.connection_id for where in told for event in where]
    assert len(set(ids)) == len(ids) == 16


async def test_without_a_link_it_says_so_and_the_rest_goes_on(
    settings: Settings, nats: NatsServer, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await nats.stop()
    monkeypatch.setattr(app_cluster, "_CONNECT_SECONDS", 0.1)
    async with open_app_node(msgspec.structs.replace(settings, nats_url=(nats.url,))) as node:
        assert node.conditions.nats is False
        with pytest.raises(ServerStoppedError, match="for NATS is; try again later"):
            node.disconnect("0-1", 4500)
        await nats.restart()
        await until(lambda: node.conditions.nats, "the link")


async def test_a_file_that_cannot_be_used_is_named(settings: Settings) -> None:
    wrong = msgspec.structs.replace(settings, nats_url=("nats://127.0.0.1:1",), nats_ca="/does/not/exist")
    with pytest.raises(ConfigurationError, match="JASAWEB_RT_NATS_CA: "):
        AppNode(wrong)
