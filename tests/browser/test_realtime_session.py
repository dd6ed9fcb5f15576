"""The browser client over hours: sessions that end, paths that die in silence. The tests move the clock."""

from __future__ import annotations

import json

import pytest

from jasaweb_rt.auth.session_jwt import SESSION_SECONDS
from tests.browser.application import PASSWORD, Application
from tests.browser.client_page import LOG_IN, Client, stop_clock
from tests.browser.conftest import NewPage, Watch
from tests.support.scripted_server import ScriptedServer, ScriptedSocket, durable, stored

pytestmark = pytest.mark.asyncio(loop_scope="session")

WEEK = 7 * 24 * 3600


async def pass_seconds(client: Client, seconds: float) -> None:
    """Every timer of the page that falls due meanwhile runs."""
    await client.page.clock.run_for(round(seconds * 1000))


async def assert_state(client: Client, state: str) -> None:
    assert (await client.call("client.getSnapshot()"))["state"] == state


class TestRefresh:
    async def open(self, client: Client, scripted: ScriptedServer, session_seconds: float) -> ScriptedSocket:
        scripted.session_seconds = session_seconds
        await client.start()
        socket = await scripted.accept()
        await socket.sync(head=3)
        await client.until_state("open")
        return socket

    async def open_with(
        self, client: Client, scripted: ScriptedServer, answer: str, session_seconds: float
    ) -> ScriptedSocket:
        """The same with tokens made in the page: the first, then those of `answer`, all noted in `requests`."""
        url = json.dumps(scripted.base_url.replace("http", "ws") + "/ws")
        await client.call(f"""() => {{
          window.connectionUrl = {url};
          const encode = (claims) => btoa(JSON.stringify(claims)).replaceAll("=", "");
          window.token = (left) => `e30.${{encode({{ sub: "u", iat: 9, session_exp: 9 + left }})}}.`;
          window.requests = [];
          window.answer = () => ({{ token: token({session_seconds}), connectionUrl }});
          window.client = new RealtimeClient({{ getToken: async () => {{ requests.push(1); return answer(); }} }});
          client.connect();
        }}""")
        socket = await scripted.accept()
        await socket.sync(head=3)
        await client.until("client.position.lastSeq === 3")
        await client.call(f"() => {{ answer = {answer}; requests.length = 0; }}")
        return socket

    async def assert_refreshed(self, socket: ScriptedSocket, scripted: ScriptedServer) -> None:
        frame = await socket.receive()
        assert (frame["type"], frame["data"]) == ("refresh", {"token": scripted.token})

    async def test_a_new_token_goes_over_the_open_socket_before_the_session_ends(
        self, timed: Client, scripted: ScriptedServer
    ) -> None:
        socket = await self.open(timed, scripted, 1800)
        await pass_seconds(timed, 1670)
        assert scripted.token_requests == 1
        await pass_seconds(timed, 20)
        await self.assert_refreshed(socket, scripted)
        await pass_seconds(timed, 1660)
        assert scripted.token_requests == 2
        await pass_seconds(timed, 30)
        await self.assert_refreshed(socket, scripted)
        await assert_state(timed, "open")
        assert scripted.token_requests == 3
        assert scripted.idle
        assert await timed.call("states") == ["connecting", "open"]

    async def test_a_session_longer_than_a_timer_can_count(self, timed: Client, scripted: ScriptedServer) -> None:
        # setTimeout counts to 2^31 ms, 24.8 days, and beyond it fires at once.
        socket = await self.open(timed, scripted, 5 * WEEK)
        await pass_seconds(timed, 600)
        assert scripted.token_requests == 1
        scripted.session_seconds = None
        await socket.close(4001, "Session expired")
        await timed.until_state("waiting")
        await pass_seconds(timed, 1)
        await (await scripted.accept()).welcome()
        await timed.until_state("open")
        await pass_seconds(timed, 600)
        assert scripted.token_requests == 2

    async def test_a_session_that_is_not_prolonged_is_asked_for_a_few_times_only(
        self, timed: Client, scripted: ScriptedServer
    ) -> None:
        socket = await self.open_with(timed, scripted, "() => ({ token: token(left), connectionUrl })", 600)
        asked = []
        for left in range(590, 0, -10):
            await timed.call(f"() => {{ window.left = {left}; }}")
            await pass_seconds(timed, 10)
            if await timed.call("requests.splice(0).length"):
                assert (await socket.receive())["type"] == "refresh"
                asked.append(left)
        assert asked[0] in (110, 120)
        assert 3 <= len(asked) <= 6
        await assert_state(timed, "open")

    async def test_what_fails_is_tried_again_and_the_end_is_a_new_connection(
        self, timed: Client, scripted: ScriptedServer
    ) -> None:
        socket = await self.open_with(timed, scripted, "() => { throw new Error('no token today'); }", 300)
        asked = []
        for left in range(290, -20, -10):
            await pass_seconds(timed, 10)
            if await timed.call("requests.splice(0).length"):
                asked.append(left)
        assert asked[0] in (110, 120)
        assert 3 <= len(asked) <= 6
        await pass_seconds(timed, 60)
        assert await timed.call("requests.length") == 0
        await assert_state(timed, "open")
        await timed.call("() => { answer = () => ({ token: token(600), connectionUrl }); }")
        await socket.close(4001, "Session expired")
        await timed.until_state("waiting")
        await pass_seconds(timed, 1)
        assert (await scripted.accept()).query == {"last_seq": "3", "epoch": "E1"}

    async def test_another_user_s_token_is_not_for_this_socket(self, timed: Client, scripted: ScriptedServer) -> None:
        socket = await self.open(timed, scripted, 300)
        scripted.user_id = "user-2"
        await pass_seconds(timed, 190)
        await socket.until_ended()
        await timed.until_state("waiting")
        await pass_seconds(timed, 1)
        other = await scripted.accept()
        assert other.query == {}
        await other.welcome()
        await timed.until("client.position.user === 'user-2'")

    async def test_a_token_that_comes_after_its_socket_has_gone_is_dropped(
        self, timed: Client, scripted: ScriptedServer
    ) -> None:
        url = json.dumps(scripted.base_url.replace("http", "ws") + "/ws")
        token = json.dumps(self.token(scripted))
        await timed.call(f"""() => {{
          window.tokens = [];
          window.client = new RealtimeClient({{ getToken: () => new Promise((resolve) =>
            tokens.push(() => resolve({{ token: {token}, connectionUrl: {url} }}))) }});
          client.connect();
          tokens[0]();
        }}""")
        socket = await scripted.accept()
        await socket.welcome()
        await timed.until_state("open")
        await pass_seconds(timed, 190)
        await timed.until("tokens.length === 2")
        await socket.close(1011)
        await timed.until_state("waiting")
        await pass_seconds(timed, 1)
        await timed.until("tokens.length === 3")
        await timed.call("tokens[2]()")
        back = await scripted.accept()
        await back.welcome()
        await timed.until_state("open")
        await timed.call("tokens[1]()")
        await timed.call("client.send('user_message', {})")
        assert (await back.receive())["type"] == "user_message"

    def token(self, scripted: ScriptedServer) -> str:
        scripted.session_seconds = 300
        return scripted.token


async def test_the_program_takes_the_new_token(app: Application, new_page: NewPage) -> None:
    person = await app.new_person()
    page = await new_page()
    await page.goto(f"{app.url}/login")
    await stop_clock(page)
    await page.evaluate(LOG_IN, {"email": person.email, "password": PASSWORD})
    await page.evaluate("""async () => {
      const { RealtimeClient } = await import("/static/realtime.js");
      window.tokens = 0;
      window.errors = [];
      const getToken = async () => {
        const answer = await (await fetch("/api/websocket/token", { method: "POST" })).json();
        tokens++;
        return answer;
      };
      window.client = new RealtimeClient({ getToken });
      client.on("error", ({ data }) => errors.push([data.code, data.ref]));
      client.connect();
    }""")
    client = Client(page)
    await client.until_state("open")
    await pass_seconds(client, SESSION_SECONDS - 100)
    await client.until("tokens === 2")
    # Answered in the order of their arrival: a refused token would have come first.
    await client.call("() => { window.wrong = client.send('no such type', {}); }")
    await client.until("errors.length > 0")
    assert await client.call("errors.map(([code, ref]) => [code, ref === wrong])") == [["unknown_type", True]]
    await assert_state(client, "open")


class TestSilence:
    """A socket that looks open, while what should have come does not come."""

    async def open(self, client: Client, scripted: ScriptedServer) -> ScriptedSocket:
        await client.start()
        socket = await scripted.accept()
        await socket.sync(head=2)
        await client.until("client.position.lastSeq === 2")
        return socket

    async def look(self, client: Client, event: str = "visibilitychange") -> None:
        await client.call(f"() => {{ dispatchEvent(new Event('{event}')); }}")

    @pytest.mark.parametrize("event", ["online", "visibilitychange", "pageshow"])
    async def test_what_http_has_and_the_socket_has_not_ends_it(
        self, timed: Client, scripted: ScriptedServer, event: str
    ) -> None:
        scripted.notifications = [stored(seq) for seq in (1, 2, 3)]
        await self.open(timed, scripted)
        await pass_seconds(timed, 61)
        await self.look(timed, event)
        await timed.until("delays.includes(5000)")
        assert scripted.pages == [2]
        await pass_seconds(timed, 5)
        assert (await timed.until_state("waiting"))["reason"] == "Silent"
        await pass_seconds(timed, 1)
        assert (await scripted.accept()).query["last_seq"] == "2"

    async def test_what_was_under_way_is_waited_for(self, timed: Client, scripted: ScriptedServer) -> None:
        scripted.notifications = [stored(seq) for seq in (1, 2, 3)]
        socket = await self.open(timed, scripted)
        await pass_seconds(timed, 61)
        await self.look(timed)
        await timed.until("delays.includes(5000)")
        await socket.send(durable(3))
        await timed.until_seq(3)
        await pass_seconds(timed, 5)
        await assert_state(timed, "open")

    async def test_nothing_missed_changes_nothing_and_is_asked_once_a_minute(
        self, timed: Client, scripted: ScriptedServer
    ) -> None:
        scripted.notifications = [stored(1)]
        scripted.head_seq = 4  # what came last was deleted
        await self.open(timed, scripted)
        await self.look(timed)
        await pass_seconds(timed, 61)
        await self.look(timed)
        await self.look(timed)
        await timed.until("delays.includes(5000)")
        await pass_seconds(timed, 30)
        await self.look(timed)
        await pass_seconds(timed, 5)
        assert scripted.pages == [2]
        await assert_state(timed, "open")

    async def test_a_network_that_is_gone_ends_it(self, timed: Client, scripted: ScriptedServer, watch: Watch) -> None:
        watch.allow("net::ERR_")
        await self.open(timed, scripted)
        await pass_seconds(timed, 61)
        await timed.page.route("**/api/notifications**", lambda route: route.abort())
        await self.look(timed)
        await timed.until("delays.includes(5000)")
        await pass_seconds(timed, 5)
        await timed.until_state("waiting")

    async def test_an_app_in_trouble_does_not(self, timed: Client, scripted: ScriptedServer, watch: Watch) -> None:
        watch.allow("503")
        scripted.page_statuses.append(503)
        scripted.notifications = [stored(9)]
        await self.open(timed, scripted)
        await pass_seconds(timed, 61)
        await self.look(timed)
        await timed.until("delays.includes(5000)")
        await pass_seconds(timed, 5)
        await assert_state(timed, "open")

    async def test_a_server_without_an_inbox_is_not_asked(self, timed: Client, scripted: ScriptedServer) -> None:
        await timed.start()
        await (await scripted.accept()).welcome()
        await timed.until_state("open")
        await pass_seconds(timed, 61)
        await self.look(timed)
        await pass_seconds(timed, 5)
        assert scripted.pages == []
        await assert_state(timed, "open")

    async def test_what_a_dead_path_would_pile_up_is_refused(self, client: Client, scripted: ScriptedServer) -> None:
        await client.start()
        await (await scripted.accept()).welcome()
        await client.until_state("open")
        # In one turn of the page, in which nothing leaves it.
        sent = await client.call("""() => {
          const content = "x".repeat(10_000);
          return Array.from({ length: 20 }, () => client.send("user_message", { content }) !== null);
        }""")
        assert sent[0]
        assert not sent[-1]
