"""What is sent on one node reaches the connections of every node, each once, in order."""

import asyncio
import json
from pathlib import Path

from tests.core.conftest import StartServer
from tests.support.cluster import cluster_stats, heard, joined, reached, start_nodes
from tests.support.nats_server import nats_cluster, nats_server
from tests.support.sockets import closed, frame, frames, next_request, opened, opened_many, until


def message(**fields: object) -> str:
    return json.dumps(fields)


async def test_a_users_connections_get_it_on_every_node(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        a, b, c = await start_nodes(start_server, 3, [nats.url])
        async with (
            opened(a, "anna") as on_a,
            opened(b, "anna") as first,
            opened(b, "anna") as second,
            opened(c, "budi") as other,
        ):
            await heard(a, b, c)
            for number in range(1000):
                assert a.broadcast_to_user("anna", message(n=number)) == 1
            for socket in (on_a, first, second):
                assert await frames(socket, 1000) == [{"n": number} for number in range(1000)]
            # One message a user, however many connections; a node without the user hears nothing.
            assert (cluster_stats(a).published, cluster_stats(b).received) == (1000, 1000)
            assert (cluster_stats(a).received, cluster_stats(c).received) == (0, 0)
            c.broadcast_to_user("budi", message(last=True))
            assert await frame(other) == {"last": True}


async def test_one_order_over_all_that_a_thread_sends(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        a, b = await start_nodes(start_server, 2, [nats.url])
        async with opened(b, "citra", "admin") as socket:
            await heard(b)
            sends = (
                lambda frame: a.broadcast_to_user("citra", frame),
                lambda frame: a.broadcast_to_all(frame),
                lambda frame: a.broadcast_to_admins(frame),
                lambda frame: a.broadcast_many([("citra", frame)]),
                lambda frame: a.broadcast_to_users(["citra", "nobody"], frame),
            )
            for number in range(2000):
                sends[number % len(sends)](message(n=number))
            assert await frames(socket, 2000) == [{"n": number} for number in range(2000)]


async def test_audiences(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        a, b = await start_nodes(start_server, 2, [nats.url])
        users = [("anna", "client"), ("citra", "admin")]
        async with opened_many(a, *users) as on_a, opened_many(b, *users, count=2) as on_b:
            assert a.broadcast_to_admins(message(to="admins")) == 1
            assert b.broadcast_to_clients(message(to="clients")) == 2
            await until(lambda: cluster_stats(a).received == 1, "the frame of b")
            assert a.broadcast_to_all(message(to="all")) == 2
            for sockets in (on_a, on_b):
                for user_id, role in users:
                    for socket in sockets[user_id]:
                        assert [(await frame(socket))["to"] for _ in range(2)] == [f"{role}s", "all"]
            # One message to an audience, whoever is in it.
            assert (cluster_stats(a).published, cluster_stats(b).received) == (2, 2)


async def test_durable_frames_come_once_and_in_order(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        a, b = await start_nodes(start_server, 2, [nats.url])
        async with opened(a, "anna") as on_a, opened(b, "anna") as on_b:
            await heard(b)
            items = [("anna", seq, seq, message(seq=seq)) for seq in range(1, 201)]
            assert a.publish(items[:100]) == 100
            assert a.publish(items[100:]) == 100
            assert b.publish(items) == 200  # as where a relay takes over from one that has not removed them
            a.publish_read([("anna", 201, message(type="read"))])
            a.publish_read([("anna", 3, message(type="stale"))])
            a.broadcast_to_all(message(type="last"))
            for socket in (on_a, on_b):
                assert await frames(socket, 200) == [{"seq": seq} for seq in range(1, 201)]
                assert await frames(socket, 2) == [{"type": "read"}, {"type": "last"}]


async def test_heads_that_another_node_announces_are_asked_for(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        a, b = await start_nodes(start_server, 2, [nats.url], sync=True)
        b.fileno()
        async with opened(b, "anna"):
            request = await next_request(b)
            b.answer_sync(request, role="client", head=3, through=3, rev=1)
            await heard(b)
            a.announce_heads([("anna", 5)])
            behind = await next_request(b, request)
            assert (behind.after, behind.first) == (3, False)


async def test_one_connection_of_another_node(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        a, b = await start_nodes(start_server, 2, [nats.url])
        async with opened(b, "anna") as first, opened(b, "anna") as second:
            infos = sorted(b.connections(), key=lambda info: info.connected_at)
            one, other = (info.connection_id for info in infos)
            assert a.send(one, message(to="one")) == 1
            assert a.send(other, message(to="other")) == 1
            assert {(await frame(socket))["to"] for socket in (first, second)} == {"one", "other"}
            for unknown in (
                "nonsense",
                "nonsense-1",
                f"{a.node_id}-ffff00",
                f"{b.node_id}-",
                f"{b.node_id.upper()}x-1",
            ):
                assert a.send(unknown, "{}") == 0
                assert a.disconnect(unknown) is False
            assert a.disconnect(one, 4004) is True
            assert a.disconnect(other) is True
            ends = {await closed(first), await closed(second)}
            assert ends == {(4004, "Replaced by a newer connection"), (4500, "Disconnected by an administrator")}


async def test_nodes_on_different_servers_of_a_nats_cluster(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_cluster(tmp_path) as nats:
        nodes = [start_server(nats_url=[url]) for url in nats.urls]
        await joined(nodes)
        async with opened(nodes[0], "anna") as one, opened(nodes[2], "anna") as two:
            await heard(*nodes)
            # The server that one is linked to knows at once; that the others know, only an arrival shows.
            await reached(nodes[1], "anna", one, two)
            for number in range(500):
                nodes[1].broadcast_to_user("anna", message(n=number))
            for socket in (one, two):
                assert await frames(socket, 500) == [{"n": number} for number in range(500)]


async def test_a_large_frame_and_one_that_nats_does_not_take(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        a, b = await start_nodes(start_server, 2, [nats.url])
        async with opened(a, "anna") as on_a, opened(b, "anna", max_size=None) as on_b:
            await heard(b)
            large = message(text="x" * 1_000_000)
            a.broadcast_to_user("anna", large)
            assert await asyncio.wait_for(on_b.recv(), 30) == large
            assert cluster_stats(a).dropped_too_large == 0
            assert a.broadcast_to_user("anna", message(text="x" * 1_100_000)) == 1
            a.broadcast_to_user("anna", message(n=1))
            assert await frame(on_b) == {"n": 1}
            assert cluster_stats(a).dropped_too_large == 1
            await on_a.close()
