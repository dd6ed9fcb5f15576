"""The seam that relay and sync use: parked until answered, each number once, in order, gaps asked for."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest
from websockets.asyncio.client import ClientConnection

from jasaweb_rt._core import Connected, Disconnected, FanoutServer, SyncRequest
from jasaweb_rt.cluster import ClusterLink
from jasaweb_rt.exceptions import DatabaseUnavailableError
from jasaweb_rt.sync import Sync
from tests.core.conftest import StartServer
from tests.support.sockets import closed, frame, next_request, opened, until


def durable(seq: int, user_id: str = "user-1") -> tuple[str, int, int, str]:
    return user_id, seq, seq, json.dumps({"seq": seq})


async def seqs(socket: ClientConnection, count: int) -> list[int]:
    return [(await frame(socket))["seq"] for _ in range(count)]


@pytest.fixture
def syncing(start_server: StartServer) -> FanoutServer:
    server = start_server(sync=True)
    server.fileno()
    return server


def answer(
    server: FanoutServer, request: SyncRequest, head: int, frames: Sequence[int] = (), through: int | None = None
) -> None:
    assert server.answer_sync(
        request,
        role="client",
        head=head,
        through=head if through is None else through,
        rev=head,
        preface='{"type":"sync"}' if request.first else None,
        frames=[(seq, json.dumps({"seq": seq})) for seq in frames],
    )


async def test_a_new_session_asks_and_what_comes_meanwhile_is_parked(syncing: FanoutServer) -> None:
    async with opened(syncing, "user-1", query="?last_seq=3&epoch=one") as socket:
        request = await next_request(syncing)
        assert (request.user_id, request.after, request.epoch, request.first) == ("user-1", 3, "one", True)
        syncing.publish([durable(6), durable(5)])
        answer(syncing, request, head=5, frames=[4, 5])
        assert await frame(socket) == {"type": "sync"}
        assert await seqs(socket, 3) == [4, 5, 6]
        syncing.publish([durable(5), durable(6), durable(7)])
        assert await seqs(socket, 1) == [7]


async def test_a_gap_is_asked_for_and_filled(syncing: FanoutServer) -> None:
    async with opened(syncing, "user-1") as socket:
        first = await next_request(syncing)
        answer(syncing, first, head=10)
        assert await frame(socket) == {"type": "sync"}
        syncing.publish([durable(11), durable(14)])
        request = await next_request(syncing, behind=first)
        assert (request.after, request.epoch, request.first) == (11, None, False)
        answer(syncing, request, head=14, frames=[12, 14])
        assert await seqs(socket, 3) == [11, 12, 14]


async def test_a_lost_tail_is_healed_by_the_head(syncing: FanoutServer) -> None:
    async with opened(syncing, "user-1") as socket:
        first = await next_request(syncing)
        answer(syncing, first, head=1)
        syncing.announce_heads([("user-1", 1), ("nobody", 9)])
        syncing.announce_heads([("user-1", 3)])
        request = await next_request(syncing, behind=first)
        assert request.after == 1
        answer(syncing, request, head=3, frames=[2, 3])
        assert await frame(socket) == {"type": "sync"}
        assert await seqs(socket, 2) == [2, 3]


async def test_a_long_answer_comes_by_pages(syncing: FanoutServer) -> None:
    async with opened(syncing, "user-1", query="?last_seq=0") as socket:
        request = None
        for page in range(5):
            request = await next_request(syncing, behind=request)
            assert request.after == page * 10
            answer(syncing, request, head=50, frames=range(page * 10 + 1, page * 10 + 11), through=page * 10 + 10)
        assert await frame(socket) == {"type": "sync"}
        assert await seqs(socket, 50) == list(range(1, 51))


async def test_a_position_beyond_the_head_starts_anew(syncing: FanoutServer) -> None:
    async with opened(syncing, "user-1", query="?last_seq=99") as socket:
        request = await next_request(syncing)
        syncing.answer_sync(request, role="client", head=2, through=2, rev=2, restart=True, preface='{"type":"resync"}')
        syncing.publish([durable(3)])
        assert await frame(socket) == {"type": "resync"}
        assert await seqs(socket, 1) == [3]


async def test_an_older_unread_count_is_dropped(syncing: FanoutServer) -> None:
    async with opened(syncing, "user-1") as socket:
        answer(syncing, await next_request(syncing), head=5)
        assert await frame(socket) == {"type": "sync"}
        syncing.publish_read([("user-1", 4, '{"rev":4}'), ("user-1", 5, '{"rev":5}'), ("user-1", 7, '{"rev":7}')])
        syncing.publish_read([("user-1", 6, '{"rev":6}'), ("user-1", 7, '{"rev":7,"again":true}')])
        assert [await frame(socket) for _ in range(3)] == [{"rev": 5}, {"rev": 7}, {"rev": 7, "again": True}]


async def test_nobody_is_an_administrator_before_the_database_says_so(syncing: FanoutServer) -> None:
    async with opened(syncing, "user-1", "admin") as socket:
        request = await next_request(syncing)
        assert syncing.broadcast_to_admins('{"to":"admins"}') == 0
        answer(syncing, request, head=0)
        assert await frame(socket) == {"type": "sync"}
        await until(lambda: syncing.broadcast_to_clients('{"to":"clients"}') == 1)
        assert await frame(socket) == {"to": "clients"}
        assert syncing.broadcast_to_admins('{"to":"admins"}') == 0
        assert [info.role for info in syncing.connections()] == ["client"]


async def test_an_unknown_user_is_turned_away(syncing: FanoutServer) -> None:
    async with opened(syncing, "user-1") as socket:
        assert syncing.disconnect((await next_request(syncing)).connection_id, 1008)
        assert await closed(socket) == (1008, "Invalid authentication")


async def test_opening_and_closing_are_told(start_server: StartServer) -> None:
    server = start_server()
    server.fileno()
    events: list[object] = []

    def look(kind: type[object]) -> bool:
        events.extend(server.drain_events())
        return any(isinstance(event, kind) for event in events)

    async with opened(server, "user-1"):
        await until(lambda: look(Connected))
    await until(lambda: look(Disconnected))
    connected, disconnected = events
    assert isinstance(connected, Connected)
    assert isinstance(disconnected, Disconnected)
    assert connected.connection_id == disconnected.connection_id
    assert (connected.user_id, connected.client_address) == ("user-1", "127.0.0.1")
    assert (disconnected.code, disconnected.status) == (1000, "disconnected")


async def test_the_descriptor_wakes_an_event_loop(syncing: FanoutServer) -> None:
    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(syncing.fileno(), woken.set)
    try:
        async with opened(syncing, "user-1"), asyncio.timeout(20):
            await woken.wait()
    finally:
        loop.remove_reader(syncing.fileno())


class Away:
    """A database that is away, and says so when it is told to."""

    def __init__(self) -> None:
        self.tried = asyncio.Semaphore(0)
        self.refusals = asyncio.Semaphore(0)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[asyncpg.Connection]:
        self.tried.release()
        await self.refusals.acquire()
        raise DatabaseUnavailableError("It is away")
        yield


async def test_a_request_waits_for_the_database_as_long_as_its_connection_is_open(syncing: FanoutServer) -> None:
    away = Away()
    sync = Sync(away.connect, syncing, ClusterLink(syncing, is_configured=False), 65_536)
    running = asyncio.create_task(sync.run())
    async with opened(syncing, "user-1"), asyncio.timeout(20):
        request = await next_request(syncing)
        sync.request(request)
        await away.tried.acquire()
        away.refusals.release()
        # It is tried again; meanwhile the connection ends.
        await away.tried.acquire()
        sync.forget(request.connection_id)
        away.refusals.release()
        await until(lambda: not sync.waiting)
    running.cancel()
    assert sync.waiting == 0


async def test_two_runners_are_never_at_the_same_connection(syncing: FanoutServer) -> None:
    away = Away()
    sync = Sync(away.connect, syncing, ClusterLink(syncing, is_configured=False), 65_536)
    running = [asyncio.create_task(sync.run()) for _ in range(2)]
    async with opened(syncing, "user-1"), asyncio.timeout(20):
        request = await next_request(syncing)
        sync.request(request)
        await away.tried.acquire()
        # Asked once more while the first runner is at it: the second leaves it alone, and takes the next connection's.
        sync.request(request)
        async with opened(syncing, "user-2"):
            other = await next_request(syncing, behind=request)
            sync.request(other)
            await away.tried.acquire()
            assert away.tried.locked()
            sync.forget(other.connection_id)
        sync.forget(request.connection_id)
    for task in running:
        task.cancel()
    assert sync.waiting == 0
