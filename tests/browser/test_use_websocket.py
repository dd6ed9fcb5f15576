"""The React hooks with a real React, against a server that misbehaves on demand."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser import npm_modules
from tests.browser.client_page import stop_clock
from tests.browser.conftest import NewPage, Watch
from tests.support.scripted_server import STATIC, ScriptedServer, ScriptedSocket, durable, resync, stored

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPT = Path(__file__).parent / "pages" / "hook.js"
PAGE = b"""<!doctype html><html lang="en"><title>Hooks</title><link rel="icon" href="/static/favicon.svg">
<div id="root"></div><script type="module" src="/hook.js"></script></html>"""


class Components:
    """The components of the page, as a test drives them."""

    def __init__(self, page: Page, scripted: ScriptedServer) -> None:
        self.page = page
        self.scripted = scripted

    async def show(self, *components: dict[str, Any]) -> None:
        """Mounts these, and unmounts all others; the same place keeps its component."""
        await self.page.evaluate("(components) => show(components)", list(components))

    async def open(self, *components: dict[str, Any]) -> ScriptedSocket:
        """Mounts, and waits until the one socket of them all is open."""
        await self.show(*components)
        socket = await self.scripted.accept()
        await socket.sync(head=0)
        return socket

    async def expect_status(self, name: str, status: str) -> None:
        """What a panel shows: state, `isConnected`, unread count, code."""
        await expect(self.page.locator(f"#{name} output")).to_have_text(status)

    async def expect_messages(self, name: str, *titles: str) -> None:
        await expect(self.page.locator(f"#{name} li")).to_have_text(list(titles))

    async def until(self, condition: str) -> None:
        await self.page.wait_for_function(f"() => {condition}")

    async def call(self, expression: str) -> Any:
        return await self.page.evaluate(expression)


@pytest_asyncio.fixture(
    loop_scope="session",
    params=["development", "production"],
)
async def components(
    request: pytest.FixtureRequest, scripted: ScriptedServer, new_page: NewPage, bundles: Path
) -> Components:
    """A page with React: its development build under StrictMode, which mounts all twice, and its production build."""
    build = request.param
    scripted.files = {
        "/hook.html": PAGE,
        "/hook.js": SCRIPT.read_bytes(),
        "/react.js": (bundles / f"react.{build}.js").read_bytes(),
    }
    page = await new_page()
    await page.add_init_script("Math.random = () => 0")
    await page.goto(f"{scripted.base_url}/hook.html{'?strict' if build == 'development' else ''}")
    components = Components(page, scripted)
    await components.until("window.ready")
    return components


async def test_the_file_is_at_most_3_kib_gzipped() -> None:
    assert len(gzip.compress((STATIC / "use-websocket.js").read_bytes(), 9, mtime=0)) <= 3072


class TestOneComponent:
    async def test_connects_shows_messages_and_sends(self, components: Components, scripted: ScriptedServer) -> None:
        await components.show({"name": "a"})
        socket = await scripted.accept()
        await components.expect_status("a", "connecting false null 0")
        assert await components.call("sockets.a.sendMessage({ type: 'user_message', data: {} })") is None
        await socket.sync(head=0, unread=2, rev=1)
        await components.expect_status("a", "open true 2 0")
        await socket.send(durable(1, unread=3))
        await components.expect_messages("a", "Connected", "n1")
        await components.expect_status("a", "open true 3 0")
        sent = await components.call("sockets.a.sendMessage({ type: 'user_message', data: { content: 'hello' } })")
        frame = await socket.receive()
        assert (frame["id"], frame["type"], frame["data"]) == (sent, "user_message", {"content": "hello"})
        assert frame["timestamp"].endswith("Z")
        assert scripted.token_requests == 1
        assert scripted.idle

    async def test_functions_keep_their_identity(self, components: Components) -> None:
        socket = await components.open({"name": "a"})
        await socket.send(durable(1), durable(2, unread=9))
        await components.expect_status("a", "open true 9 0")
        assert await components.call("functions.size") == 4

    async def test_marks_as_read(self, components: Components) -> None:
        socket = await components.open({"name": "a"})
        await socket.send(durable(1, unread=1))
        await components.expect_status("a", "open true 1 0")
        await components.call("sockets.a.markRead({ upTo: 1 })")
        frame = await socket.receive()
        assert (frame["type"], frame["data"]) == ("read", {"upTo": 1})
        read = {"type": "read", "data": {"upTo": 1, "unread": 0, "rev": 5}, "timestamp": "", "id": "r"}
        await socket.send(read)
        await components.expect_status("a", "open true 0 0")
        await components.expect_messages("a", "Connected", "n1")

    async def test_a_reconnect_keeps_messages_and_drops_duplicates(
        self, components: Components, scripted: ScriptedServer
    ) -> None:
        socket = await components.open({"name": "a"})
        await socket.send(durable(1), durable(2))
        await components.expect_messages("a", "Connected", "n1", "n2")
        await socket.close(4002, "Slow consumer")
        back = await scripted.accept()
        assert back.query == {"last_seq": "2", "epoch": "E1"}
        await back.send(durable(2), durable(3))
        await components.expect_messages("a", "Connected", "n1", "n2", "n3")
        await components.expect_status("a", "open true 0 0")

    async def test_keeps_the_newest_hundred_or_as_many_as_it_wants(self, components: Components) -> None:
        await components.show({"name": "a"}, {"name": "b", "limit": 3}, {"name": "c", "limit": 0})
        socket = await components.scripted.accept()
        await socket.sync(head=0)
        await socket.send_text(json.dumps([durable(seq) for seq in range(1, 121)]))
        await components.expect_messages("a", *(f"n{seq}" for seq in range(21, 121)))
        await components.expect_messages("b", "n118", "n119", "n120")
        await components.expect_messages("c")
        await components.expect_status("c", "open true 0 0")

    async def test_another_limit_is_no_reason_to_connect(
        self, components: Components, scripted: ScriptedServer
    ) -> None:
        socket = await components.open({"name": "a", "limit": 1})
        await socket.send(durable(1))
        await components.expect_messages("a", "n1")
        await socket.close(4500, "Disconnected by an administrator")
        await components.expect_status("a", "closed false 0 4500")
        await components.show({"name": "a", "limit": 5})
        await components.expect_messages("a", "Connected", "n1")
        await components.expect_status("a", "closed false 0 4500")
        assert scripted.token_requests == 1

    async def test_a_final_close_is_told_and_connect_begins_anew(
        self, components: Components, scripted: ScriptedServer
    ) -> None:
        socket = await components.open({"name": "a"})
        await socket.close(4500, "Disconnected by an administrator")
        await components.expect_status("a", "closed false 0 4500")
        await components.call("sockets.a.connect()")
        await (await scripted.accept()).sync(head=0)
        await components.expect_status("a", "open true 0 0")

    async def test_another_user_s_messages_are_gone(self, components: Components, scripted: ScriptedServer) -> None:
        socket = await components.open({"name": "a"})
        await socket.send(durable(1, unread=1))
        await components.expect_messages("a", "Connected", "n1")
        scripted.user_id = "user-2"
        await socket.close(4001, "Session expired")
        await scripted.accept()
        await components.expect_messages("a")
        await components.expect_status("a", "connecting false null 4001")

    @pytest.mark.parametrize("epoch", ["E1", "E2"], ids=["an older state of it", "another one"])
    async def test_after_the_database_was_restored_messages_begin_anew(
        self, components: Components, scripted: ScriptedServer, epoch: str
    ) -> None:
        socket = await components.open({"name": "a"})
        await socket.send(durable(1), durable(2))
        await components.expect_messages("a", "Connected", "n1", "n2")
        scripted.notifications = [stored(1), stored(2), stored(3)]
        await socket.send(resync(0, 3, epoch))
        await components.expect_messages("a", "n1", "n2", "n3")


class TestManyComponents:
    async def test_share_one_socket_until_the_last_has_gone(
        self, components: Components, scripted: ScriptedServer
    ) -> None:
        socket = await components.open({"name": "a"}, {"name": "b"})
        await socket.send(durable(1))
        await components.expect_messages("a", "Connected", "n1")
        await components.expect_messages("b", "Connected", "n1")
        await components.show({"name": "a"})
        await socket.send(durable(2))
        await components.expect_messages("a", "Connected", "n1", "n2")
        await components.show()
        await socket.until_ended()
        assert scripted.token_requests == 1
        assert scripted.idle
        await components.show({"name": "c"})
        back = await scripted.accept()
        assert back.query == {"last_seq": "2", "epoch": "E1"}
        await back.sync(head=3, resumed_from=2)
        await back.send(durable(3))
        await components.expect_messages("c", "Connected", "n1", "n2", "Connected", "n3")

    async def test_a_change_of_views_keeps_the_socket(self, components: Components, scripted: ScriptedServer) -> None:
        # Before the client is there: to its own timers an hour that passes at once is a sleep.
        await stop_clock(components.page)
        socket = await components.open({"name": "a"})
        await components.expect_status("a", "open true 0 0")
        await components.show()
        await components.page.clock.run_for(500)
        await components.show({"name": "b"})
        await components.expect_status("b", "open true 0 0")
        await components.page.clock.run_for(5000)
        await socket.send(durable(1))
        await components.expect_messages("b", "Connected", "n1")
        assert scripted.token_requests == 1

    async def test_a_component_that_fails_leaves_the_others_alone(self, components: Components, watch: Watch) -> None:
        watch.allow("the component's own|<FaultyPanel>|FaultyPanel")
        socket = await components.open({"name": "a"}, {"kind": "Bounded"})
        await socket.send(durable(1), durable(2), durable(3))
        await expect(components.page.locator("#failed")).to_be_visible()
        await components.expect_messages("a", "Connected", "n1", "n2", "n3")
        await components.expect_status("a", "open true 0 0")


class TestListeners:
    async def test_the_newest_handler_is_called_once_for_each_message(self, components: Components) -> None:
        socket = await components.open({"kind": "Listener", "label": "old"}, {"kind": "EffectListener"})
        await socket.send(durable(1))
        await components.until("heard.length === 2")
        await components.show({"kind": "Listener", "label": "new"}, {"kind": "EffectListener"})
        await socket.send(durable(2))
        await components.until("heard.length === 4")
        await components.show({"kind": "Listener", "label": "new", "type": "user_message"}, {"name": "a"})
        message = {"type": "user_message", "data": {"title": "hello"}, "timestamp": "", "id": "u"}
        await socket.send(durable(3), message)
        await components.expect_messages("a", "Connected", "n1", "n2", "n3", "hello")
        assert sorted(await components.call("heard")) == sorted(
            ["old 1", "effect 1", "new 2", "effect 2", "new user_message"]
        )

    async def test_a_listener_alone_holds_the_socket_and_hears_control_messages_too(
        self, components: Components, scripted: ScriptedServer
    ) -> None:
        await components.show(
            {"kind": "Listener", "label": "any", "type": "*"}, {"kind": "Listener", "label": "n", "type": "unread"}
        )
        socket = await scripted.accept()
        await socket.sync(head=0, unread=7, rev=1)
        await components.until("heard.length === 3")
        assert await components.call("heard") == ["any system_announcement", "n 7", "any sync"]
        await components.show()
        await socket.until_ended()

    async def test_a_handler_that_fails_leaves_the_others_alone(self, components: Components, watch: Watch) -> None:
        watch.allow("the handler's own")
        socket = await components.open({"kind": "FaultyListener"}, {"kind": "Listener", "label": "b"}, {"name": "a"})
        await socket.send(durable(1), durable(2))
        await components.expect_messages("a", "Connected", "n1", "n2")
        assert await components.call("heard") == ["b 1", "b 2"]


class TestOptions:
    async def test_a_client_of_the_caller_s_is_left_to_the_caller(
        self, components: Components, scripted: ScriptedServer
    ) -> None:
        await components.show({"kind": "OwnClient", "name": "a"})
        await components.expect_status("a", "idle false null 0")
        await components.call("ownClient.connect()")
        socket = await scripted.accept()
        await socket.sync(head=0)
        await components.expect_status("a", "open true 0 0")
        await components.show()
        await socket.send(durable(1))
        await components.until("ownClient.position.lastSeq === 1")
        await components.show({"kind": "OwnClient", "name": "a"})
        await components.expect_messages("a", "Connected", "n1")
        assert not socket.ended.is_set()
        await components.call("ownClient.close()")
        await components.expect_status("a", "closed false 0 1000")

    async def test_the_newest_get_token_is_called(self, components: Components, scripted: ScriptedServer) -> None:
        socket = await components.open({"kind": "Tokens", "name": "a", "label": "old"})
        await components.expect_status("a", "open true 0 0")
        await components.show({"kind": "Tokens", "name": "a", "label": "new"})
        await socket.close(1011)
        await (await scripted.accept()).welcome()
        await components.expect_status("a", "open true 0 0")
        assert await components.call("tokens") == ["old", "new"]

    async def test_react_of_the_page(self, components: Components) -> None:
        await components.open({"kind": "PageReact", "name": "a"})
        await components.expect_status("a", "open true 0 0")

    async def test_no_react_is_said_clearly(self, components: Components) -> None:
        message = await components.call("""async () => {
          const { useWebSocket } = await import("/static/use-websocket.js");
          delete window.React;
          try { useWebSocket(); } catch (error) { return error.message; }
        }""")
        assert "createUseWebSocket(React)" in message


class TestServerRendering:
    async def test_markup_of_a_server_is_taken_over(self, components: Components, scripted: ScriptedServer) -> None:
        markup = await components.call("hydrate([{ name: 'a' }])")
        assert "idle false null 0" in markup
        socket = await scripted.accept()
        await socket.sync(head=0)
        await components.expect_status("a", "open true 0 0")
        assert scripted.token_requests == 1


async def test_renders_without_a_browser(npm_module: Callable[[str], Path]) -> None:
    npm_module("react-dom")
    rendered = await asyncio.to_thread(npm_modules.run_script, "render.mjs", STATIC / "use-websocket.js")
    assert rendered == "<p>idle false null 0</p>\n"


@pytest.mark.parametrize("options", [(), ("--checkJs", "--strict", "false")], ids=["a site's", "our own"])
async def test_types(npm_module: Callable[[str], Path], options: tuple[str, ...]) -> None:
    """A site in TypeScript, checked strictly, and our own files as far as JSDoc tells their types."""
    npm_module("@types/react")
    compiler = npm_module("typescript") / "bin" / "tsc"
    compiling = await asyncio.create_subprocess_exec(
        "node", compiler, "-p", npm_modules.NPM, *options, stdout=asyncio.subprocess.PIPE
    )
    complaints, _ = await asyncio.wait_for(compiling.communicate(), npm_modules.DEADLINE)
    assert complaints.decode() == ""
    assert compiling.returncode == 0
