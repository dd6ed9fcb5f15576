"""How far each connection has come: what it was sent, and what of that has arrived."""

import json

from websockets.asyncio.client import connect

from jasaweb_rt._core import Disconnected, FanoutServer, Progress
from tests.core.conftest import StartServer
from tests.support.sockets import frame, frames, opened, opened_many, socket_url, until
from tests.support.tokens import SECRET, connection_token


def durable(seq: int, user_id: str = "user-1") -> tuple[str, int, int, str]:
    return user_id, seq, seq, json.dumps({"seq": seq})


def ranges(progress: list[Progress]) -> list[tuple[int, int]]:
    return [(one.from_seq, one.through_seq) for one in progress]


async def test_what_was_sent_is_told_once_and_only_of_those_that_were_sent_something(server: FanoutServer) -> None:
    assert server.take_progress() == []
    async with opened_many(server, ("user-1", "client"), ("user-2", "client"), count=2) as sockets:
        server.publish([durable(seq) for seq in range(5, 9)])
        for socket in sockets["user-1"]:
            await frames(socket, 4)
        taken = server.take_progress()
        own = {info.connection_id for info in server.connections() if info.user_id == "user-1"}
        assert {(one.connection_id, one.user_id) for one in taken} == {(each, "user-1") for each in own}
        assert ranges(taken) == [(5, 8)] * 2
        server.broadcast_to_all("{}")
        assert all(one.from_seq > one.through_seq for one in server.take_progress())


async def test_a_pong_proves_what_was_sent_before_its_ping(server: FanoutServer) -> None:
    server.take_progress()
    async with opened(server, "user-1") as socket:
        server.publish([durable(1), durable(2)])
        await frames(socket, 2)
        delivered = 0

        def look() -> bool:
            nonlocal delivered
            delivered = max([delivered, *(one.delivered_seq for one in server.take_progress())])
            return delivered == 2

        await until(look, "the proof of both")


async def test_a_client_that_acknowledges_is_believed_as_far_as_it_was_sent(server: FanoutServer) -> None:
    async with opened(server, "user-1") as socket:
        [info] = server.connections()
        server.publish([durable(1), durable(2)])
        await frames(socket, 2)
        assert server.acknowledge(info.connection_id, 3, '{"type": "error"}')
        assert (await frame(socket))["type"] == "error"
        assert server.acknowledge(info.connection_id, 2, '{"type": "error"}')
        assert [one.delivered_seq for one in server.take_progress()] == [2]
    assert not server.acknowledge("another", 1, "{}")


async def test_what_an_ended_connection_was_sent_is_told_also_after_the_stop(start_server: StartServer) -> None:
    server = start_server()
    server.take_progress()
    async with opened(server, "user-1") as first, opened(server, "user-1") as second:
        server.publish([durable(1)])
        await frame(first), await frame(second)
        await first.close()
        await until(lambda: server.stats().connections == 1)
        server.publish([durable(2)])
        await frame(second)
        server.stop(0)
        assert sorted(ranges(server.take_progress())) == [(1, 1), (1, 2)]
    assert server.take_progress() == []


async def test_nothing_is_kept_before_somebody_asks() -> None:
    server = FanoutServer(token_secret=SECRET)
    assert server.take_progress() == []
    server.start()
    server.stop(0)
    assert server.take_progress() == []


async def test_an_end_says_who_it_was_and_since_when(server: FanoutServer) -> None:
    server.fileno()
    headers = {"Authorization": f"Bearer {connection_token('user-1')}"}
    async with connect(socket_url(server), additional_headers=headers, user_agent_header="test/1") as socket:
        await frame(socket)
        [info] = server.connections()
    ends: list[Disconnected] = []

    def look() -> bool:
        ends.extend(event for event in server.drain_events() if isinstance(event, Disconnected))
        return bool(ends)

    await until(look, "the end")
    [end] = ends
    assert (end.user_id, end.client_address, end.user_agent) == ("user-1", "127.0.0.1", "test/1")
    assert end.connected_at == info.connected_at <= end.last_activity
