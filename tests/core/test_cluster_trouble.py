"""What a node knows of lost links and silent subscriptions, tells, and mends."""

import asyncio
import json
from pathlib import Path

from jasaweb_rt._core import OverloadedError
from tests.core.conftest import StartServer
from tests.support.cluster import cluster_event, cluster_stats, fenced, heard, joined, reached, start_nodes
from tests.support.nats_server import PASSWORD_USER, NatsServer, nats_server, permissions
from tests.support.ports import free_port
from tests.support.sockets import frame, opened, until
from tests.support.tcp_relay import tcp_relay


def message(**fields: object) -> str:
    return json.dumps(fields)


async def test_a_nats_server_that_is_killed_and_comes_back(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        a, b = await start_nodes(start_server, 2, [nats.url])
        for node in (a, b):
            node.fileno()
        async with opened(a, "anna") as on_a, opened(b, "anna") as on_b:
            await heard(a, b)
            nats.kill()
            for node in (a, b):
                assert not (await cluster_event(node, "the link is lost")).connected
                assert not node.fence(5)
                assert not cluster_stats(node).connected
            # Those who are connected here go on getting what is sent here.
            assert a.broadcast_to_user("anna", message(n=1)) == 1
            assert await frame(on_a) == {"n": 1}
            assert cluster_stats(a).dropped_unlinked == 1
            assert a.disconnect(f"{b.node_id}-100") is False
            assert a.publish_event(b"lost") is False
            async with opened(b, "budi") as newcomer:
                await nats.restart()
                for node in (a, b):
                    await cluster_event(node, "the link is back")
                await joined([a, b])
                await heard(a, b)
                a.broadcast_to_user("anna", message(n=2))
                a.broadcast_to_user("budi", message(n=3))
                assert await frame(on_a) == await frame(on_b) == {"n": 2}
                assert await frame(newcomer) == {"n": 3}
        assert cluster_stats(a).links == 2


async def test_who_comes_and_goes_while_nats_is_away_is_heard_once(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        (a,) = await start_nodes(start_server, 1, [nats.url])
        nats.kill()
        b = start_server(nats_url=[nats.url])
        for left in (1, 2):
            async with opened(b, "anna"):
                # One who has gone before the link's task looks was never there.
                await until(lambda: cluster_stats(b).subscriptions == 1, "the user to be wanted")
            await until(lambda left=left: cluster_stats(b).unsubscribed == left, "the user to be let go")  # type: ignore[misc]
        async with opened(b, "anna") as socket:
            await nats.restart()
            await joined([a, b])
            await heard(a, b)
            await reached(a, "anna", socket)
            for number in range(3):
                a.broadcast_to_user("anna", message(n=number))
            assert [await frame(socket) for _ in range(3)] == [{"n": number} for number in range(3)]


async def test_a_cut_is_told_to_the_others(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats, tcp_relay(nats.host, nats.port) as relay:
        (a,) = await start_nodes(start_server, 1, [nats.url])
        (b,) = await start_nodes(start_server, 1, [f"nats://127.0.0.1:{relay.port}"])
        a.fileno()
        b.fileno()
        await relay.cut()
        await cluster_event(b, "the link is lost")
        await relay.start()
        await cluster_event(b, "the link is back")
        # What b sent while its link broke is missing on a, which has seen nothing of it.
        assert (await cluster_event(a, "another node has lost its link")).connected
        assert cluster_stats(a).links == 1


async def test_a_frozen_nats_server_is_noticed(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        (a,) = await start_nodes(start_server, 1, [nats.url])
        a.fileno()
        nats.pause()
        await until(lambda: not a.fence(0.05), "a fence that does not open")
        await until(lambda: not cluster_stats(a).connected, "the loss")
        nats.resume()
        await joined([a])
        assert a.fence(30)


async def test_what_is_too_much_is_refused_and_the_rest_goes_out_later(
    start_server: StartServer, tmp_path: Path
) -> None:
    async with nats_server(tmp_path) as nats:
        a, b = await start_nodes(start_server, 2, [nats.url])
        async with opened(b, "anna") as socket:
            await heard(b)
            large = message(text="x" * 1_000_000)
            nats.pause()
            while True:
                try:
                    a.broadcast_to_user("nobody", large)
                except OverloadedError:
                    break
                if not cluster_stats(a).connected:  # was too slow: a link that is lost takes nothing that could pile up
                    nats.resume()
                    await joined([a])
                    nats.pause()
                await asyncio.sleep(0)
            assert cluster_stats(a).refused == 1
            assert cluster_stats(a).outbox_bytes > 64 * 1024 * 1024
            nats.resume()
            await until(lambda: cluster_stats(a).outbox_bytes == 0, "an empty outbox")
            await joined([a, b])
            await heard(a, b)
            a.broadcast_to_user("anna", message(n=1))
            assert await frame(socket) == {"n": 1}


async def test_a_node_that_nats_finds_too_slow(start_server: StartServer, tmp_path: Path) -> None:
    small = "max_payload: 100000\nmax_pending: 200000"
    async with nats_server(tmp_path, configuration=small) as nats, tcp_relay(nats.host, nats.port) as relay:
        (a,) = await start_nodes(start_server, 1, [nats.url])
        (b,) = await start_nodes(start_server, 1, [f"nats://127.0.0.1:{relay.port}"])
        b.fileno()
        async with opened(b, "anna") as socket:
            await heard(b)
            relay.pause()
            frame_of_all = message(text="x" * 60_000)
            while "Slow Consumer" not in nats.log:
                a.broadcast_to_all(frame_of_all)
                await fenced(a)
            relay.resume()
            await cluster_event(b, "the link is back")
            await heard(b)
            a.broadcast_to_user("anna", message(last=True))
            while await frame(socket) != {"last": True}:
                pass


async def test_nats_servers_that_are_cut_off_from_each_other(start_server: StartServer, tmp_path: Path) -> None:
    one, other = NatsServer(tmp_path, "nats-0"), NatsServer(tmp_path, "nats-1")
    async with tcp_relay(one.host, one.route_port) as relay:
        one.routes, other.routes = [one.route_url], [f"nats://127.0.0.1:{relay.port}"]
        try:
            for nats in (one, other):
                nats.start()
                await nats.wait_ready()
            a, b = start_server(nats_url=[one.url]), start_server(nats_url=[other.url])
            await joined([a, b])
            for node in (a, b):
                await until(lambda node=node: cluster_stats(node).peers == 1, "the other node")  # type: ignore[misc]
                node.fileno()
            await relay.cut()
            # Both links are as good as before.
            for node in (a, b):
                assert (await cluster_event(node, "a node is not heard any more")).connected
                assert (cluster_stats(node).peers, cluster_stats(node).links) == (0, 1)
            await relay.start()
            for node in (a, b):
                await cluster_event(node, "a node is heard again")
            # A node that ends says so.
            b.stop(1)
            await until(lambda: cluster_stats(a).peers == 0, "the farewell")
        finally:
            for nats in (one, other):
                await nats.stop()


async def test_without_nats_a_server_serves_its_own(start_server: StartServer) -> None:
    alone = start_server()
    assert alone.stats().cluster is None
    assert alone.fence(0)
    assert alone.publish_event(b"nobody") is False
    unlinked = start_server(nats_url=[f"nats://127.0.0.1:{free_port()}"])
    assert not unlinked.fence(60)
    event = await cluster_event(unlinked, "nats_url")
    assert not event.connected
    async with opened(unlinked, "anna") as socket:
        assert unlinked.broadcast_to_user("anna", message(n=1)) == 1
        assert await frame(socket) == {"n": 1}


async def test_a_user_is_heard_a_while_longer(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        a, b = await start_nodes(start_server, 2, [nats.url])
        async with opened(b, "anna"):
            await heard(b)
        async with opened(b, "anna") as again:
            await heard(b)
            a.broadcast_to_user("anna", message(n=1))
            assert await frame(again) == {"n": 1}
            assert (cluster_stats(b).subscribed, cluster_stats(b).subscriptions) == (1, 1)
        await until(lambda: cluster_stats(b).unsubscribed == 1, "the end of the interest")
        assert cluster_stats(b).subscriptions == 0
        a.broadcast_to_user("anna", message(n=2))
        await heard(a, b)
        assert cluster_stats(b).received == 1


async def test_a_silent_subscription_is_found_and_made_anew(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path, configuration=permissions()) as nats:
        a, b = await start_nodes(start_server, 2, [nats.url_of(PASSWORD_USER)])
        b.fileno()
        async with opened(b, "anna") as socket:
            await heard(b)
            # The server forgets the subscriptions that are not allowed any more, and takes none of them back by itself.
            allowed = [f"jasaweb_rt.{rest}" for rest in ("node.>", "control", "all", "role.>")]
            await nats.reload(permissions(subscribe=allowed))
            await until(lambda: cluster_stats(b).silent == 1, "the silent subscription")
            await cluster_event(b, "a subscription was silent")
            await nats.reload(permissions())
            await until(lambda: cluster_stats(b).silent == 0, "the subscription that was made anew")
            a.broadcast_to_user("anna", message(n=1))
            assert await frame(socket) == {"n": 1}
            assert cluster_stats(b).silenced >= 1
            assert cluster_stats(b).connected


async def test_an_echo_that_is_gone_makes_the_link_anew(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path, configuration=permissions()) as nats:
        (a,) = await start_nodes(start_server, 1, [nats.url_of(PASSWORD_USER)])
        await nats.reload(permissions(subscribe=["jasaweb_rt.control"]))
        await until(lambda: not cluster_stats(a).connected, "the missing echo")
        assert not a.fence(0.05)
        await nats.reload(permissions())
        await joined([a])
        assert a.fence(30)
        assert cluster_stats(a).links >= 2


async def test_a_stop_sends_what_waits(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        a, b = await start_nodes(start_server, 2, [nats.url])
        async with opened(b, "anna") as socket:
            await heard(b)
            for number in range(5000):
                a.broadcast_to_user("anna", message(n=number))
            a.stop(5)
            assert [await frame(socket) for _ in range(5000)] == [{"n": number} for number in range(5000)]
