"""The asyncio client against the core alone."""

import asyncio
import json

import pytest

import jasaweb_rt.client as client_module
from jasaweb_rt._core import FanoutServer
from jasaweb_rt.client import Frame, RealtimeClient, RealtimeClientError
from jasaweb_rt.messages import AdminAlert, UserMessage
from tests.core.conftest import StartServer
from tests.support.ports import free_port
from tests.support.sockets import socket_url, until
from tests.support.tokens import connection_token


class Tokens:
    """A token provider that counts, and fails where it is told to."""

    def __init__(self, user_id: str = "u-1", *failures: Exception) -> None:
        self.fetched = 0
        self._user_id = user_id
        self._failures = list(failures)

    async def __call__(self) -> str:
        self.fetched += 1
        if self._failures:
            raise self._failures.pop(0)
        return connection_token(self._user_id)


async def next_frame(client: RealtimeClient) -> Frame:
    async with asyncio.timeout(20):
        return await anext(client)


async def ended(client: RealtimeClient) -> RealtimeClientError:
    """How the iteration ends by itself."""
    try:
        while True:
            await next_frame(client)
    except RealtimeClientError as error:
        return error


def message(text: str) -> UserMessage:
    return UserMessage(from_user_id="a", from_user_name="A", to_user_id="u-1", subject="s", content=text)


async def test_frames_arrive_in_order(server: FanoutServer) -> None:
    async with RealtimeClient(socket_url(server), connection_token("u-1")) as client:
        assert (await next_frame(client))["data"]["title"] == "Connected"
        assert client.connected
        for text in "abc":
            assert server.broadcast_to_user("u-1", message(text)) == 1
        assert [(await next_frame(client))["data"]["content"] for _ in "abc"] == ["a", "b", "c"]


@pytest.mark.parametrize("batch", [True, False])
async def test_several_frames_in_one_message_are_taken_apart(server: FanoutServer, batch: bool) -> None:
    async with RealtimeClient(socket_url(server), connection_token("u-1"), batch=batch) as client:
        await next_frame(client)
        server.broadcast_many([("u-1", message(str(number))) for number in range(50)])
        found = [(await next_frame(client))["data"]["content"] for _ in range(50)]
        assert found == [str(number) for number in range(50)]
    assert (server.stats().arrays > 0) == batch


async def test_what_it_sends_arrives(server: FanoutServer) -> None:
    arrived: list[tuple[str, bytes]] = []
    server.on_message(lambda batch: arrived.extend((user_id, frame) for _, user_id, _, frame in batch))
    async with RealtimeClient(socket_url(server), connection_token("u-1")) as client:
        with pytest.raises(ConnectionError, match="not connected"):
            await client.send("ack", {"seq": 1})
        await next_frame(client)
        identity = await client.send("ack", {"seq": 1})
        await until(lambda: arrived)
    user_id, frame = arrived[0]
    assert user_id == "u-1"
    assert json.loads(frame)["id"] == identity
    assert json.loads(frame)["data"] == {"seq": 1}


async def test_closing_ends_the_iteration(server: FanoutServer) -> None:
    async with RealtimeClient(socket_url(server), connection_token("u-1")) as client:
        await next_frame(client)
        waiting = asyncio.ensure_future(collect(client))
        await until(lambda: server.stats().connections == 1)
        await client.close()
        async with asyncio.timeout(20):
            assert await waiting == []
        assert [frame async for frame in client] == []
    await until(lambda: server.stats().connections == 0)


async def collect(client: RealtimeClient) -> list[Frame]:
    return [frame async for frame in client]


@pytest.mark.parametrize("code", [1000, 4500])
async def test_a_close_for_good_ends_the_iteration(server: FanoutServer, code: int) -> None:
    tokens = Tokens()
    async with RealtimeClient(socket_url(server), tokens) as client:
        await next_frame(client)
        assert server.disconnect(server.connections()[0].connection_id, code)
        assert (await ended(client)).code == code
        assert tokens.fetched == 1


@pytest.mark.parametrize("code", [1011, 1013, 4001])
async def test_any_other_close_is_followed_by_a_new_connection(server: FanoutServer, code: int) -> None:
    tokens = Tokens()
    async with RealtimeClient(socket_url(server), tokens) as client:
        await next_frame(client)
        assert server.disconnect(server.connections()[0].connection_id, code)
        assert (await next_frame(client))["data"]["title"] == "Connected"
        assert tokens.fetched == 2


async def test_a_refused_token_is_renewed_once(start_server: StartServer) -> None:
    server, fetched = start_server(), 0

    async def stale() -> str:
        nonlocal fetched
        fetched += 1
        return connection_token("u-1", exp=1)

    async with RealtimeClient(socket_url(server), stale) as client:
        error = await ended(client)
    assert (error.code, error.reason, fetched) == (1008, "Invalid authentication", 2)
    async with RealtimeClient(socket_url(server), "nonsense") as client:
        assert (await ended(client)).code == 1008


@pytest.mark.parametrize("failure", [OSError("no route"), TimeoutError()])
async def test_a_token_that_cannot_be_fetched_is_asked_for_again(server: FanoutServer, failure: Exception) -> None:
    tokens = Tokens("u-1", failure, failure)
    async with RealtimeClient(socket_url(server), tokens) as client:
        assert (await next_frame(client))["data"]["title"] == "Connected"
    assert tokens.fetched == 3


async def test_what_else_a_provider_raises_is_its_callers(server: FanoutServer) -> None:
    async with RealtimeClient(socket_url(server), Tokens("u-1", KeyError("user"))) as client:
        with pytest.raises(KeyError):
            await next_frame(client)


async def test_a_path_that_is_not_there_ends_the_iteration(server: FanoutServer) -> None:
    async with RealtimeClient(socket_url(server) + "x", connection_token("u-1")) as client:
        assert (await ended(client)).code == 404


async def test_it_comes_back_after_the_server_has(start_server: StartServer) -> None:
    port = free_port()
    first = start_server(port=port)
    async with RealtimeClient(socket_url(first), Tokens()) as client:
        await next_frame(client)
        await asyncio.to_thread(first.stop, 5)
        second = start_server(port=port)
        assert (await next_frame(client))["data"]["title"] == "Connected"
        assert second.broadcast_to_user("u-1", AdminAlert(event="e", message="m")) == 1
        assert (await next_frame(client))["data"]["event"] == "e"


async def test_a_caller_who_polls_does_not_cut_a_wait_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "backoff", lambda _: 3600.0)
    tokens = Tokens("u-1", ConnectionError("away"))
    async with RealtimeClient("ws://127.0.0.1:1/ws", tokens) as client:

        async def poll() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(client)

        while not tokens.fetched:
            await poll()
        for _ in range(5):
            await poll()
    assert tokens.fetched == 1


async def test_the_pauses_grow_while_nobody_lets_it_in_however_long_it_was_connected(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    def backoff(attempt: int) -> float:
        attempts.append(attempt)
        return 0.0

    monkeypatch.setattr(client_module, "backoff", backoff)
    # As if any connection had been open for long.
    monkeypatch.setattr(client_module, "_STABLE_SECONDS", -1.0)
    server = start_server(port=free_port())
    async with RealtimeClient(socket_url(server), Tokens()) as client:
        await next_frame(client)
        await asyncio.to_thread(server.stop, 0)
        reading = asyncio.ensure_future(anext(client))
        await until(lambda: len(attempts) >= 4)
        reading.cancel()
        await asyncio.wait([reading])
    assert attempts[:4] == [0, 1, 2, 3]
