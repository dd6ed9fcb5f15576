"""Several tabs of one browser, which share its session."""

from __future__ import annotations

import asyncio
import json

import pytest
from playwright.async_api import Page, WebSocketRoute, expect

from tests.browser.application import PASSWORD, Application
from tests.browser.client_page import LOG_IN
from tests.browser.conftest import NewPage, Watch
from tests.browser.dashboard import CUT, badge, connection, inbox, open_dashboard, until_live
from tests.support.tcp_relay import TcpRelay

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def greeted(page: Page, name: str) -> None:
    """The page is that of the one who is called so, and live."""
    await expect(page.locator("#greeting")).to_have_text(f"Hello, {name}")
    await until_live(page)


async def test_who_logs_in_in_one_tab_is_greeted_in_all(app: Application, new_page: NewPage) -> None:
    dewi, budi = await app.new_person(name="Dewi"), await app.new_person(name="Budi")
    await app.insert(budi, "for Budi")
    first = await new_page()
    await open_dashboard(first, app.url, dewi)
    second = await new_page(context=first.context)
    await second.goto(f"{app.url}/client/dashboard")
    await greeted(second, "Dewi")
    # As on the log-in page of another site that shares the session: the session of before goes on.
    await second.evaluate(LOG_IN, {"email": budi.email, "password": PASSWORD})
    await second.reload()
    for page in (first, second):
        await greeted(page, "Budi")
        await expect(inbox(page)).to_have_text(["for Budi"])


async def test_log_out_in_one_tab_is_for_all(app: Application, new_page: NewPage, watch: Watch) -> None:
    watch.allow("401")  # the first tab may hear it from the server, and ask for a token once more
    first = await new_page()
    await open_dashboard(first, app.url, await app.new_person())
    second = await new_page(context=first.context)
    await second.goto(f"{app.url}/client/dashboard")
    await until_live(second)
    await second.get_by_role("button", name="Log out").click()
    for page in (first, second):
        await expect(page.locator("#login-form")).to_be_visible()


async def test_what_is_replayed_after_the_list_stays_read(
    app: Application, relay: TcpRelay, new_page: NewPage, watch: Watch
) -> None:
    watch.allow(CUT)
    person = await app.new_person()
    page, elsewhere = await new_page(), await new_page()
    held: asyncio.Queue[str | bytes] = asyncio.Queue()
    socket: WebSocketRoute

    def hold(opened: WebSocketRoute) -> None:
        nonlocal socket
        socket = opened
        opened.connect_to_server().on_message(
            lambda text: held.put_nowait(text) if "seq" in json.loads(text) else opened.send(text)
        )

    await page.route_web_socket("**/ws*", hold)
    await open_dashboard(page, f"http://127.0.0.1:{relay.port}", person)
    await open_dashboard(elsewhere, app.url, person)
    await relay.cut()
    await expect(connection(page)).not_to_have_text("Live")
    await app.insert(person, "one")
    await expect(inbox(elsewhere)).to_have_text(["one"])
    await elsewhere.get_by_role("button", name="Mark all as read").click()
    await expect(badge(elsewhere)).to_be_hidden()
    await relay.start()
    # The list is here first.
    await expect(inbox(page)).to_have_text(["one"])
    socket.send(await asyncio.wait_for(held.get(), 20))
    await app.insert(person, "two")
    socket.send(await asyncio.wait_for(held.get(), 20))
    await expect(inbox(page)).to_have_text(["two", "one"])
    await expect(page.locator(".notification.unread h3")).to_have_text(["two"])
