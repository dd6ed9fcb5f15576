"""The browser client's position: whose it is, where it is kept, and what is read by HTTP to come there."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.browser.client_page import START, Client
from tests.browser.conftest import Watch
from tests.support.scripted_server import Gate, ScriptedServer, ScriptedSocket, durable, resync, stored

pytestmark = pytest.mark.asyncio(loop_scope="session")


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
            socket = await scripted.accept()
            assert socket.query == query
            # Chromium complains of a page that is left while its socket is being opened.
            await socket.welcome()
            await client.until_state("open")

    async def test_is_kept_behind_what_was_told(self, client: Client, scripted: ScriptedServer) -> None:
        await client.call("""() => {
          window.kept = [];
          window.told = [];
          window.client = new RealtimeClient({ storage: localStorage });
          client.on("*", ({ seq }) => {
            told.push(seq ?? 0);
            kept.push(JSON.parse(localStorage.getItem("jasaweb_rt:user-1") ?? "{}").lastSeq ?? null);
          });
          client.connect();
        }""")
        socket = await scripted.accept()
        await socket.sync(head=4)
        await socket.send(durable(5), durable(6))
        await client.until("told.length === 4")
        assert await client.call("told") == [0, 0, 5, 6]
        assert await client.call("kept") == [None, None, 4, 5]
        assert await client.call("client.position.lastSeq") == 6
        assert json.loads(await client.call("localStorage.getItem('jasaweb_rt:user-1')")) == {
            "epoch": "E1",
            "lastSeq": 6,
        }

    @pytest.mark.parametrize("kept", ["{broken", "null", "[]", '{"lastSeq":-1}', '{"lastSeq":"x","epoch":"E1"}'])
    async def test_storage_that_is_barred_or_spoilt_does_no_harm(
        self, client: Client, scripted: ScriptedServer, kept: str
    ) -> None:
        await client.call(
            START.replace("(options) =>", "(kept) =>").replace(
                "(options)", "({ storage: { getItem: () => kept, setItem() { throw new Error('full'); } } })"
            ),
            kept,
        )
        socket = await scripted.accept()
        assert socket.query == {}
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
        await socket.send(resync(after, head, epoch))
        return socket

    async def test_pages_then_what_was_held(self, client: Client, scripted: ScriptedServer) -> None:
        scripted.notifications = [stored(seq) for seq in range(1, 501)]
        gate = Gate(scripted, open_until=1)
        socket = await self.resync(client, scripted)
        await client.until_seq(202)
        await socket.send(durable(501, unread=77, rev=600), durable(502, unread=78, rev=601))
        await client.until("client.getSnapshot().unread === 78")  # so they have arrived, and are held
        await gate.open()
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
        gate = Gate(scripted)
        socket = await self.resync(client, scripted, head=5)
        await socket.send(durable(6, unread=9, rev=9), durable(7, unread=10, rev=10), durable(8, unread=11, rev=11))
        await client.until("client.getSnapshot().unread === 11")
        await gate.open()
        await client.until_seq(8)
        assert await client.seqs() == [3, 4, 5, 6, 7, 8]

    async def test_a_flood_meanwhile_is_read_by_http(self, client: Client, scripted: ScriptedServer) -> None:
        scripted.notifications = [stored(seq) for seq in range(1, 901)]
        gate = Gate(scripted)
        socket = await self.resync(client, scripted, head=100)
        await socket.send(*(durable(seq, unread=seq, rev=seq + 1000) for seq in range(101, 903)))
        await client.until("client.getSnapshot().unread === 902")
        await gate.open()
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
        await socket.send(resync(0, 0, "E2"))
        await client.until("client.getSnapshot().unread === 0")

    async def test_a_position_beyond_the_head_starts_from_the_beginning(
        self, client: Client, scripted: ScriptedServer
    ) -> None:
        """An older state of the same database was restored."""
        scripted.notifications = [stored(1)]
        socket = await self.resync(client, scripted, after=0, head=1)
        await client.until_seq(1)
        await socket.send(durable(2, unread=2, rev=2))
        await client.until_seq(2)
        assert await client.seqs() == [1, 2]
        assert await client.call("client.getSnapshot().unread") == 2

    async def test_a_second_one_meanwhile_goes_on_from_where_the_client_is(
        self, client: Client, scripted: ScriptedServer
    ) -> None:
        scripted.notifications = [stored(seq) for seq in range(1, 1001)]
        gate = Gate(scripted, open_until=1)
        socket = await self.resync(client, scripted)
        await client.until_seq(202)
        # The server counts as sent what it told by the first one, and what it sent after that.
        await socket.send(durable(501), durable(502))
        await socket.send(resync(502, 990), durable(991))
        await client.until("seen.filter((m) => m.type === 'resync').length === 2")
        await gate.open()
        await client.until_seq(991)
        assert (await client.seqs())[:989] == list(range(3, 992))

    async def test_pages_that_reached_further_than_the_server_sent_are_not_read_again(
        self, client: Client, scripted: ScriptedServer
    ) -> None:
        scripted.notifications = [stored(seq) for seq in range(1, 601)]
        socket = await self.resync(client, scripted)
        await client.until_seq(600)
        scripted.notifications = [stored(seq) for seq in range(1, 1101)]
        await socket.send(resync(500, 1100), durable(1101))
        await client.until_seq(1101)
        assert await client.seqs() == list(range(3, 1102))

    async def test_another_epoch_meanwhile_starts_from_the_beginning(
        self, client: Client, scripted: ScriptedServer
    ) -> None:
        scripted.notifications = [stored(seq) for seq in range(1, 501)]
        go_on = asyncio.Event()

        async def hold_the_old(page: int) -> None:
            # By where it begins: of two requests under way either may come first.
            if scripted.pages[page - 1] == 202:
                await go_on.wait()

        scripted.before_page = hold_the_old
        socket = await self.resync(client, scripted)
        await client.until_seq(202)
        scripted.notifications = [stored(1), stored(2)]
        await socket.send(resync(0, 2, "E2"), durable(3, unread=3, rev=3))
        await client.until("seen.at(-1).seq === 3")
        go_on.set()
        await socket.send(durable(4, unread=4, rev=4))
        await client.until("seen.at(-1).seq === 4")
        assert await client.seqs() == [*range(3, 203), 1, 2, 3, 4]

    async def test_a_page_that_closes_the_client_is_told_nothing_more(
        self, client: Client, scripted: ScriptedServer
    ) -> None:
        scripted.notifications = [stored(seq) for seq in range(1, 6)]
        for last, begin in ((4, 2), (7, 4)):
            gate = Gate(scripted, open_until=len(scripted.pages))
            await client.start(lastSeq=begin, epoch="E1")
            await client.call(f"void client.on('project_update', ({{ seq }}) => seq === {last} && client.close())")
            socket = await scripted.accept()
            await socket.welcome()
            await socket.send(resync(begin, 5))
            await socket.send(*(durable(seq, unread=seq, rev=seq) for seq in (6, 7, 8)))
            await client.until("client.getSnapshot().unread === 8")
            await gate.open()
            await client.until_state("closed")
            assert await client.seqs() == list(range(begin + 1, last + 1))
            assert await client.call("client.position.lastSeq") == last

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
        gate = Gate(scripted, open_until=1)
        socket = await self.resync(client, scripted, head=300)
        await client.until_seq(202)
        await socket.close(1011)
        back = await scripted.accept()
        assert back.query["last_seq"] == "202"
        await back.sync(head=300, resumed_from=202)
        await back.send(durable(203))
        await client.until_seq(203)
        await gate.open()
        await back.send(durable(204))
        await client.until_seq(204)
        assert await client.seqs() == list(range(3, 205))
