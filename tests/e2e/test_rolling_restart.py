"""Three nodes behind a load balancer, restarted one after the other under load: nobody misses anything."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

from tests.support.balancer import balancer
from tests.support.databases import add_users
from tests.support.nats_server import nats_server
from tests.support.ports import free_port
from tests.support.program import Program, environment, program
from tests.support.roamers import Roamer, roaming, write_for_ever
from tests.support.sockets import until

NODES = 3
USERS = [f"user-{number}" for number in range(50)]
TABS = 3


async def start(stack: AsyncExitStack, folder: Path, database_url: str, nats_url: str, port: int) -> Program:
    settings = {"NATS_URL": nats_url, "MAX_CONNECTIONS_PER_IP": "0", "CONNECT_RATE_PER_IP": "0", "WORKERS": "2"}
    environ = environment(database_url, PORT=str(port), **settings)
    node = await stack.enter_async_context(program(folder, environ, "serve"))
    await node.url()
    return node


@pytest.mark.timeout(600)
async def test_a_rolling_restart_loses_nothing(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await add_users(connection, *((user_id, "client") for user_id in USERS))
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(nats_server(tmp_path))
        ports = [free_port() for _ in range(NODES)]
        nodes = {port: await start(stack, tmp_path, database_url, nats.url, port) for port in ports}
        balance = await stack.enter_async_context(balancer(ports))
        await until(lambda: all(map(balance.is_ready, ports)), "three nodes that are ready")
        url = f"ws://127.0.0.1:{balance.port}/ws"
        clients = await stack.enter_async_context(roaming(USERS * TABS, url))
        await until(lambda: all(client.joined for client in clients), "everybody's first connection")
        assert all(balance.served.values())
        writing = asyncio.ensure_future(write_for_ever(database_url, USERS))
        try:
            for port in ports:
                assert await nodes[port].end(signal.SIGTERM) == 0, nodes[port].output
                nodes[port] = await start(stack, tmp_path, database_url, nats.url, port)
                await until(lambda port=port: balance.is_ready(port), "a node that is back")  # type: ignore[misc]
                await until(lambda: all(client.connected for client in clients), "everybody's return")
        finally:
            writing.cancel()
            await asyncio.wait([writing])
        await everybody_has_everything(connection, clients)
        assert sum(client.joined for client in clients) >= 2 * len(clients), "each was closed, and came back"
        assert all("Traceback" not in node.output for node in nodes.values())


async def everybody_has_everything(connection: asyncpg.Connection, clients: list[Roamer]) -> None:
    rows = await connection.fetch("select user_id, head_seq from jasaweb_rt.counters")
    heads = {row["user_id"]: row["head_seq"] for row in rows}
    await until(lambda: all(len(client.seen) >= heads[client.user_id] for client in clients), "the last of everything")
    for client in clients:
        assert client.seen == list(range(1, heads[client.user_id] + 1)), client.user_id
