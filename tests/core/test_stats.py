"""`stats()`: what the core counts, seen from outside."""

import asyncio

import pytest
from websockets.asyncio.client import connect

from jasaweb_rt._core import FanoutServer, Stats
from tests.core.conftest import StartServer
from tests.support.sockets import closed, frame, next_request, opened, opened_many, settled, socket_url, until
from tests.support.tokens import connection_token


def has_written_all(server: FanoutServer) -> bool:
    """For a server that sends no pings and closes nobody."""
    stats = server.stats()
    return stats.frames_written == stats.deliveries


async def test_a_message_is_encoded_once_whatever_its_receivers(start_server: StartServer) -> None:
    server = start_server(ping_interval=0.0)
    async with opened_many(server, ("anna", "client"), ("budi", "admin"), count=2):
        welcomed = server.stats()
        assert (welcomed.frames_encoded, welcomed.deliveries) == (4, 4)
        server.broadcast_to_all("{}")
        server.broadcast_to_users(["anna", "budi", "nobody"], "{}")
        server.broadcast_many([("anna", "{}"), ("budi", "{}")])
        await until(lambda: server.stats().deliveries == 16)
        sent = server.stats()
        assert (sent.frames_encoded - welcomed.frames_encoded, sent.frames_published) == (4, 6)
        assert server.broadcast_to_user("nobody", "{}") == 0
        assert server.stats().frames_encoded == sent.frames_encoded
        await until(lambda: has_written_all(server))


async def test_a_burst_is_coalesced_and_a_lone_message_is_not(start_server: StartServer) -> None:
    server = start_server(ping_interval=0.0)
    async with opened(server, "anna") as socket:
        server.broadcast_to_user("anna", "{}")
        await frame(socket)
        lone = await settled(server)
        assert (lone.writes, lone.frames_written, lone.coalesced_writes) == (2, 2, 0)
        for number in range(2000):
            server.broadcast_to_user("anna", str(number))
        for number in range(2000):
            assert await asyncio.wait_for(socket.recv(), 10) == str(number)
        burst = await settled(server)
        assert burst.frames_written == 2002
        assert 0 < burst.coalesced_writes <= burst.writes < 2002
        # Each frame went alone or with others.
        assert burst.frames_written - burst.coalesced_frames == burst.writes - burst.coalesced_writes
        assert burst.queue_high_water_bytes > 0
        assert burst.backlog_high_water_bytes >= 64
        assert burst.backlog_bytes <= burst.backlog_high_water_bytes


async def test_each_write_of_what_was_sent_is_timed(start_server: StartServer) -> None:
    server = start_server(ping_interval=0.0, workers=2)

    def timed() -> int:
        return sum(server.stats().publish_to_write.counts)

    users = [(f"user-{number}", "client") for number in range(20)]
    async with opened_many(server, *users) as sockets:
        await until(lambda: server.stats().writes == 20)
        assert timed() == 0, "nobody sent the welcomes"
        assert server.broadcast_to_user("user-1", "{}") == 1
        await until(lambda: timed() == 1)
        server.broadcast_to_all("{}")
        await until(lambda: timed() == 21)
        for number in range(500):
            server.broadcast_to_all(str(number))
            server.broadcast_to_user("user-7", str(number))
            server.publish([("user-8", number + 1, number + 1, str(number))])
        for (socket,) in sockets.values():
            while await asyncio.wait_for(socket.recv(), 10) != "499":
                pass
        await until(lambda: has_written_all(server) and timed() == server.stats().writes - 20)
        histogram = server.stats().publish_to_write
        assert (len(histogram.counts), histogram.bounds[0], histogram.bounds[-1]) == (18, 0.00005, 10.0)
        assert list(histogram.bounds) == sorted(histogram.bounds)
        assert histogram.sum_seconds > 0


async def test_what_waits_for_an_answer_is_timed_from_when_it_was_published(start_server: StartServer) -> None:
    server = start_server(ping_interval=0.0, sync=True)
    server.fileno()
    async with opened(server, "anna") as socket:
        request = await next_request(server)
        server.publish([("anna", 1, 1, '{"seq":1}')])
        server.answer_sync(request, role="client", head=0, through=0, rev=0, preface='{"type":"sync"}')
        assert [await frame(socket) for _ in range(2)] == [{"type": "sync"}, {"seq": 1}]
        await until(lambda: sum(server.stats().publish_to_write.counts) == server.stats().writes - 1 > 0)


async def test_a_slow_consumer_raises_its_drops_and_the_high_water_mark(start_server: StartServer) -> None:
    server = start_server(ping_interval=0.0, send_queue_bytes=65_536)
    payload = f'"{"x" * 20_000}"'
    async with opened(server, "anna", max_queue=1, compression=None) as slow:
        slow.transport.pause_reading()
        while not server.stats().slow_consumers:
            server.broadcast_to_user("anna", payload)
            await until(lambda: server.stats().backlog_bytes == 0)
        stats = await settled(server)
        assert stats.drops.slow_consumer >= 3
        assert 40_000 < stats.queue_high_water_bytes <= 65_536
        server.broadcast_to_user("anna", payload)
        await until(lambda: server.stats().drops.closing)
        slow.transport.resume_reading()
        assert (await closed(slow))[0] == 4002
    await until(lambda: server.stats().connections_closed)
    ended = await settled(server)
    assert ended.slow_consumers == 1
    # The Close frame was written too.
    written = ended.frames_written - 1
    assert ended.deliveries == written + ended.drops.slow_consumer + ended.drops.disconnected


async def test_what_waits_for_a_client_that_goes_is_dropped(start_server: StartServer) -> None:
    server = start_server(ping_interval=0.0, coalesce_ms=0, send_queue_bytes=64 * 2**20)
    async with opened(server, "anna", max_queue=1, compression=None) as socket:
        socket.transport.pause_reading()
        # More than the system's buffers can still take.
        while server.connections()[0].queued_bytes < 16 * 2**20:
            server.broadcast_to_user("anna", f'"{"x" * 50_000}"')
            await until(lambda: server.stats().backlog_bytes == 0)
        socket.transport.abort()
    await until(lambda: server.stats().connections_closed)
    stats = await settled(server)
    assert stats.drops.disconnected > 0
    assert stats.deliveries == stats.frames_written + stats.drops.disconnected
    assert stats.slow_consumers == 0


async def test_a_handshake_that_is_refused_is_counted_by_its_reason(start_server: StartServer) -> None:
    server = start_server(max_connections=1)
    authorization = f"Bearer {connection_token('anna')}"
    async with opened(server, "anna"):
        with pytest.raises(Exception, match=r"429|503"):
            await connect(socket_url(server), additional_headers={"Authorization": authorization})
    # With the last trace of a session its place is free.
    await until(lambda: not server.connections())
    async with connect(socket_url(server, "?token=wrong")) as socket:
        assert (await closed(socket))[0] == 1008
    foreign = {"Authorization": authorization, "Origin": "https://elsewhere.example"}
    with pytest.raises(Exception, match="403"):
        await connect(socket_url(server), additional_headers=foreign)
    refusals = server.stats().refusals
    assert (refusals.authentication, refusals.origin, refusals.server_full) == (1, 1, 1)
    assert server.stats().handshakes_refused == 3


async def test_client_frames_that_are_refused_are_counted_by_who_refused_them(start_server: StartServer) -> None:
    server = start_server(message_rate=1, message_burst=1)
    async with opened(server, "anna") as socket:
        (info,) = server.connections()
        assert server.refuse(info.connection_id, "{}")
        assert server.acknowledge(info.connection_id, 7, "{}")
        assert [await frame(socket) for _ in range(2)] == [{}, {}]
        for number in range(10):
            await socket.send(str(number))
        assert (await closed(socket))[0] == 1008
    stats = server.stats()
    assert (stats.drops.client_refused, stats.drops.client_rate) == (2, 1)
    # One, and one more for each second that the machine stood still between two.
    assert 1 <= stats.frames_received < 10


async def test_durable_messages_that_are_not_needed_are_counted(start_server: StartServer) -> None:
    server = start_server()
    async with opened(server, "anna") as socket:
        server.publish([("anna", 1, 1, '{"seq":1}'), ("anna", 1, 1, '{"seq":1}')])
        server.publish_read([("anna", 5, '{"rev":5}'), ("anna", 4, '{"rev":4}')])
        assert [await frame(socket) for _ in range(2)] == [{"seq": 1}, {"rev": 5}]
        await until(lambda: server.stats().drops.outdated)
        drops = server.stats().drops
    assert (drops.duplicate, drops.outdated, drops.superseded) == (1, 1, 0)


async def test_the_fullest_event_queue_is_remembered(server: FanoutServer) -> None:
    server.fileno()
    async with opened_many(server, ("anna", "client"), count=3):
        assert server.stats().events_high_water == 3
        assert len(server.drain_events()) == 3
        assert server.stats().events_high_water == 3


async def test_it_is_frozen_and_survives_the_stop(server: FanoutServer) -> None:
    async with opened(server, "anna"):
        pass
    await asyncio.to_thread(server.stop, 1)
    stats: Stats = server.stats()
    assert (stats.connections, stats.connections_opened, stats.connections_closed) == (0, 1, 1)
    for record, name in [
        (stats, "writes"),
        (stats.drops, "closing"),
        (stats.refusals, "origin"),
        (stats.http_refusals, "rate"),
        (stats.publish_to_write, "counts"),
    ]:
        with pytest.raises(AttributeError):
            setattr(record, name, 1)
