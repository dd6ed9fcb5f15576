"""A program without a server of its own reaches everybody in the cluster, and hears what servers tell programs."""

import json
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jasaweb_rt._core import AppEvent, ClusterClient, ServerStoppedError
from tests.core.conftest import StartServer
from tests.support.cluster import cluster_event, cluster_stats, heard, joined, start_nodes
from tests.support.nats_server import nats_server
from tests.support.ports import free_port
from tests.support.sockets import closed, frames, opened, until


def message(**fields: object) -> str:
    return json.dumps(fields)


@contextmanager
def client_of(*urls: str) -> Iterator[ClusterClient]:
    client = ClusterClient(urls)
    try:
        yield client
    finally:
        client.close()


async def test_it_reaches_everybody(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        a, b = await start_nodes(start_server, 2, [nats.url])
        with client_of(nats.url) as client:
            client.connect(30)
            async with opened(a, "anna") as anna, opened(b, "citra", "admin") as citra:
                await heard(a, b)
                client.broadcast_to_user("anna", message(n=1))
                client.broadcast_to_users(["anna", "citra"], message(n=2))
                client.broadcast_many([("citra", message(n=3)), ("anna", message(n=4))])
                client.broadcast_to_admins(message(n=5))
                client.broadcast_to_clients(message(n=6))
                client.broadcast_to_all(message(n=7))
                (info,) = a.connections()
                assert client.send(info.connection_id, message(n=8)) == 1
                assert client.send("nonsense", "{}") == 0
                assert client.fence(30)
                assert await frames(anna, 6) == [{"n": n} for n in (1, 2, 4, 6, 7, 8)]
                assert await frames(citra, 4) == [{"n": n} for n in (2, 3, 5, 7)]
                assert client.disconnect(info.connection_id) is True
                assert (await closed(anna))[0] == 4500
            assert client.stats().published == 10


async def test_an_event_reaches_one_of_those_that_listen(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        (server,) = await start_nodes(start_server, 1, [nats.url])
        with client_of(nats.url) as one, client_of(nats.url) as other, client_of(nats.url) as deaf:
            for client in (one, other, deaf):
                client.connect(30)
            for client in (one, other):
                client.listen_to_events()
                assert client.fence(30)
            for number in range(100):
                assert server.publish_event(b"%d" % number) is True
            heard: list[int] = []

            def look() -> bool:
                for client in (one, other):
                    events = [event for event in client.drain_events() if isinstance(event, AppEvent)]
                    heard.extend(int(event.data) for event in events)
                return len(heard) >= 100

            await until(look, "all events")
            assert sorted(heard) == list(range(100))
            assert not [event for event in deaf.drain_events() if isinstance(event, AppEvent)]


async def test_its_descriptor_is_readable_while_events_wait(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        (server,) = await start_nodes(start_server, 1, [nats.url])
        with client_of(nats.url) as client:
            client.connect(30)
            client.listen_to_events()
            assert client.fence(30)
            client.drain_events()
            server.publish_event(b"news")
            readable, _, _ = select.select([client.fileno()], [], [], 30)
            assert readable


async def test_it_comes_back_with_nats(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        (server,) = await start_nodes(start_server, 1, [nats.url])
        with client_of(nats.url) as client:
            client.connect(30)
            client.listen_to_events()
            nats.kill()
            await cluster_event(client, "the link is lost")
            client.broadcast_to_user("anna", "{}")
            assert client.stats().dropped_unlinked == 1
            assert not client.fence(30)
            await nats.restart()
            await joined([client, server])
            assert client.fence(30)
            server.publish_event(b"back")
            await until(lambda: any(isinstance(event, AppEvent) for event in client.drain_events()), "the event")


async def test_where_nothing_answers_it_says_so_and_goes_on(start_server: StartServer, tmp_path: Path) -> None:
    with client_of(f"nats://127.0.0.1:{free_port()}") as client:
        with pytest.raises(ServerStoppedError, match="not started"):
            client.broadcast_to_all("{}")
        with pytest.raises(ConnectionError, match="nats_url"):
            client.connect(0.5)
        client.broadcast_to_all("{}")
        assert cluster_stats(client).dropped_unlinked == 1
        client.close()
        with pytest.raises(ServerStoppedError):
            client.broadcast_to_all("{}")
        with pytest.raises(ServerStoppedError):
            client.connect(1)


def test_it_needs_a_server() -> None:
    with pytest.raises(ValueError, match="nats_url"):
        ClusterClient([])
