"""The asyncio client against a whole server: nothing lost, nothing twice, whatever happens to its connection."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest

from jasaweb_rt.client import Frame, RealtimeClient
from tests.support.people import bearer
from tests.support.program import Program
from tests.support.tcp_relay import TcpRelay, tcp_relay


@pytest.fixture
async def relay(server: Program) -> AsyncIterator[TcpRelay]:
    """Stands between client and server, to be cut."""
    async with tcp_relay("127.0.0.1", int((await server.url()).rsplit(":", 1)[1])) as relay:
        yield relay


def client_of(http: httpx.AsyncClient, relay: TcpRelay, **options: int | str) -> RealtimeClient:
    async def fetch_token() -> str:
        token: str = (await http.post("/api/websocket/token", headers=bearer("client"))).json()["token"]
        return token

    return RealtimeClient(f"ws://127.0.0.1:{relay.port}/ws", fetch_token, **options)  # type: ignore[arg-type]


async def store(connection: asyncpg.Connection, *names: str) -> None:
    await connection.execute(
        "insert into public.real_time_notifications (id, user_id, type, title, message) "
        "select name, 'client', 'user_message', name, name from unnest($1::text[]) with ordinality as n (name, i) "
        "order by i",
        names,
    )


async def until_type(client: RealtimeClient, kind: str) -> Frame:
    async with asyncio.timeout(30):
        async for frame in client:
            if frame["type"] == kind:
                return frame
    raise AssertionError("it ended")


async def test_it_resumes_where_it_was_cut_off(
    http: httpx.AsyncClient, relay: TcpRelay, connection: asyncpg.Connection
) -> None:
    async with client_of(http, relay) as client:
        await until_type(client, "sync")
        assert client.last_seq == 0
        await store(connection, "n1", "n2")
        assert [(await until_type(client, "user_message"))["id"] for _ in range(2)] == ["n1", "n2"]
        await relay.cut()
        await store(connection, "n3", "n4")
        await relay.start()
        assert (await until_type(client, "sync"))["data"]["resumedFrom"] == 2
        assert [(await until_type(client, "user_message"))["seq"] for _ in range(2)] == [3, 4]
        await store(connection, "n5")
        assert (await until_type(client, "user_message"))["id"] == "n5"
        assert (client.last_seq, client.unread) == (5, 5)
        await connection.execute("update public.real_time_notifications set read_at = now()")
        await until_type(client, "read")
        assert client.unread == 0


async def test_a_position_can_be_taken_along(
    http: httpx.AsyncClient, relay: TcpRelay, connection: asyncpg.Connection
) -> None:
    await store(connection, "n1", "n2", "n3")
    async with client_of(http, relay, last_seq=1) as client:
        assert (await until_type(client, "sync"))["data"]["resumedFrom"] == 1
        assert [(await until_type(client, "user_message"))["id"] for _ in range(2)] == ["n2", "n3"]
        position = {"last_seq": client.last_seq, "epoch": client.epoch}
    await store(connection, "n4")
    async with client_of(http, relay, **position) as client:  # type: ignore[arg-type]
        assert (await until_type(client, "user_message"))["id"] == "n4"
    async with client_of(http, relay, last_seq=1, epoch="another-database") as client:
        resync = await until_type(client, "resync")
        assert (resync["data"]["fromSeq"], client.last_seq) == (0, 4)
        await store(connection, "n5")
        assert (await until_type(client, "user_message"))["id"] == "n5"
