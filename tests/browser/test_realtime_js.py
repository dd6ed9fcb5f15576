"""The browser client against a server that misbehaves on demand."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page

from tests.browser.conftest import NewPage, Watch
from tests.browser.scripted_server import STATIC, Message, ScriptedServer, ScriptedSocket

pytestmark = pytest.mark.asyncio(loop_scope="session")

START = """(options) => {
  window.seen = [];
  window.states = [];
  window.client = new RealtimeClient(options);
  client.on("*", (message) => seen.push(message));
  client.on("state", (snapshot) => states.push(snapshot.state));
  client.connect();
}"""
RECORD_TIMERS = """() => {
  const original = window.setTimeout;
  window.delays = [];
  window.setTimeout = (callback, delay, ...rest) => { delays.push(delay); return original(callback, delay, ...rest); };
}"""


def durable(seq: int, *, unread: int = 0, rev: int | None = None, **data: object) -> Message:
    return {
        "type": "project_update",
        "data": {"title": f"n{seq}", "message": "", **data},
        "timestamp": "2026-01-01T00:00:00.000Z",
        "id": f"id-{seq}",
        "seq": seq,
        "unread": unread,
        "rev": seq if rev is None else rev,
    }


def stored(seq: int) -> Message:
    return {
        "id": f"id-{seq}",
        "seq": seq,
        "type": "project_update",
        "title": f"n{seq}",
        "message": "",
        "data": {"projectId": "p"},
        "readAt": None,
        "createdAt": "2026-01-01T00:00:00.000Z",
    }


class Client:
    """The client in the page, as a test drives it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def start(self, **options: object) -> None:
        await self.page.evaluate(START, options)

    async def call(self, expression: str, argument: object = None) -> Any:
        return await self.page.evaluate(expression, argument)

    async def seqs(self) -> list[int]:
        """The durable messages that were told, in the order they were told."""
        seqs: list[int] = await self.page.evaluate("seen.filter((m) => m.seq !== undefined).map((m) => m.seq)")
        return seqs

    async def until(self, condition: str) -> None:
        await self.page.wait_for_function(condition)

    async def until_state(self, state: str) -> dict[str, Any]:
        await self.until(f"client.getSnapshot().state === {json.dumps(state)}")
        snapshot: dict[str, Any] = await self.page.evaluate("client.getSnapshot()")
        return snapshot

    async def until_seq(self, seq: int) -> None:
        await self.until(f"seen.some((m) => m.seq === {seq})")


@pytest_asyncio.fixture(loop_scope="session")
async def client(scripted: ScriptedServer, new_page: NewPage) -> AsyncIterator[Client]:
    """A page that has the client loaded, with no wait between attempts."""
    page = await new_page()
    await page.add_init_script("Math.random = () => 0")
    await page.goto(scripted.base_url)
    await page.wait_for_function("window.RealtimeClient !== undefined")
    yield Client(page)


async def test_the_file_is_at_most_4_kib_gzipped() -> None:
    assert len(gzip.compress((STATIC / "realtime.js").read_bytes(), 9, mtime=0)) <= 4096


class TestConnecting:
    async def test_token_goes_as_a_subprotocol_and_open_means_welcomed(
        self, client: Client, scripted: ScriptedServer
    ) -> None:
        await client.start()
        socket = await scripted.accept()
        assert socket.subprotocols[0] == "jasaweb.v1"
        assert socket.subprotocols[1].startswith("bearer.ey")
        assert socket.query == {}
        assert await client.call("client.getSnapshot().state") == "connecting"
        await socket.welcome()
        await client.until_state("open")
        assert await client.call("states") == ["connecting", "open"]
        assert await client.call("seen.map((m) => m.data.title)") == ["Connected"]
        assert await client.call("client.position.user") == "user-1"

    async def test_own_get_token_and_batch(self, client: Client, scripted: ScriptedServer) -> None:
        url = scripted.base_url.replace("http", "ws") + "/ws?via=own"
        await client.call(f"""() => {{
          window.seen = [];
          window.client = new RealtimeClient({{
            getToken: async () => ({{ token: "opaque", connectionUrl: {json.dumps(url)} }}),
            batch: true, lastSeq: 4, epoch: "E1",
          }});
          client.on("*", (message) => seen.push(message));
          client.connect();
        }}""")
        socket = await scripted.accept()
        assert socket.query == {"via": "own", "batch": "1", "last_seq": "4", "epoch": "E1"}
        assert scripted.token_requests == 0
        await socket.sync(head=4, resumed_from=4)
        await socket.send_text(json.dumps([durable(5), durable(5), durable(6)]))
        await client.until_seq(6)
        assert await client.seqs() == [5, 6]

    async def test_no_answer_is_given_up(self, scripted: ScriptedServer, new_page: NewPage) -> None:
        page = await new_page()
        await page.clock.install()
        await page.goto(scripted.base_url)
        await page.wait_for_function("window.RealtimeClient !== undefined")
        client = Client(page)
        await client.start()
        silent = await scripted.accept()
        await page.clock.run_for(15_000)
        await asyncio.wait_for(silent.ended.wait(), 10)
        await page.clock.run_for(500)
        await (await scripted.accept()).welcome()
        await client.until_state("open")

    async def test_refused_session_is_final(self, client: Client, scripted: ScriptedServer, watch: Watch) -> None:
        watch.allow("401")
        scripted.token_statuses.append(401)
        await client.start()
        assert (await client.until_state("closed"))["code"] == 401
        assert scripted.token_requests == 1

    async def test_a_token_route_in_trouble_is_tried_again(
        self, client: Client, scripted: ScriptedServer, watch: Watch
    ) -> None:
        watch.allow("503")
        scripted.token_statuses.extend([503, 503])
        await client.start()
        await (await scripted.accept()).welcome()
        await client.until_state("open")
        assert scripted.token_requests == 3

    async def test_close_then_connect_resumes(self, client: Client, scripted: ScriptedServer) -> None:
        await client.start()
        socket = await scripted.accept()
        await socket.sync(head=7)
        await client.until_state("open")
        await client.until("client.position.lastSeq === 7")
        await client.call("client.close()")
        await asyncio.wait_for(socket.ended.wait(), 10)
        assert (await client.until_state("closed"))["code"] == 1000
        await client.call("client.connect()")
        assert (await scripted.accept()).query == {"last_seq": "7", "epoch": "E1"}

    async def test_close_while_the_token_is_under_way(self, client: Client, scripted: ScriptedServer) -> None:
        # All in one turn, as React's StrictMode does it: the first token cannot have come yet.
        await client.call(START.replace("client.connect();", "client.connect(); client.close(); client.connect();"), {})
        await (await scripted.accept()).welcome()
        await client.until_state("open")
        assert scripted.idle


class TestCloseCodes:
    @pytest.mark.parametrize("code", [1000, 1003, 1007, 1009, 4004, 4500])
    async def test_final(self, client: Client, scripted: ScriptedServer, code: int) -> None:
        await client.start()
        socket = await scripted.accept()
        await socket.welcome()
        await socket.close(code, "why")
        snapshot = await client.until_state("closed")
        assert (snapshot["code"], snapshot["reason"]) == (code, "why")
        await client.call("""() => {
          dispatchEvent(new Event("online")); dispatchEvent(new Event("offline")); dispatchEvent(new Event("pageshow"));
        }""")
        assert (await client.call("client.getSnapshot()"))["state"] == "closed"
        assert scripted.token_requests == 1

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            (1001, "Server shutting down; retry after 1 ms"),
            (1008, "Rate limit exceeded"),
            (1011, "Internal server error"),
            (1013, "Try again later"),
            (4001, "Session expired"),
            (4002, "Slow consumer"),
            (4003, "No pong"),
        ],
    )
    async def test_comes_back_with_a_new_token_and_its_position(
        self, client: Client, scripted: ScriptedServer, code: int, reason: str
    ) -> None:
        await client.start()
        socket = await scripted.accept()
        await socket.sync(head=3)
        await socket.send(durable(4))
        await socket.close(code, reason)
        back = await scripted.accept()
        assert back.query == {"last_seq": "4", "epoch": "E1"}
        assert scripted.token_requests == 2

    async def test_invalid_authentication_gets_one_new_token(self, client: Client, scripted: ScriptedServer) -> None:
        await client.start()
        await (await scripted.accept()).close(1008, "Invalid authentication")
        await (await scripted.accept()).close(1008, "Invalid authentication")
        assert (await client.until_state("closed"))["reason"] == "Invalid authentication"
        assert scripted.token_requests == 2

    async def test_a_welcome_between_gives_a_new_token_again(self, client: Client, scripted: ScriptedServer) -> None:
        await client.start()
        for _ in range(3):
            socket = await scripted.accept()
            await socket.welcome()
            await socket.close(1008, "Invalid authentication")
        await scripted.accept()


class TestBackoff:
    @pytest_asyncio.fixture(loop_scope="session")
    async def timed(self, scripted: ScriptedServer, new_page: NewPage) -> Client:
        """A page whose clock the test moves and whose jitter is the greatest."""
        page = await new_page()
        await page.clock.install()
        await page.add_init_script("Math.random = () => 1")
        await page.goto(scripted.base_url)
        await page.wait_for_function("window.RealtimeClient !== undefined")
        await page.evaluate(RECORD_TIMERS)
        return Client(page)

    async def fail(self, client: Client, scripted: ScriptedServer, *, code: int = 1011, reason: str = "") -> int:
        """One connection that ends before its welcome; the wait that follows, in ms."""
        await (await scripted.accept()).close(code, reason)
        await client.until_state("waiting")
        delay: int = await client.call("delays.at(-1)")
        await client.page.clock.run_for(delay)
        return delay

    async def test_doubles_up_to_30_seconds(self, timed: Client, scripted: ScriptedServer) -> None:
        await timed.start()
        delays = [await self.fail(timed, scripted) for _ in range(8)]
        assert delays == [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]

    async def test_starts_anew_only_after_a_stable_connection(self, timed: Client, scripted: ScriptedServer) -> None:
        await timed.start()
        assert [await self.fail(timed, scripted) for _ in range(2)] == [500, 1000]
        for lived, expected in ((1_000, 2000), (20_000, 500)):
            socket = await scripted.accept()
            await socket.welcome()
            await timed.until_state("open")
            await timed.page.clock.run_for(lived)
            await socket.close(1011)
            await timed.until_state("waiting")
            assert await timed.call("delays.at(-1)") == expected
            await timed.page.clock.run_for(expected)

    async def test_the_server_s_own_time_is_kept(self, timed: Client, scripted: ScriptedServer) -> None:
        await timed.start()
        reason = "Server shutting down; retry after 2718 ms"
        assert await self.fail(timed, scripted, code=1001, reason=reason) == 2718
        await (await scripted.accept()).welcome()
        await timed.until_state("open")

    async def test_after_sleep_the_socket_is_not_believed(self, timed: Client, scripted: ScriptedServer) -> None:
        await timed.start()
        socket = await scripted.accept()
        await socket.sync(head=1)
        await timed.until_state("open")
        await timed.page.clock.run_for(60_000)
        assert (await timed.call("client.getSnapshot()"))["state"] == "open"
        await timed.page.clock.fast_forward(120_000)
        await timed.until_state("waiting")
        await timed.page.clock.run_for(500)
        assert (await scripted.accept()).query["last_seq"] == "1"

    async def test_offline_ends_and_online_comes_back_soon(self, timed: Client, scripted: ScriptedServer) -> None:
        await timed.start()
        for _ in range(5):
            await self.fail(timed, scripted)
        await (await scripted.accept()).welcome()
        await timed.until_state("open")
        await timed.call("dispatchEvent(new Event('offline'))")
        assert (await timed.until_state("waiting"))["reason"] == "offline"
        await timed.call("dispatchEvent(new Event('online'))")
        assert await timed.call("delays.at(-1)") == 500
        await timed.page.clock.run_for(500)
        await scripted.accept()

    async def test_the_page_s_cache_holds_no_socket(self, timed: Client, scripted: ScriptedServer) -> None:
        await timed.start()
        socket = await scripted.accept()
        await socket.welcome()
        await timed.until_state("open")
        await timed.call("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
        await asyncio.wait_for(socket.ended.wait(), 10)
        await timed.call("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
        await timed.page.clock.run_for(500)
        await scripted.accept()


class TestMessages:
    async def test_each_durable_message_once_and_in_order(self, client: Client, scripted: ScriptedServer) -> None:
        await client.start()
        socket = await scripted.accept()
        await socket.sync(head=2)
        await socket.send(durable(3), durable(2), durable(3), durable(4))
        await socket.close(4002, "Slow consumer")
        back = await scripted.accept()
        await back.sync(head=6, resumed_from=4)
        await back.send(durable(4), durable(5), durable(6), durable(6), durable(7))
        await client.until_seq(7)
        assert await client.seqs() == [3, 4, 5, 6, 7]

    async def test_a_seq_that_was_deleted_is_no_hole(self, client: Client, scripted: ScriptedServer) -> None:
        await client.start()
        socket = await scripted.accept()
        await socket.sync(head=2)
        await socket.send(durable(3), durable(6))
        await client.until_seq(6)
        assert await client.seqs() == [3, 6]

    async def test_unread_follows_the_newest_rev_only(self, client: Client, scripted: ScriptedServer) -> None:
        await client.start()
        await client.call("() => { window.counts = []; client.on('unread', (count) => counts.push(count)); }")
        socket = await scripted.accept()
        await socket.sync(head=0, unread=5, rev=10)
        read = {"type": "read", "data": {"ids": ["a"], "unread": 3, "rev": 12}, "timestamp": "", "id": "r"}
        stale = {"type": "read", "data": {"ids": ["b"], "unread": 4, "rev": 11}, "timestamp": "", "id": "r"}
        await socket.send(read, stale, durable(1, unread=9, rev=11), durable(2, unread=4, rev=13))
        await client.until_seq(2)
        assert await client.call("counts") == [5, 3, 4]
        assert await client.call("client.getSnapshot().unread") == 4

    async def test_direct_messages_have_no_order(self, client: Client, scripted: ScriptedServer) -> None:
        await client.start()
        socket = await scripted.accept()
        await socket.sync(head=2)
        await client.call("() => { window.typed = []; client.on('user_message', (m) => typed.push(m.data.content)); }")
        for content in ("a", "a", "b"):
            await socket.send({"type": "user_message", "data": {"content": content}, "timestamp": "", "id": "x"})
        await client.until("typed.length === 3")
        assert await client.call("typed") == ["a", "a", "b"]

    async def test_listeners_end_and_fail_alone(self, client: Client, scripted: ScriptedServer, watch: Watch) -> None:
        watch.allow("listener's own")
        await client.start()
        await client.call("""() => {
          window.heard = [];
          client.on("project_update", () => { throw new Error("listener's own"); });
          window.end = client.on("project_update", (m) => heard.push(m.seq));
        }""")
        socket = await scripted.accept()
        await socket.sync(head=0)
        await socket.send(durable(1))
        await client.until_seq(1)
        await client.call("end()")
        await socket.send(durable(2))
        await client.until_seq(2)
        assert await client.call("heard") == [1]

    async def test_snapshot_is_the_same_until_it_changes(self, client: Client, scripted: ScriptedServer) -> None:
        await client.start()
        socket = await scripted.accept()
        await socket.sync(head=0, unread=1, rev=1)
        await client.until("client.getSnapshot().unread === 1")
        await client.call("""() => {
          window.before = client.getSnapshot();
          window.changes = 0;
          const { subscribe } = client;
          window.end = subscribe(() => changes++);
        }""")
        await socket.send(durable(1, unread=1, rev=2))
        await client.until_seq(1)
        assert await client.call("client.getSnapshot() === before && changes === 0")
        await socket.send(durable(2, unread=2, rev=3))
        await client.until("changes === 1")
        assert await client.call("client.getSnapshot() !== before && before.unread === 1 && Object.isFrozen(before)")

    async def test_send(self, client: Client, scripted: ScriptedServer) -> None:
        await client.start()
        assert await client.call("client.send('user_message', {})") is None
        socket = await scripted.accept()
        await socket.welcome()
        await client.until_state("open")
        message_id = await client.call("client.send('user_message', { content: 'hello' })")
        sent = await socket.receive()
        assert sent["id"] == message_id
        assert (sent["type"], sent["data"]) == ("user_message", {"content": "hello"})
        assert sent["timestamp"].endswith("Z")

    async def test_mark_read_by_socket_else_by_http(self, client: Client, scripted: ScriptedServer) -> None:
        await client.start()
        socket = await scripted.accept()
        await socket.sync(head=3, unread=3, rev=3)
        await client.until_state("open")
        await client.call("client.markRead({ ids: ['id-1'] })")
        sent = await socket.receive()
        assert (sent["type"], sent["data"]) == ("read", {"ids": ["id-1"]})
        await client.call("client.close()")
        await client.call("client.markRead({ upTo: 3 })")
        assert scripted.reads == [({"upTo": 3}, "csrf-1")]
        assert await client.call("client.getSnapshot().unread") == 0


class TestPosition:
    async def test_is_one_user_s(self, client: Client, scripted: ScriptedServer) -> None:
        await client.start()
        socket = await scripted.accept()
        await socket.sync(head=9, unread=4, rev=90)
        await client.until("client.getSnapshot().unread === 4")
        scripted.user_id = "user-2"
        await socket.close(4001, "Session expired")
        other = await scripted.accept()
        assert other.query == {}
        assert await client.call("client.getSnapshot().unread") is None
        await other.sync(head=2, unread=1, rev=2)
        await other.send(durable(3, unread=2, rev=3))
        await client.until_seq(3)
        assert await client.call("client.getSnapshot().unread") == 2

    async def test_outlives_the_page_in_storage(self, client: Client, scripted: ScriptedServer) -> None:
        start = START.replace("(options) =>", "() =>").replace("(options)", "({ storage: sessionStorage })")
        await client.call(start)
        socket = await scripted.accept()
        await socket.sync(head=4)
        await socket.send(durable(5))
        await client.until_seq(5)
        for user_id, query in (("user-2", {}), ("user-1", {"last_seq": "5", "epoch": "E1"})):
            scripted.user_id = user_id
            await client.page.reload()
            await client.until("window.RealtimeClient !== undefined")
            await client.call(start)
            assert (await scripted.accept()).query == query

    async def test_storage_that_is_barred_or_spoilt_does_no_harm(
        self, client: Client, scripted: ScriptedServer
    ) -> None:
        await client.call(
            START.replace("(options) =>", "() =>").replace(
                "(options)", "({ storage: { getItem: () => '{broken', setItem() { throw new Error('full'); } } })"
            )
        )
        socket = await scripted.accept()
        await socket.sync(head=4)
        await socket.send(durable(5))
        await client.until_seq(5)


class TestResync:
    async def resync(
        self, client: Client, scripted: ScriptedServer, *, after: int = 2, head: int = 500, epoch: str = "E1"
    ) -> ScriptedSocket:
        """A client at 2 of epoch E1 that is told to page up to `head`."""
        await client.start(lastSeq=2, epoch="E1")
        socket = await scripted.accept()
        await socket.welcome()
        data = {"epoch": epoch, "fromSeq": after, "headSeq": head}
        await socket.send({"type": "resync", "data": data, "timestamp": "", "id": "y"})
        return socket

    async def test_pages_then_what_was_held(self, client: Client, scripted: ScriptedServer) -> None:
        scripted.notifications = [stored(seq) for seq in range(1, 501)]
        go_on = asyncio.Event()

        async def wait_at_second(page: int) -> None:
            if page == 2:
                await go_on.wait()

        scripted.before_page = wait_at_second
        socket = await self.resync(client, scripted)
        await client.until_seq(202)
        await socket.send(durable(501, unread=77, rev=600), durable(502, unread=78, rev=601))
        await client.until("client.getSnapshot().unread === 78")  # so they have arrived, and are held
        go_on.set()
        await client.until_seq(502)
        await socket.send(durable(503))
        await client.until_seq(503)
        assert await client.seqs() == list(range(3, 504))
        assert scripted.pages == [2, 202, 402]
        assert await client.call("seen.filter((m) => m.type === 'resync').length") == 1
        third = await client.call("seen.find((m) => m.seq === 3)")
        assert third["data"] == {"title": "n3", "message": "", "projectId": "p"}
        assert third["timestamp"] == "2026-01-01T00:00:00.000Z"

    async def test_held_messages_that_a_page_had_too_come_once(self, client: Client, scripted: ScriptedServer) -> None:
        scripted.notifications = [stored(seq) for seq in range(1, 8)]
        go_on = asyncio.Event()

        async def wait(_: int) -> None:
            await go_on.wait()

        scripted.before_page = wait
        socket = await self.resync(client, scripted, head=5)
        await socket.send(durable(6, unread=9, rev=9), durable(7, unread=10, rev=10), durable(8, unread=11, rev=11))
        await client.until("client.getSnapshot().unread === 11")
        go_on.set()
        await client.until_seq(8)
        assert await client.seqs() == [3, 4, 5, 6, 7, 8]

    async def test_a_flood_meanwhile_is_read_by_http(self, client: Client, scripted: ScriptedServer) -> None:
        scripted.notifications = [stored(seq) for seq in range(1, 901)]
        go_on = asyncio.Event()

        async def wait(_: int) -> None:
            await go_on.wait()

        scripted.before_page = wait
        socket = await self.resync(client, scripted, head=100)
        await socket.send(*(durable(seq, unread=seq, rev=seq + 1000) for seq in range(101, 903)))
        await client.until("client.getSnapshot().unread === 902")
        go_on.set()
        await client.until_seq(902)
        assert await client.seqs() == list(range(3, 903))

    async def test_what_was_deleted_at_the_end_is_passed_over(self, client: Client, scripted: ScriptedServer) -> None:
        scripted.notifications = [stored(3), stored(4)]
        scripted.head_seq = 10
        socket = await self.resync(client, scripted, head=10)
        await client.until("client.position.lastSeq === 10")
        await socket.send(durable(11))
        await client.until_seq(11)
        assert await client.seqs() == [3, 4, 11]

    async def test_another_epoch_starts_from_the_beginning(self, client: Client, scripted: ScriptedServer) -> None:
        scripted.notifications = [stored(1)]
        socket = await self.resync(client, scripted, after=0, head=1, epoch="E2")
        await client.until_seq(1)
        await socket.send(durable(2, unread=2, rev=2))
        await client.until_seq(2)
        assert await client.seqs() == [1, 2]
        await socket.close(4003, "No pong")
        assert (await scripted.accept()).query == {"last_seq": "2", "epoch": "E2"}

    async def test_an_empty_database_empties_the_badge(self, client: Client, scripted: ScriptedServer) -> None:
        await client.start()
        socket = await scripted.accept()
        await socket.sync(head=9, unread=9, rev=90)
        await client.until("client.getSnapshot().unread === 9")
        scripted.head_seq = 0
        data = {"epoch": "E2", "fromSeq": 0, "headSeq": 0}
        await socket.send({"type": "resync", "data": data, "timestamp": "", "id": "y"})
        await client.until("client.getSnapshot().unread === 0")

    async def test_a_sync_of_another_epoch_is_a_resync(self, client: Client, scripted: ScriptedServer) -> None:
        scripted.notifications = [stored(1), stored(2)]
        await client.start(lastSeq=40, epoch="E1")
        await (await scripted.accept()).sync(head=2, epoch="E2")
        await client.until_seq(2)
        assert await client.seqs() == [1, 2]
        assert await client.call("seen.map((m) => m.type)") == [
            "system_announcement",
            "resync",
            "project_update",
            "project_update",
        ]

    async def test_a_page_that_fails_is_fetched_after_a_new_connection(
        self, client: Client, scripted: ScriptedServer, watch: Watch
    ) -> None:
        watch.allow("503")
        scripted.notifications = [stored(seq) for seq in range(1, 301)]
        scripted.page_statuses.extend([200, 503])
        await self.resync(client, scripted, head=300)
        back = await scripted.accept()
        assert back.query == {"last_seq": "202", "epoch": "E1"}
        await back.sync(head=300, resumed_from=202)
        await back.send(*(durable(seq) for seq in range(203, 301)))
        await client.until_seq(300)
        assert await client.seqs() == list(range(3, 301))

    async def test_a_server_that_makes_no_progress_is_left(self, client: Client, scripted: ScriptedServer) -> None:
        scripted.head_seq = 2
        await self.resync(client, scripted, head=10)
        await scripted.accept()
        assert scripted.pages == [2]

    async def test_a_socket_lost_meanwhile_ends_it(self, client: Client, scripted: ScriptedServer) -> None:
        scripted.notifications = [stored(seq) for seq in range(1, 301)]
        go_on = asyncio.Event()

        async def wait_at_second(page: int) -> None:
            if page == 2:
                await go_on.wait()

        scripted.before_page = wait_at_second
        socket = await self.resync(client, scripted, head=300)
        await client.until_seq(202)
        await socket.close(1011)
        back = await scripted.accept()
        assert back.query["last_seq"] == "202"
        await back.sync(head=300, resumed_from=202)
        await back.send(durable(203))
        await client.until_seq(203)
        go_on.set()
        await back.send(durable(204))
        await client.until_seq(204)
        assert await client.seqs() == list(range(3, 205))
