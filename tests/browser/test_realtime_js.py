"""The browser client against a server that misbehaves on demand."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.browser.client_page import START, Client, stop_clock
from tests.browser.conftest import NewPage, Watch
from tests.support.scripted_server import STATIC, ScriptedServer, durable

pytestmark = pytest.mark.asyncio(loop_scope="session")


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

    async def test_no_answer_is_given_up(self, scripted: ScriptedServer, new_page: NewPage, watch: Watch) -> None:
        watch.allow("closed before the connection is established")  # where the answer to the upgrade is late as well
        page = await new_page()
        await page.goto(scripted.base_url)
        await page.wait_for_function("window.RealtimeClient !== undefined")
        await stop_clock(page)
        client = Client(page)
        await client.start()
        silent = await scripted.accept()
        await page.clock.run_for(15_000)
        await silent.until_ended()
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
        await socket.until_ended()
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
        await timed.until("client.position.lastSeq === 1")
        await timed.page.clock.run_for(60_000)
        assert (await timed.call("client.getSnapshot()"))["state"] == "open"
        await timed.page.clock.fast_forward(120_000)
        await timed.until_state("waiting")
        await timed.page.clock.run_for(500)
        assert (await scripted.accept()).query["last_seq"] == "1"

    async def test_waking_up_does_not_shorten_the_server_s_time(self, timed: Client, scripted: ScriptedServer) -> None:
        await timed.start()
        await (await scripted.accept()).close(1001, "Server shutting down; retry after 9000 ms")
        await timed.until_state("waiting")
        await timed.call("dispatchEvent(new Event('online'))")
        assert 8000 < await timed.call("delays.at(-1)") <= 9000
        await timed.page.clock.run_for(9000)
        await scripted.accept()

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
        await socket.until_ended()
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
