"""Leases, the rows of nodes that died, and what is too old."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from websockets.asyncio.client import connect

from jasaweb_rt.database import locks, nodes
from jasaweb_rt.database.pool import acquire
from jasaweb_rt.upkeep import Pace, Upkeep
from tests.support.databases import add_users
from tests.support.program import TOKEN_SECRET, environment, program
from tests.support.recording import leases_become, recording, states, states_become
from tests.support.sockets import frame, opened, opened_many
from tests.support.tokens import connection_token

IN_SMALL_STEPS = Pace(pause=0.0, batch=3)
ROW = """insert into public.websocket_connections (id, user_id, connection_id, status, last_activity)
         values ($1, 'anna', $2, $3::text::public."ConnectionStatus", now() - make_interval(days => $4))"""
MESSAGE = """insert into public.websocket_messages (id, connection_id, message_type, payload, sent_at)
             select 'message-' || n || $1, $1, 'x', '{}', now() - make_interval(days => $2)
             from generate_series(1, $3) n"""


async def lapse(connection: asyncpg.Connection, node_id: str | None = None) -> None:
    """Moves the last renewal of a node, or of all, into the past."""
    await connection.execute(
        "update jasaweb_rt.nodes set renewed_at = now() - interval '41 s' where $1::text is null or node_id = $1",
        node_id,
    )


@pytest.fixture
def upkeep(pool: asyncpg.Pool) -> Callable[..., Upkeep]:
    """That of another node."""

    def make(days: int = 30) -> Upkeep:
        return Upkeep(lambda: acquire(pool), "another", retention_days=days, on_lapse=lambda: None, pace=IN_SMALL_STEPS)

    return make


async def test_a_killed_servers_connections_are_closed_by_the_next(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await add_users(connection, ("anna", "client"))
    environ = environment(database_url, DRAIN_SECONDS="15")
    token = connection_token("anna", secret=TOKEN_SECRET)
    async with program(tmp_path, environ, "serve") as server:
        url = (await server.url()).replace("http", "ws")
        async with connect(f"{url}/ws?token={token}") as socket:
            await frame(socket)
            await states_become(connection, ("anna", "active"))
            await leases_become(connection, 1)
            await server.end(signal.SIGKILL)
    assert await states(connection) == [("anna", "active")]
    await lapse(connection)
    async with program(tmp_path, environ, "serve") as server:
        await server.url()
        await states_become(connection, ("anna", "timeout"))
        await server.line("has died; its 1 connections")
        assert await server.end(signal.SIGTERM) == 0
    assert await connection.fetchval("select count(*) from jasaweb_rt.nodes") == 0


async def test_only_rows_of_the_dead_are_closed(
    database_url: str, connection: asyncpg.Connection, upkeep: Callable[..., Upkeep]
) -> None:
    await add_users(connection, ("anna", "client"), ("budi", "client"))
    await connection.execute(ROW, "f1", "of-another-program", "active", 100)
    await connection.execute(ROW, "f2", "dead", "active", 100)
    await connection.execute(ROW, "f3", "deader-1", "active", 100)
    for number in range(10):
        await connection.execute(ROW, f"d{number}", f"dead-{number}", "active", 0)
    await connection.execute(ROW, "d", "dead-a", "error", 0)
    await connection.execute("insert into jasaweb_rt.nodes (node_id) values ('dead')")
    await lapse(connection)
    async with recording(database_url) as (server, recorder, _), opened(server, "budi"):
        await recorder.record()
        await recorder.upkeep.renew()
        await upkeep().renew()
    rows = await connection.fetch("select id, status::text from public.websocket_connections where user_id = 'anna'")
    status = dict(map(tuple, rows))
    assert [status.pop(f"f{number}") for number in (1, 2, 3)] == ["active"] * 3
    assert status.pop("d") == "error"
    assert set(status.values()) == {"timeout"}
    assert ("budi", "active") in await states(connection)


async def test_a_node_that_was_taken_for_dead_comes_back(
    database_url: str, connection: asyncpg.Connection, upkeep: Callable[..., Upkeep]
) -> None:
    await add_users(connection, ("anna", "client"))
    async with recording(database_url) as (server, recorder, _), opened_many(server, ("anna", "client"), count=7):
        await recorder.upkeep.renew()
        await recorder.record()
        await lapse(connection, server.node_id)
        await upkeep().renew()
        assert await states(connection) == [("anna", "timeout")] * 7
        await recorder.record()
        assert await states(connection) == [("anna", "timeout")] * 7, "nobody knows yet"
        await recorder.upkeep.renew()
        await recorder.record()
        assert await states(connection) == [("anna", "active")] * 7
        await upkeep().renew()
        assert await states(connection) == [("anna", "active")] * 7


async def test_who_comes_back_in_the_middle_of_it_is_left_in_peace(connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"))
    for number in range(4):
        await connection.execute(ROW, f"s{number}", f"slow-{number}", "active", 0)
    assert not await nodes.renew(connection, "slow")
    assert await nodes.renew(connection, "slow")
    await lapse(connection)
    assert await nodes.find_lapsed(connection, 40) == ["slow"]
    assert await nodes.time_out_connections(connection, "slow", 2) == 2
    assert not await nodes.renew(connection, "slow")
    assert await nodes.time_out_connections(connection, "slow", 2) == 0
    assert sorted(status for _, status in await states(connection)) == ["active", "active", "timeout", "timeout"]
    assert await nodes.renew(connection, "slow"), "its lease was removed"


async def test_a_lease_stays_as_long_as_a_row_of_its_node_is_open(
    database_url: str, connection: asyncpg.Connection, upkeep: Callable[..., Upkeep]
) -> None:
    await add_users(connection, ("anna", "client"))
    for number in range(2):
        await connection.execute(ROW, f"d{number}", f"dead-{number}", "active", 0)
    await connection.execute("insert into jasaweb_rt.nodes (node_id) values ('dead')")
    await lapse(connection)
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("select from public.websocket_connections where id = 'd0' for update")
            await upkeep().renew()
            assert sorted(await states(connection)) == [("anna", "active"), ("anna", "timeout")]
    finally:
        await other.close()
    await upkeep().renew()
    assert await states(connection) == [("anna", "timeout")] * 2
    assert await connection.fetch("select node_id from jasaweb_rt.nodes") == [("another",)]


async def test_what_is_too_old_is_deleted_and_nothing_else(
    connection: asyncpg.Connection, upkeep: Callable[..., Upkeep]
) -> None:
    await add_users(connection, ("anna", "client"))
    for name, status, days in [("old", "timeout", 31), ("open", "active", 31), ("new", "error", 29)]:
        await connection.execute(ROW, name, name, status, days)
        await connection.execute(MESSAGE, name, days, 10)
    await upkeep().delete_old()
    assert await connection.fetch("select id from public.websocket_connections order by id") == [("new",), ("open",)]
    kept = await connection.fetch("select distinct connection_id from public.websocket_messages")
    assert kept == [("new",)]


async def test_a_message_is_kept_for_its_own_time(
    connection: asyncpg.Connection, upkeep: Callable[..., Upkeep]
) -> None:
    """Also where its connection's last activity is older, as that of a client who never said anything."""
    await add_users(connection, ("anna", "client"))
    await connection.execute(ROW, "silent", "silent", "disconnected", 31)
    await connection.execute(MESSAGE, "silent", 2, 2)
    await upkeep().delete_old()
    assert await connection.fetchval("select count(*) from public.websocket_messages") == 2
    await upkeep(1).delete_old()
    assert await states(connection) == []


async def test_what_is_to_be_kept_for_ever_is(connection: asyncpg.Connection, upkeep: Callable[..., Upkeep]) -> None:
    await add_users(connection, ("anna", "client"))
    await connection.execute(ROW, "old", "old", "timeout", 3000)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(upkeep(0).run_retention(), 0.2)
    assert await states(connection) == [("anna", "timeout")]


async def test_clearing_away_waits_for_nobody(
    database_url: str, connection: asyncpg.Connection, upkeep: Callable[..., Upkeep]
) -> None:
    await add_users(connection, ("anna", "client"))
    await connection.execute(ROW, "old", "old", "active", 31)
    await connection.execute(MESSAGE, "old", 31, 10)
    count = "select count(*) from public.websocket_messages"
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("select from public.websocket_messages where id = 'message-1old' for update")
            await upkeep().delete_old()
            assert await connection.fetchval(count) == 1
        await connection.execute("update public.websocket_connections set status = 'error'")
        async with other.transaction():
            await other.execute("select from public.websocket_messages where id = 'message-1old' for update")
            await asyncio.wait_for(upkeep().delete_old(), 20)
            assert await connection.fetchval(count) == 1
        async with other.transaction():
            assert await locks.try_lock_for_transaction(other, locks.RETENTION_LOCK)
            await upkeep().delete_old()
            assert await connection.fetchval(count) == 1, "another node is at it"
        await upkeep().delete_old()
        assert await connection.fetchval(count) == 0
    finally:
        await other.close()
