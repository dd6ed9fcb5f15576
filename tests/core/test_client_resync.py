"""The asyncio client catches up by pages: against a server that does what a test tells it to."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from jasaweb_rt import client as client_module
from jasaweb_rt import client_inbox, client_pages
from jasaweb_rt.client import Frame, InboxPages, RealtimeClient, RealtimeClientError
from tests.support.scripted_server import (
    Gate,
    Message,
    ScriptedServer,
    ScriptedSocket,
    durable,
    resync,
    scripted_server,
    stored,
)
from tests.support.sockets import until

WAIT_SECONDS = 20.0


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait between two attempts."""
    for module in (client_module, client_pages):
        monkeypatch.setattr(module, "backoff", lambda _: 0.0)


class Listener:
    """Iterates over a client in a task of its own, and keeps what it was handed."""

    def __init__(self, client: RealtimeClient) -> None:
        self.client = client
        self.frames: list[Frame] = []
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for frame in self.client:
            self.frames.append(frame)

    @property
    def seqs(self) -> list[int]:
        return [frame["seq"] for frame in self.frames if "seq" in frame]

    async def until_seq(self, seq: int) -> None:
        await self.until(lambda: seq in self.seqs, f"seq {seq}")

    async def until(self, condition: Callable[[], object], what: str = "the condition") -> None:
        await until(lambda: self._task.done() or condition(), what)
        if self._task.done():
            self._task.result()
            assert condition(), "the iteration has ended"

    async def end(self) -> None:
        """Waits for the end of the iteration, which others have caused, and raises what it raised."""
        async with asyncio.timeout(WAIT_SECONDS):
            await self._task


def client_of(scripted: ScriptedServer, **options: Any) -> RealtimeClient:
    url = scripted.base_url.replace("http", "ws") + "/ws"
    options.setdefault("token", scripted.token)
    options.setdefault("fetch_page", InboxPages(url, "session"))
    return RealtimeClient(url, **options)


def unnumbered(text: str) -> Message:
    return {"type": "system_announcement", "data": {"message": text}, "timestamp": "", "id": text}


async def told_to_page(
    scripted: ScriptedServer, client: RealtimeClient, *, after: int = 2, head: int = 500, epoch: str = "E1"
) -> tuple[Listener, ScriptedSocket]:
    """A client whose server has too much to replay."""
    listener = Listener(client)
    socket = await scripted.accept()
    await socket.welcome()
    await socket.send(resync(after, head, epoch))
    return listener, socket


async def test_pages_then_what_was_held_then_live(scripted: ScriptedServer) -> None:
    scripted.notifications = [stored(seq) for seq in range(1, 501) if seq % 10]
    scripted.head_seq = 500
    gate = Gate(scripted, open_until=1)
    async with client_of(scripted, last_seq=2, epoch="E1") as client:
        listener, socket = await told_to_page(scripted, client)
        await until(lambda: len(scripted.pages) == 2)
        await socket.send(durable(501, unread=77, rev=600), durable(502, unread=78, rev=601), unnumbered("now"))
        # Not durable, and not in the inbox: nothing to wait for.
        await listener.until(lambda: listener.frames[-1]["id"] == "now")
        assert client.unread == 78
        assert client.last_seq == listener.seqs[-1] < 501
        await gate.open()
        await listener.until_seq(502)
        await socket.send(durable(503))
        await listener.until_seq(503)
        assert listener.seqs == [seq for seq in range(3, 504) if seq % 10 or seq > 500]
        assert [frame["type"] for frame in listener.frames].count("resync") == 1
        assert (client.last_seq, client.epoch) == (503, "E1")


async def test_what_a_page_had_too_comes_once(scripted: ScriptedServer) -> None:
    scripted.notifications = [stored(seq) for seq in range(1, 8)]
    gate = Gate(scripted)
    async with client_of(scripted, last_seq=2, epoch="E1", batch=True) as client:
        listener, socket = await told_to_page(scripted, client, head=5)
        await socket.send_text(json.dumps([durable(6, unread=9, rev=9), durable(7), durable(8, unread=11, rev=11)]))
        await listener.until(lambda: client.unread == 11)
        await gate.open()
        await listener.until_seq(8)
        assert listener.seqs == [3, 4, 5, 6, 7, 8]
        # The page's count is older than that of the frame.
        assert client.unread == 11


async def test_a_flood_meanwhile_is_read_by_pages(scripted: ScriptedServer) -> None:
    scripted.notifications = [stored(seq) for seq in range(1, 901)]
    gate = Gate(scripted)
    async with client_of(scripted, last_seq=2, epoch="E1") as client:
        listener, socket = await told_to_page(scripted, client, head=100)
        await socket.send(*(durable(seq, unread=seq, rev=seq + 1000) for seq in range(101, 903)))
        await listener.until(lambda: client.unread == 902)
        await gate.open()
        await listener.until_seq(902)
        assert listener.seqs == list(range(3, 903))


async def test_a_page_that_fails_is_fetched_again_on_the_same_socket(scripted: ScriptedServer) -> None:
    scripted.notifications = [stored(seq) for seq in range(1, 501)]
    scripted.page_statuses.extend([503, 200, 429, 500, 502])
    gate = Gate(scripted, open_until=2)
    async with client_of(scripted, last_seq=2, epoch="E1") as client:
        listener, socket = await told_to_page(scripted, client)
        await until(lambda: len(scripted.pages) == 3)
        await socket.send(durable(501))
        await gate.open()
        await listener.until_seq(501)
        assert listener.seqs == list(range(3, 502))
        assert scripted.pages == [2, 2, 202, 202, 202, 202, 402]
        assert scripted.idle


async def test_a_socket_lost_meanwhile_loses_nothing(scripted: ScriptedServer) -> None:
    scripted.notifications = [stored(seq) for seq in range(1, 1201)]
    gate = Gate(scripted, open_until=1)
    async with client_of(scripted, last_seq=2, epoch="E1") as client:
        listener, socket = await told_to_page(scripted, client, head=1100)
        await until(lambda: len(scripted.pages) == 2)
        await socket.send(durable(1101), unnumbered("held"))
        await listener.until(lambda: listener.frames[-1]["id"] == "held")
        await socket.close(1011)
        back = await scripted.accept()
        # What was held and not handed out is not had.
        assert back.query["last_seq"] == "202"
        await gate.open()
        await back.welcome()
        await back.send(resync(202, 1150), durable(1151))
        await listener.until_seq(1151)
        assert listener.seqs == list(range(3, 1201))[: len(listener.seqs)]


async def test_a_second_resync_while_paging_goes_on_from_where_the_client_is(scripted: ScriptedServer) -> None:
    scripted.notifications = [stored(seq) for seq in range(1, 1001)]
    gate = Gate(scripted, open_until=1)
    async with client_of(scripted, last_seq=2, epoch="E1") as client:
        listener, socket = await told_to_page(scripted, client)
        await until(lambda: len(scripted.pages) == 2)
        # The server counts as sent what it told by the first one, and what it sent after that.
        await socket.send(durable(501), durable(502), resync(502, 990), durable(991))
        await listener.until(lambda: [frame["type"] for frame in listener.frames].count("resync") == 2)
        await gate.open()
        await listener.until_seq(991)
        assert listener.seqs[: 991 - 2] == list(range(3, 992))


async def test_pages_that_reached_further_than_the_server_sent_are_not_read_again(scripted: ScriptedServer) -> None:
    scripted.notifications = [stored(seq) for seq in range(1, 601)]
    async with client_of(scripted, last_seq=2, epoch="E1") as client:
        listener, socket = await told_to_page(scripted, client)
        await listener.until_seq(600)
        scripted.notifications = [stored(seq) for seq in range(1, 1101)]
        await socket.send(resync(500, 1100), durable(1101))
        await listener.until_seq(1101)
        assert listener.seqs == list(range(3, 1102))


async def test_another_epoch_while_paging_starts_from_the_beginning(scripted: ScriptedServer) -> None:
    scripted.notifications = [stored(seq) for seq in range(1, 501)]
    gate = Gate(scripted, open_until=1)
    async with client_of(scripted, last_seq=2, epoch="E1") as client:
        listener, socket = await told_to_page(scripted, client)
        await until(lambda: len(scripted.pages) == 2)
        scripted.notifications = [stored(1), stored(2)]
        await socket.send(resync(0, 2, "E2"), durable(3, unread=1, rev=1))
        await listener.until(lambda: client.epoch == "E2")
        await gate.open()
        await listener.until_seq(3)
        await listener.until(lambda: listener.seqs == [*range(3, 203), 1, 2, 3], str(listener.seqs[-5:]))
        assert (client.last_seq, client.unread) == (3, 2)


async def test_a_position_beyond_the_head_starts_from_the_beginning(scripted: ScriptedServer) -> None:
    scripted.notifications = [stored(1), stored(2)]
    async with client_of(scripted, last_seq=40, epoch="E1") as client:
        listener, socket = await told_to_page(scripted, client, after=0, head=2)
        await listener.until_seq(2)
        await socket.send(durable(3, unread=3, rev=3))
        await listener.until_seq(3)
        assert listener.seqs == [1, 2, 3]
        assert client.unread == 3


async def test_an_empty_database_empties_the_count(scripted: ScriptedServer) -> None:
    async with client_of(scripted) as client:
        listener = Listener(client)
        socket = await scripted.accept()
        await socket.sync(head=9, unread=9, rev=90)
        await listener.until(lambda: client.unread == 9)
        scripted.head_seq = 0
        await socket.send(resync(0, 0, "E2"))
        await listener.until(lambda: client.unread == 0)
        assert (client.last_seq, client.epoch) == (0, "E2")


async def test_an_inbox_that_ends_too_soon_has_the_server_asked_anew(scripted: ScriptedServer) -> None:
    scripted.head_seq = 2
    async with client_of(scripted, last_seq=2, epoch="E1") as client:
        listener, socket = await told_to_page(scripted, client, head=10)
        back = await scripted.accept()
        await asyncio.wait_for(socket.ended.wait(), WAIT_SECONDS)
        assert back.query["last_seq"] == "2"
        await back.sync(head=3, resumed_from=2)
        await back.send(durable(3))
        await listener.until_seq(3)
        assert (scripted.pages, listener.seqs) == ([2], [3])


async def test_a_refresh_is_sent_while_paging(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted.notifications = [stored(seq) for seq in range(1, 4)]
    gate = Gate(scripted)
    tokens = ["first", "second"]
    # A clock that stands still: due in a moment, however long anything takes.
    monkeypatch.setattr(client_module, "time", SimpleNamespace(time=lambda: 1000.0, monotonic=time.monotonic))
    monkeypatch.setattr(client_module, "session_end", lambda token: 1060.2 if token == "first" else None)

    async def fetch_token() -> str:
        return tokens.pop(0)

    async with client_of(scripted, token=fetch_token, last_seq=2, epoch="E1") as client:
        listener, socket = await told_to_page(scripted, client, head=3)
        refresh = await socket.receive()
        assert (refresh["type"], refresh["data"]) == ("refresh", {"token": "second"})
        assert listener.seqs == []
        await gate.open()
        await listener.until_seq(3)
        assert scripted.pages == [2]


async def test_a_caller_who_waits_in_small_pieces_misses_nothing(scripted: ScriptedServer) -> None:
    scripted.notifications = [stored(seq) for seq in range(1, 601)]
    async with client_of(scripted, last_seq=2, epoch="E1") as client:
        seqs: list[int] = []

        async def listen() -> None:
            while seqs[-1:] != [620]:
                try:
                    async with asyncio.timeout(0.001):
                        frame = await anext(client)
                except TimeoutError:
                    await asyncio.sleep(0)
                else:
                    seqs.extend([frame["seq"]] if "seq" in frame else [])

        # Opened first: an attempt to connect that is broken off begins anew.
        welcome = asyncio.create_task(anext(client))
        socket = await scripted.accept()
        await socket.welcome()
        await welcome
        listening = asyncio.create_task(listen())
        await socket.send(resync(2, 600))
        for seq in range(601, 621):
            await socket.send(durable(seq))
        await asyncio.wait_for(listening, WAIT_SECONDS)
        assert seqs == list(range(3, 621))


async def test_a_refused_session_ends_the_iteration(scripted: ScriptedServer) -> None:
    scripted.notifications = [stored(3)]
    scripted.page_statuses.append(401)
    async with client_of(scripted, last_seq=2, epoch="E1") as client:
        listener, _ = await told_to_page(scripted, client, head=3)
        with pytest.raises(RealtimeClientError, match="401") as raised:
            await listener.end()
        assert raised.value.code == 401


async def test_what_else_a_fetcher_raises_is_its_callers_who_may_go_on(scripted: ScriptedServer) -> None:
    pages = InboxPages(scripted.base_url, "session")
    failures: list[Exception] = [KeyError("page"), TimeoutError()]

    async def fetch_page(after: int, limit: int) -> Message:
        if failures:
            raise failures.pop(0)
        return await pages(after, limit)

    scripted.notifications = [stored(3)]
    async with client_of(scripted, fetch_page=fetch_page, last_seq=2, epoch="E1") as client:
        listener, _ = await told_to_page(scripted, client, head=3)
        with pytest.raises(KeyError):
            await listener.end()
        again = Listener(client)
        await again.until_seq(3)
        assert (again.seqs, failures) == ([3], [])


async def test_what_is_not_the_inbox_may_be_asked_again() -> None:
    async def answer(text: bytes) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 " + text)
            writer.close()

        server = await stack.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", 0))
        return int(server.sockets[0].getsockname()[1])

    async with AsyncExitStack() as stack:
        # A proxy that has an opinion of its own, an answer that is cut off, one that is no HTTP.
        for text, what in [
            (b"200 OK\r\n\r\n<!doctype html>Log in to this network", "is not the inbox"),
            (b'200 OK\r\nContent-Length: 99\r\n\r\n{"items": [', "not all of it"),
            (b"OK\r\n\r\n", "is not whole"),
            (b"503 Service Unavailable\r\n\r\n", "503"),
        ]:
            with pytest.raises(OSError, match=what):
                await InboxPages(f"http://127.0.0.1:{await answer(text)}", "session")(0, 10)


async def test_a_body_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_inbox, "_BODY_SECONDS", 0.2)
    gone = asyncio.Event()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()
        gone.set()

    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TimeoutError, match="to arrive"):
            await InboxPages(f"http://127.0.0.1:{port}", "session")(0, 10)
        await asyncio.wait_for(gone.wait(), WAIT_SECONDS)


async def test_the_session_does_not_follow_a_redirect(scripted: ScriptedServer) -> None:
    scripted.notifications = [stored(1)]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {scripted.base_url}/api/notifications\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RealtimeClientError, match="302"):
            await InboxPages(f"http://127.0.0.1:{port}", "session")(0, 10)
    assert scripted.pages == []


async def test_closing_while_paging_ends_at_once(scripted: ScriptedServer) -> None:
    scripted.notifications = [stored(seq) for seq in range(1, 4)]
    gate = Gate(scripted)
    async with client_of(scripted, last_seq=2, epoch="E1") as client:
        listener, socket = await told_to_page(scripted, client, head=3)
        await until(lambda: scripted.pages == [2])
        await client.close()
        await listener.end()
        await asyncio.wait_for(socket.ended.wait(), WAIT_SECONDS)
    assert (client.last_seq, listener.seqs) == (2, [])
    await gate.open()
