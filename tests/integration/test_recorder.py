"""`websocket_connections`: each connection a row, with the status that its end truly had."""

import asyncio
import socket
import struct
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest
from websockets.frames import Frame, Opcode

from jasaweb_rt.config import Settings
from jasaweb_rt.exceptions import DatabaseUnavailableError
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.recorder import Limits
from tests.support.databases import add_users, away
from tests.support.recording import AT_ONCE, leases_become, recording, states, states_become
from tests.support.sockets import closed, frame, opened, opened_many, until


async def test_a_connection_is_written_down_while_it_is_open_and_when_it_ends(
    gateway: Gateway, connection: asyncpg.Connection
) -> None:
    began = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=1)
    async with opened(gateway.server, "anna", user_agent_header="phone/1"):
        [info] = gateway.server.connections()
        await states_become(connection, ("anna", "active"))
        row = await connection.fetchrow("select * from public.websocket_connections")
    assert (row["connection_id"], row["client_ip"], row["user_agent"]) == (info.connection_id, "127.0.0.1", "phone/1")
    assert began < row["connected_at"] <= row["last_activity"]
    assert row["connected_at"].timestamp() == pytest.approx(datetime.now(UTC).replace(tzinfo=None).timestamp(), abs=60)
    await states_become(connection, ("anna", "disconnected"))


async def test_an_administrators_disconnect(gateway: Gateway, connection: asyncpg.Connection) -> None:
    async with opened(gateway.server, "anna") as socket:
        [info] = gateway.server.connections()
        gateway.server.disconnect(info.connection_id)
        assert (await closed(socket))[0] == 4500
    await states_become(connection, ("anna", "disconnected"))


async def test_a_line_that_breaks_and_one_that_just_ends(gateway: Gateway, connection: asyncpg.Connection) -> None:
    async with opened(gateway.server, "anna") as broken, opened(gateway.server, "budi") as ended:
        # What came and was not read makes a reset of any close.
        await frame(broken), await frame(ended)
        # Without lingering, a close is a reset (RFC 9293 section 3.10.4).
        raw = broken.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        broken.transport.abort()
        ended.transport.abort()
        await states_become(connection, ("anna", "error"), ("budi", "disconnected"))


async def test_a_silent_client(settings: Settings, database_url: str, connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"))
    gateway = Gateway(msgspec.structs.replace(settings, ping_interval=0.1, pong_timeout=0.3), database_url)
    await asyncio.to_thread(gateway.start)
    try:
        async with opened(gateway.server, "anna") as silent:
            # The library answers pings when it reads them; this one stops to.
            silent.transport.pause_reading()
            await states_become(connection, ("anna", "timeout"))
            silent.transport.resume_reading()
    finally:
        await asyncio.to_thread(gateway.stop, 1)


async def test_a_breach_of_the_protocol(gateway: Gateway, connection: asyncpg.Connection) -> None:
    async with opened(gateway.server, "anna") as binary, opened(gateway.server, "budi") as garbled:
        await binary.send(b"\x00")
        garbled.transport.write(Frame(Opcode.TEXT, b"\xff\xff").serialize(mask=True))
        assert ((await closed(binary))[0], (await closed(garbled))[0]) == (1003, 1007)
    await states_become(connection, ("anna", "error"), ("budi", "error"))


async def test_a_stop_closes_every_row_and_gives_the_lease_back(
    gateway: Gateway, connection: asyncpg.Connection
) -> None:
    async with opened_many(gateway.server, ("anna", "client"), count=5):
        await states_become(connection, *[("anna", "active")] * 5)
        await leases_become(connection, 1)
        await asyncio.to_thread(gateway.stop, 1)
        assert await states(connection) == [("anna", "disconnected")] * 5
    assert await connection.fetchval("select count(*) from jasaweb_rt.nodes") == 0


async def test_one_unknown_user_and_one_odd_row_fail_nobody(database_url: str, connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"), ("budi", "client"))
    await connection.execute("alter table public.websocket_connections add check (user_agent <> 'odd')")
    async with (
        recording(database_url) as (server, recorder, _),
        opened_many(server, ("anna", "client"), ("nobody", "client"), count=3),
        opened(server, "budi", user_agent_header="odd"),
        opened(server, "budi"),
    ):
        await recorder.record()
        assert await states(connection) == [("anna", "active")] * 3 + [("budi", "active")]
        assert recorder.waiting == 0


async def test_opened_and_closed_within_a_batch(database_url: str, connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"))
    async with recording(database_url) as (server, recorder, _):
        async with opened(server, "anna"):
            pass
        # It is told before it is taken off this count.
        await until(lambda: server.stats().connections == 0)
        await recorder.record()
        assert await states(connection) == [("anna", "disconnected")]


async def test_a_burst_beyond_the_bounds_is_made_good(database_url: str, connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"))
    limits = msgspec.structs.replace(AT_ONCE, max_waiting=3)
    async with recording(database_url, limits=limits) as (server, recorder, _):
        async with opened_many(server, ("anna", "client"), count=10):
            await until(lambda: recorder.waiting == 3 and recorder.drops.connection_rows == 7)
            while len(await states(connection)) < 10:
                await recorder.record()
            assert await states(connection) == [("anna", "active")] * 10
        await until(lambda: server.stats().connections == 0)
        while await states(connection) != [("anna", "disconnected")] * 10:
            await recorder.record()


async def test_without_a_single_event_the_rows_follow_the_core(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await add_users(connection, ("anna", "client"), ("budi", "client"))
    async with recording(database_url, deaf=True) as (server, recorder, _), opened(server, "budi"):
        async with opened(server, "anna"):
            await recorder.record()
            assert await states(connection) == [("anna", "active"), ("budi", "active")]
        await until(lambda: server.stats().connections == 1)
        await recorder.record()
        assert ("anna", "active") in await states(connection), "its end may be on the way"
        await recorder.record()
        assert await states(connection) == [("anna", "disconnected"), ("budi", "active")]


async def test_last_activity_is_noted_only_now_and_then(database_url: str, connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"), ("budi", "client"))
    activity = "select user_id, last_activity, xmin::text from public.websocket_connections order by user_id"
    async with (
        # A ping would not leave the silent one silent.
        recording(database_url, message_rate=0, ping_interval=0) as (server, recorder, _),
        opened(server, "anna") as lively,
        opened(server, "budi"),
    ):
        await recorder.record()
        before = await connection.fetch(activity)

        async def noted() -> None:
            while (await connection.fetch(activity))[0] == before[0]:
                await lively.send("{}")
                await recorder.record()

        await asyncio.wait_for(noted(), 20)
        after = await connection.fetch(activity)
    assert after[0]["last_activity"] - before[0]["last_activity"] > timedelta(seconds=0.99)
    assert after[1] == before[1], "the row of a silent connection was written"


async def test_of_many_who_were_active_those_furthest_behind_are_noted_first(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await add_users(connection, ("anna", "client"), ("budi", "client"))
    activity = "select last_activity from public.websocket_connections order by user_id"
    limits = msgspec.structs.replace(AT_ONCE, max_touched=1)
    async with (
        recording(database_url, limits=limits, message_rate=0, ping_interval=0) as (server, recorder, _),
        opened(server, "anna") as anna,
        opened(server, "budi") as budi,
    ):
        await recorder.record()
        moved: set[int] = set()
        before = await connection.fetch(activity)

        async def both_noted() -> None:
            while len(moved) < 2:
                await anna.send("{}")
                await budi.send("{}")
                last = await connection.fetch(activity)
                await recorder.record()
                now = await connection.fetch(activity)
                changed = {place for place in range(2) if now[place] != last[place]}
                assert len(changed) <= 1
                # Who was noted waits until the other one has been.
                assert not changed & moved
                moved.update(changed)

        await asyncio.wait_for(both_noted(), 20)
        assert before != await connection.fetch(activity)


async def test_while_the_database_is_away_rows_wait(postgres_url: str, database_url: str) -> None:
    async with await asyncpg.create_pool(database_url, min_size=1) as pool:
        await add_users(pool, ("anna", "client"), ("budi", "client"))
    async with recording(database_url) as (server, recorder, pool), opened(server, "budi"):
        await recorder.record()
        async with opened(server, "anna"):
            async with away(postgres_url, database_url):
                await until(lambda: recorder.waiting == 1)
                with pytest.raises(DatabaseUnavailableError):
                    await recorder.record()
                assert recorder.waiting == 1
            await recorder.record()
            assert await states(pool) == [("anna", "active"), ("budi", "active")]


async def test_enough_rows_are_written_without_waiting_for_the_second(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await add_users(connection, ("anna", "client"))
    limits = Limits(write_seconds=3600, write_rows=1, reconcile_seconds=3600)
    async with recording(database_url, limits=limits) as (server, recorder, _):
        running = asyncio.ensure_future(recorder.run())
        try:
            async with opened_many(server, ("anna", "client"), count=5):
                await states_become(connection, *[("anna", "active")] * 5)
        finally:
            running.cancel()
            await asyncio.wait([running])
