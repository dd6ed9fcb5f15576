"""`websocket_messages`: exactly what each connection was sent, and whether it arrived."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection

from jasaweb_rt import message_log as bookkeeping
from jasaweb_rt.config import Settings
from jasaweb_rt.database import message_log
from jasaweb_rt.database.message_log import Proof, SentRange
from jasaweb_rt.database.pool import create_pool
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.recorder import Limits
from tests.support.databases import add_users, away
from tests.support.recording import AT_ONCE, as_logged, delivered, logged, recording
from tests.support.sockets import WAIT_SECONDS, frame, frames, opened, until

INSERT = """insert into public.real_time_notifications (id, user_id, type, title, message, data)
            select $1 || '-' || n, $1, 'project_update', 'Title ' || n, 'Message', '{"projectId": "p"}'
            from generate_series($2::int, $3::int) n order by n"""


async def id_of(gateway: Gateway, user_id: str) -> str:
    found = [info.connection_id for info in gateway.server.connections() if info.user_id == user_id]
    assert len(found) == 1
    return found[0]


async def through(socket: ClientConnection, seq: int) -> list[dict[str, Any]]:
    """Frames up to the one with this seq."""
    received = [await frame(socket)]
    while received[-1].get("seq") != seq:
        received.append(await frame(socket))
    return received


async def log_becomes(connection: asyncpg.Connection, connection_id: str, received: list[dict[str, Any]]) -> None:
    """Waits until what was written down is what was received."""
    expected = as_logged(received)
    assert expected
    async with asyncio.timeout(WAIT_SECONDS):
        while len(found := await logged(connection, connection_id)) < len(expected):
            await asyncio.sleep(0.02)
    assert found == expected


async def delivered_become(connection: asyncpg.Connection, expected: dict[int, bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while await delivered(connection) != expected:
            await asyncio.sleep(0.02)


async def test_each_connection_has_a_row_for_each_durable_frame(
    gateway: Gateway, connection: asyncpg.Connection
) -> None:
    async with (
        opened(gateway.server, "anna") as phone,
        opened(gateway.server, "budi") as budi,
        opened(gateway.server, "citra", "admin") as citra,
    ):
        for socket in (phone, budi, citra):
            await frame(socket)
        by_phone, by_budi = await id_of(gateway, "anna"), await id_of(gateway, "budi")
        async with opened(gateway.server, "anna") as laptop:
            await frame(laptop)
            ids = [info.connection_id for info in gateway.server.connections() if info.user_id == "anna"]
            [by_laptop] = set(ids) - {by_phone}
            await connection.execute(INSERT, "anna", 1, 40)
            await connection.execute(INSERT, "budi", 1, 3)
            gateway.realtime.broadcast_to_all('{"type": "direct", "data": {}}')
            on_phone, on_laptop = await frames(phone, 41), await frames(laptop, 41)
        await connection.execute(INSERT, "anna", 41, 45)
        on_phone += await frames(phone, 5)
        on_budi = await frames(budi, 4)
        await log_becomes(connection, by_phone, on_phone)
        await log_becomes(connection, by_laptop, on_laptop)
        await log_becomes(connection, by_budi, on_budi)
    assert await connection.fetchval("select count(*) from public.websocket_messages") == 45 + 40 + 3


async def test_what_is_replayed_is_logged_for_who_got_it(gateway: Gateway, connection: asyncpg.Connection) -> None:
    await connection.execute(INSERT, "anna", 1, 300)
    await connection.execute("delete from public.real_time_notifications where id = 'anna-7'")
    async with opened(gateway.server, "anna", query="?last_seq=5") as socket:
        connection_id = await id_of(gateway, "anna")
        await connection.execute(INSERT, "anna", 301, 310)
        received = await through(socket, 310)
        assert len(as_logged(received)) == 304
        await log_becomes(connection, connection_id, received)


async def test_what_a_resync_leaves_to_http_is_not_logged(gateway: Gateway, connection: asyncpg.Connection) -> None:
    await connection.execute(INSERT, "anna", 1, 600)
    async with opened(gateway.server, "anna", query="?last_seq=3") as socket:
        connection_id = await id_of(gateway, "anna")
        assert (await frame(socket))["type"] == "resync"
        await connection.execute(INSERT, "anna", 601, 605)
        received = await frames(socket, 5)
        await log_becomes(connection, connection_id, received)


async def test_a_gap_beyond_the_replay_breaks_the_range(gateway: Gateway, connection: asyncpg.Connection) -> None:
    async with opened(gateway.server, "anna") as socket:
        connection_id = await id_of(gateway, "anna")
        await frame(socket)
        await connection.execute(INSERT, "anna", 1, 2)
        received = await frames(socket, 2)
        # Committed and numbered, but never relayed.
        async with connection.transaction():
            await connection.execute(INSERT, "anna", 3, 700)
            await connection.execute("delete from jasaweb_rt.outbox")
        await connection.execute(INSERT, "anna", 701, 701)
        assert (await frame(socket))["type"] == "resync"
        await connection.execute(INSERT, "anna", 702, 703)
        received += await frames(socket, 2)
        assert [item["seq"] for item in received] == [1, 2, 702, 703]
        await log_becomes(connection, connection_id, received)


async def test_odd_rows_are_logged_as_they_were_sent(gateway: Gateway, connection: asyncpg.Connection) -> None:
    data = [
        None,
        "null",
        "[1, 2]",
        "7",
        '{"title": "own", "x": [1, 2.5, null, "ü \\" \\u2028"]}',
        f'{{"x": "{"x" * 70_000}"}}',
    ]
    moments = ["56840-01-01", "0044-03-15 BC", "infinity", "-infinity", *["2026-11-22 23:00:00.5"] * 2]
    async with opened(gateway.server, "anna") as socket:
        connection_id = await id_of(gateway, "anna")
        await frame(socket)
        for number, (value, moment) in enumerate(zip(data, moments, strict=True)):
            await connection.execute(
                """insert into public.real_time_notifications (id, user_id, type, title, message, data, created_at)
                   values ($1, 'anna', 'admin_alert', 'Title', 'ümlaut "quoted"', $2::text::jsonb,
                           $3::text::timestamp)""",
                f"odd-{number}",
                value,
                moment,
            )
        received = await frames(socket, len(data))
        assert received[2]["data"] == received[5]["data"] == {"truncated": True}
        await log_becomes(connection, connection_id, received)


async def test_what_arrived_is_marked_and_what_did_not_is_not(gateway: Gateway, connection: asyncpg.Connection) -> None:
    """No client has to know of it: their libraries answer the ping behind what they were sent."""
    async with opened(gateway.server, "anna") as socket, opened(gateway.server, "budi") as silent:
        await frame(socket), await frame(silent)
        silent.transport.pause_reading()
        await connection.execute(INSERT, "anna", 1, 3)
        await delivered_become(connection, {1: True, 2: True, 3: True})
        await connection.execute(INSERT, "anna", 4, 4)
        await delivered_become(connection, {1: True, 2: True, 3: True, 4: True})
        await connection.execute("delete from public.websocket_messages")
        await connection.execute(INSERT, "budi", 1, 2)
        await delivered_become(connection, {1: False, 2: False})
        silent.transport.abort()
        await until(lambda: gateway.server.stats().connections == 1)
    await asyncio.to_thread(gateway.stop, 1)
    assert await delivered(connection) == {1: False, 2: False}


async def test_an_acknowledged_frame_has_arrived_and_what_comes_after_it_has_not(
    gateway: Gateway, connection: asyncpg.Connection
) -> None:
    async with opened(gateway.server, "anna") as socket:
        await frame(socket)
        # Nothing reads the pings from here on.
        socket.transport.pause_reading()
        await connection.execute(INSERT, "anna", 1, 1)
        await delivered_become(connection, {1: False})
        await socket.send('{"type": "ack", "data": {"seq": 1}}')
        await delivered_become(connection, {1: True})
        await connection.execute(INSERT, "anna", 2, 2)
        await delivered_become(connection, {1: True, 2: False})
        socket.transport.resume_reading()


async def test_nothing_is_logged_where_that_is_off(
    settings: Settings, database_url: str, connection: asyncpg.Connection
) -> None:
    await add_users(connection, ("anna", "client"))
    gateway = Gateway(msgspec.structs.replace(settings, message_log="off"), database_url)
    await asyncio.to_thread(gateway.start)
    async with opened(gateway.server, "anna") as socket:
        await frame(socket)
        await connection.execute(INSERT, "anna", 1, 3)
        await frames(socket, 3)
        await asyncio.to_thread(gateway.stop, 1)
    assert await connection.fetchval("select count(*) from public.websocket_connections") == 1
    assert await connection.fetchval("select count(*) from public.websocket_messages") == 0


async def test_while_the_database_is_away_nothing_is_lost(
    gateway: Gateway, postgres_url: str, database_url: str, connection: asyncpg.Connection
) -> None:
    async with AsyncExitStack() as stack:
        socket = await stack.enter_async_context(opened(gateway.server, "anna"))
        staying = await id_of(gateway, "anna")
        leaving = await stack.enter_async_context(opened(gateway.server, "anna"))
        [left] = {info.connection_id for info in gateway.server.connections()} - {staying}
        await frame(socket), await frame(leaving)
        await connection.execute(INSERT, "anna", 1, 5)
        received, by_leaving = await frames(socket, 5), await frames(leaving, 5)
        async with away(postgres_url, database_url):
            # As the relay publishes what it has read already.
            for seq in (6, 7):
                gateway.server.publish([("anna", seq, seq, "{}")])
            assert [await frame(each) for each in (socket, leaving)] == [{}] * 2
            await leaving.close()
            await until(lambda: gateway.server.stats().connections == 1)
    async with await create_pool(database_url) as pool:
        await log_becomes(pool, left, by_leaving)
        await log_becomes(pool, staying, received)


async def test_a_range_is_written_once_however_often(connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"))
    await connection.execute(INSERT, "anna", 1, 10)
    await connection.execute("delete from public.real_time_notifications where id = 'anna-3'")
    await connection.execute(
        "insert into public.websocket_connections (id, user_id, connection_id) values ('row', 'anna', 'node-1')"
    )
    unknown = SentRange("node-2", "anna", 1, 10, 0, 1e9)
    foreign = SentRange("node-1", "budi", 1, 10, 0, 1e9)
    for _ in range(2):
        ranges = [
            SentRange("node-1", "anna", 1, 5, 2, 1e9),
            unknown,
            foreign,
            SentRange("node-1", "anna", 4, 7, 0, 2e9),
        ]
        assert await message_log.add_many(connection, ranges) == [unknown, foreign]
        seen = {1: True, 2: True, 4: False, 5: False, 6: False, 7: False}
        assert await delivered(connection) == seen
    for _ in range(2):
        await message_log.mark_delivered(
            connection, [Proof("node-1", 3, 5), Proof("node-1", 7, 7), Proof("node-2", 6, 6)]
        )
        assert await delivered(connection) == seen | {4: True, 5: True, 7: True}


async def test_what_was_sent_waits_for_its_connections_row(database_url: str, connection: asyncpg.Connection) -> None:
    """As after a burst in which the event of its opening was dropped."""
    await add_users(connection, ("anna", "client"))
    await connection.execute(INSERT, "anna", 1, 2)
    late = msgspec.structs.replace(AT_ONCE, reconcile_seconds=3600)
    async with recording(database_url, deaf=True, limits=late) as (server, recorder, _):
        await recorder.record()
        async with opened(server, "anna") as socket:
            before = server.connections()[0].last_activity
            # It counts in milliseconds, and what comes in the same one would not show.
            await until(lambda: time.time() > before + 0.01)
            server.publish([("anna", seq, seq, "{}") for seq in (1, 2)])
            await frames(socket, 2)
            for _ in range(2):
                await recorder.record()
            # The client says nothing but the answer to the ping behind both.
            await until(lambda: server.connections()[0].last_activity > before)
            for _ in range(2):
                await recorder.record()
            assert await delivered(connection) == {}
            recorder.reconcile_soon()
            await recorder.record()
            assert await delivered(connection) == {1: True, 2: True}


async def test_messages_whose_connection_never_gets_a_row_are_counted(
    database_url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bookkeeping, "_ORPHAN_SECONDS", 0.0)
    await add_users(connection, ("anna", "client"))
    late = msgspec.structs.replace(AT_ONCE, reconcile_seconds=3600)
    async with recording(database_url, deaf=True, limits=late) as (server, recorder, _):
        await recorder.record()
        async with opened(server, "anna") as socket:
            server.publish([("anna", seq, seq, "{}") for seq in (1, 2, 3)])
            await frames(socket, 3)
            while not recorder.drops.messages:
                await recorder.record()
            assert recorder.drops.messages == 3
            monkeypatch.setattr(bookkeeping, "_MAX_ORPHANS", 0)
            server.publish([("anna", 4, 4, "{}")])
            await frames(socket, 1)
            while recorder.drops.messages < 4:
                await recorder.record()
    assert recorder.drops.proofs == 0


async def test_a_wide_range_and_many_connections_go_in_pieces(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await add_users(connection, ("anna", "client"))
    await connection.execute(INSERT, "anna", 1, 15_000)
    async with (
        recording(database_url) as (server, recorder, _),
        opened(server, "anna", max_queue=None) as phone,
        opened(server, "anna", max_queue=None) as laptop,
    ):
        for first in range(1, 15_001, 500):
            server.publish([("anna", seq, seq, "{}") for seq in range(first, first + 500)])
        await frames(phone, 15_000), await frames(laptop, 15_000)
        for _ in range(2):
            await recorder.record()
        assert await connection.fetchval("select count(*) from public.websocket_messages") == 30_000


async def test_what_ends_is_logged_to_the_last_frame_by_a_recorder_that_is_stopped(
    database_url: str, connection: asyncpg.Connection
) -> None:
    """It may be cancelled at any moment, and finds what was taken then when it finishes."""
    await add_users(connection, ("anna", "client"))
    await connection.execute(INSERT, "anna", 1, 50)
    async with recording(database_url, limits=Limits(write_seconds=0.0)) as (server, recorder, _):
        async with opened(server, "anna") as socket:
            for seq in range(1, 51):
                server.publish([("anna", seq, seq, "{}")])
                await frame(socket)
                running = asyncio.ensure_future(recorder.run())
                for _ in range(seq % 8):
                    await asyncio.sleep(0)
                running.cancel()
                await asyncio.wait([running])
        await asyncio.to_thread(server.stop, 0)
        await recorder.finish()
        assert sorted(await delivered(connection)) == list(range(1, 51))


async def test_what_was_sent_after_a_take_that_was_cut_short_is_logged_too(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await add_users(connection, ("anna", "client"))
    await connection.execute(INSERT, "anna", 1, 2)
    late = msgspec.structs.replace(AT_ONCE, reconcile_seconds=3600)
    async with recording(database_url, limits=late) as (server, recorder, _):
        async with opened(server, "anna") as socket:
            await recorder.record()
            server.publish([("anna", 1, 1, "{}")])
            await frame(socket)
            taking = asyncio.ensure_future(recorder.record())
            await asyncio.sleep(0)
            taking.cancel()
            await asyncio.wait([taking])
            # Shards answer in turn, so the take is over once this is answered.
            await asyncio.get_running_loop().run_in_executor(None, server.connections)
            server.publish([("anna", 2, 2, "{}")])
            await frame(socket)
        await asyncio.to_thread(server.stop, 0)
        await recorder.finish()
        assert sorted(await delivered(connection)) == [1, 2]


async def test_a_take_that_fails_is_made_again(database_url: str, connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"))
    await connection.execute(INSERT, "anna", 1, 1)
    loop = asyncio.get_running_loop()
    async with recording(database_url) as (server, recorder, _), opened(server, "anna") as socket:
        await recorder.record()
        server.publish([("anna", 1, 1, "{}")])
        await frame(socket)
        ended = ThreadPoolExecutor()
        ended.shutdown()
        loop.set_default_executor(ended)
        with pytest.raises(RuntimeError, match="after shutdown"):
            await recorder.record()
        loop.set_default_executor(ThreadPoolExecutor())
        for _ in range(2):
            await recorder.record()
        assert sorted(await delivered(connection)) == [1]
