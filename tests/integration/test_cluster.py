"""Several gateways on one database and one NATS: wherever a client is, it gets everything, once and in order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection

from jasaweb_rt import cluster as clusters
from jasaweb_rt.config import Settings
from jasaweb_rt.database import notifications, outbox
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.realtime import Realtime
from tests.integration.test_gateway import insert
from tests.support.databases import add_users
from tests.support.nats_server import NatsServer, nats_server
from tests.support.sockets import WAIT_SECONDS, closed, frame, opened, until
from tests.support.tcp_relay import TcpRelay, tcp_relay

NewNode = Callable[..., Any]


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with nats_server(tmp_path) as server:
        yield server


@pytest.fixture
async def new_node(
    settings: Settings, database_url: str, nats: NatsServer, connection: asyncpg.Connection
) -> AsyncIterator[NewNode]:
    """Starts a node that is linked to NATS, directly or `through` a relay; other arguments are settings."""
    await add_users(connection, ("anna", "client"), ("budi", "client"), ("citra", "admin"))
    nodes: list[Gateway] = []

    async def new(*, through: TcpRelay | None = None, **options: Any) -> Gateway:
        url = nats.url if through is None else f"nats://127.0.0.1:{through.port}"
        node = Gateway(msgspec.structs.replace(settings, nats_url=(url,), **options), database_url)
        nodes.append(node)
        await asyncio.to_thread(node.start)
        await until(lambda: node.link.is_up, "the link to NATS")
        return node

    yield new
    await asyncio.gather(*(asyncio.to_thread(node.stop, 1) for node in nodes))


@asynccontextmanager
async def joined(*nodes: Gateway, user_id: str = "anna", role: str = "client") -> AsyncIterator[list[ClientConnection]]:
    """A socket of somebody at each node, whose `sync` was read."""
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(opened(node.server, user_id, role)) for node in nodes]
        for socket in sockets:
            assert (await frame(socket))["type"] == "sync"
        yield sockets


async def durable(socket: ClientConnection, last: int) -> list[int]:
    """The numbers of the durable frames up to `last`."""
    found: list[int] = []
    while not found or found[-1] < last:
        if "seq" in (message := await frame(socket)):
            found.append(message["seq"])
    return found


async def test_a_commit_reaches_a_user_at_every_node(new_node: NewNode, connection: asyncpg.Connection) -> None:
    nodes = [await new_node() for _ in range(3)]
    async with joined(*nodes, nodes[0]) as sockets, joined(nodes[2], user_id="budi") as (other,):
        for first in range(1, 40, 3):
            await insert(connection, "anna", first, first + 2)
        for socket in sockets:
            assert await durable(socket, 39) == list(range(1, 40))
        await insert(connection, "budi", 1, 1)
        assert (await frame(other))["id"] == "budi-1"


async def test_who_moves_to_another_node_goes_on_where_they_were(
    new_node: NewNode, connection: asyncpg.Connection
) -> None:
    first, second = await new_node(), await new_node()
    async with joined(first) as (socket,):
        await insert(connection, "anna", 1, 3)
        assert await durable(socket, 3) == [1, 2, 3]
    await insert(connection, "anna", 4, 5)
    async with opened(second.server, "anna", query="?last_seq=3") as socket:
        sync = await frame(socket)
        assert (sync["type"], sync["data"]["resumedFrom"]) == ("sync", 3)
        await insert(connection, "anna", 6, 6)
        assert await durable(socket, 6) == [4, 5, 6]


async def test_direct_sends_reach_other_nodes(new_node: NewNode) -> None:
    here, there = await new_node(), await new_node()
    async with joined(there) as (anna,), joined(there, user_id="citra", role="admin") as (citra,):
        here.realtime.broadcast_to_user("anna", '{"type": "x", "to": "anna"}')
        assert (await frame(anna))["to"] == "anna"
        here.realtime.broadcast_many([("anna", '{"to": "one"}'), ("citra", '{"to": "two"}')])
        assert ((await frame(anna))["to"], (await frame(citra))["to"]) == ("one", "two")
        here.realtime.broadcast_to_admins('{"to": "admins"}')
        here.realtime.broadcast_to_clients('{"to": "clients"}')
        here.realtime.broadcast_to_all('{"to": "all"}')
        assert [(await frame(citra))["to"] for _ in range(2)] == ["admins", "all"]
        assert [(await frame(anna))["to"] for _ in range(2)] == ["clients", "all"]


async def test_what_is_read_on_one_device_is_read_at_every_node(
    new_node: NewNode, connection: asyncpg.Connection
) -> None:
    nodes = [await new_node(), await new_node()]
    async with joined(*nodes) as sockets:
        await insert(connection, "anna", 1, 3)
        for socket in sockets:
            await durable(socket, 3)
        await notifications.mark_read_ids(connection, "anna", ["anna-2"])
        for socket in sockets:
            read = await frame(socket)
            assert (read["type"], read["data"]["ids"], read["data"]["unread"]) == ("read", ["anna-2"], 2)


async def test_an_administrator_closes_a_connection_of_another_node(new_node: NewNode) -> None:
    here, there = await new_node(), await new_node()
    async with joined(there) as (socket,):
        (info,) = there.server.connections()
        assert here.server.disconnect(info.connection_id, 4500)
        assert await closed(socket) == (4500, "Disconnected by an administrator")


async def test_a_user_has_no_more_connections_on_many_nodes_than_on_one(new_node: NewNode) -> None:
    first, second = await new_node(max_connections_per_user=2), await new_node(max_connections_per_user=2)
    async with joined(first) as (oldest,), joined(first) as (older,), joined(second) as (newest,):
        assert await closed(oldest) == (4004, "Replaced by a newer connection")
        first.realtime.broadcast_to_user("anna", '{"to": "anna"}')
        assert [(await frame(socket))["to"] for socket in (older, newest)] == ["anna", "anna"]


async def test_without_nats_everybody_gets_everything_a_little_later(
    new_node: NewNode, nats: NatsServer, connection: asyncpg.Connection
) -> None:
    nodes = [await new_node(), await new_node()]
    async with joined(*nodes) as sockets:
        nats.kill()
        await until(lambda: not any(node.link.is_up for node in nodes), "both nodes to notice")
        await insert(connection, "anna", 1, 5)
        for socket in sockets:
            assert await durable(socket, 5) == [1, 2, 3, 4, 5]
        await nats.restart()
        await until(lambda: all(node.link.is_up for node in nodes), "both nodes to come back")
        await insert(connection, "anna", 6, 9)
        for socket in sockets:
            assert await durable(socket, 9) == [6, 7, 8, 9]


async def test_a_leader_without_a_link_leaves_the_lead(
    new_node: NewNode, nats: NatsServer, connection: asyncpg.Connection
) -> None:
    async with tcp_relay(nats.host, nats.port) as way:
        cut_off = await new_node(through=way)
        await until(lambda: cut_off.is_relay_ready)
        async with asyncio.timeout(WAIT_SECONDS):
            while not await outbox.is_led(connection):
                await asyncio.sleep(0.01)
        others = [await new_node(), await new_node()]
        async with joined(cut_off, *others) as sockets:
            await way.cut()
            await until(lambda: not cut_off.link.is_up, "the node to notice")
            # One at a time, so that the lead changes somewhere between them.
            for number in range(1, 21):
                await insert(connection, "anna", number, number)
                for socket in sockets[1:]:
                    assert await durable(socket, number) == [number]
            assert await durable(sockets[0], 20) == list(range(1, 21))


async def test_sessions_that_join_while_much_is_sent_miss_nothing(
    new_node: NewNode, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is lost at the join would stay so: nothing is compared.
    monkeypatch.setattr(clusters, "_SETTLE_SECONDS", 3600.0)
    nodes = [await new_node() for _ in range(3)]
    number = 0
    for _ in range(10):
        async with AsyncExitStack() as stack:
            for node in nodes:
                socket = await stack.enter_async_context(opened(node.server, "anna"))
                number += 1
                await insert(connection, "anna", number, number)
                sync = await frame(socket)
                head = sync["data"]["headSeq"]
                number += 1
                await insert(connection, "anna", number, number)
                assert await durable(socket, number) == list(range(head + 1, number + 1))


async def test_a_program_without_a_server_reaches_users_at_every_node(
    new_node: NewNode, nats: NatsServer, connection: asyncpg.Connection
) -> None:
    async with joined(await new_node(), await new_node()) as sockets, Realtime.connect(nats.url) as realtime:
        assert realtime.broadcast_to_user("anna", '{"to": "anna"}') == 0
        async with connection.transaction():
            notified = await realtime.notify("anna", "user_message", title="T", message="M", connection=connection)
        for socket in sockets:
            found = [await frame(socket) for _ in range(2)]
            assert {message.get("to", message.get("id")) for message in found} == {"anna", notified}


async def test_a_program_that_reaches_no_nats_is_told_so(nats: NatsServer) -> None:
    nats.kill()
    with pytest.raises(ConnectionError):
        async with Realtime.connect(nats.url, timeout_seconds=0.5):
            pass
