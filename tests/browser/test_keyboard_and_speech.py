"""The pages for those who use a keyboard or a screen reader: the focus stays where it is, and what changes is said."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack

import pytest
from playwright.async_api import Request, Route, expect

from tests.browser.application import Application
from tests.browser.conftest import NewPage, Watch
from tests.browser.dashboard import CUT, connection, open_admin, open_dashboard, sockets
from tests.support.tcp_relay import TcpRelay

pytestmark = pytest.mark.asyncio(loop_scope="session")

HEAR = """(selector) => {
  const node = document.querySelector(selector);
  window.heard = [];
  new MutationObserver(() => heard.push(node.textContent)).observe(node,
      { childList: true, characterData: true, subtree: true });
}"""
"""Writes down what a live region says, which is what changes in it."""


class TestFocus:
    async def test_stays_when_a_row_above_goes(self, app: Application, new_page: NewPage) -> None:
        unique = uuid.uuid4().hex
        first, second = [await app.new_person(name=f"{unique} {number}") for number in (1, 2)]
        page = await new_page()
        await open_admin(page, app.url, await app.new_person("admin"))
        await page.get_by_label("Name, id or address").fill(unique)
        async with AsyncExitStack() as leaving:
            await leaving.enter_async_context(sockets(app, first, 1))
            async with sockets(app, second, 1):
                names = page.locator("#connections th")
                await expect(names).to_have_text([first.name, second.name])
                button = page.get_by_role("button", name=f"Disconnect {second.name}")
                await button.focus()
                await leaving.aclose()
                await expect(names).to_have_text([second.name])
                await expect(button).to_be_focused()

    async def test_is_not_taken_from_who_goes_on_while_a_status_is_being_changed(
        self, app: Application, new_page: NewPage
    ) -> None:
        name = f"Koperasi {uuid.uuid4()}"
        await app.new_project(await app.new_person(), name)
        page = await new_page()
        await open_admin(page, app.url, await app.new_person("admin"))
        go_on = asyncio.Event()

        async def late(route: Route) -> None:
            await asyncio.wait_for(go_on.wait(), 20)
            await route.continue_()

        await page.route("**/api/projects/*", late)
        select, content = page.get_by_label(f"Status of {name}"), page.locator("#compose-content")
        await select.select_option("In review")
        await expect(select).to_be_disabled()
        await content.focus()
        go_on.set()
        await expect(select).to_be_enabled()
        await page.keyboard.type("Completed")
        await expect(content).to_have_value("Completed")
        await expect(select).to_have_value("review")
        # Who has stayed keeps the place.
        await select.focus()
        await select.select_option("In progress")
        await expect(select).to_be_enabled()
        await expect(select).to_be_focused()

    async def test_goes_to_the_heading_from_a_button_that_has_done_its_work(
        self, app: Application, new_page: NewPage, watch: Watch
    ) -> None:
        watch.allow("net::ERR_FAILED")
        person, admin = await app.new_person(), await app.new_person("admin")
        await app.new_invoice(await app.new_project(person, "Kabar Pagi"))
        page = await new_page()
        await page.route("**/api/invoices", lambda route: route.abort())
        await open_dashboard(page, app.url, person)
        invoices = page.get_by_role("region", name="Invoices")
        again = invoices.get_by_role("button", name="Try again")
        await expect(again).to_be_visible()
        await page.unroute("**/api/invoices")
        await again.press("Enter")
        await expect(invoices.get_by_role("listitem")).to_have_count(1)
        await expect(page.locator("#invoices-title")).to_be_focused()
        async with app.session(admin) as http:
            path = "/api/admin/websocket/connections"
            (found,) = (await http.get(path, params={"search": person.id})).json()["items"]
            (await http.delete(f"{path}/{found['connectionId']}")).raise_for_status()
        await page.get_by_role("button", name="Connect again").press("Enter")
        await expect(connection(page)).to_have_text("Live")
        await expect(page.locator("#main")).to_be_focused()


class TestSpeech:
    async def test_a_server_that_is_away_is_said_once(
        self, app: Application, relay: TcpRelay, new_page: NewPage, watch: Watch
    ) -> None:
        watch.allow(CUT)
        page = await new_page()
        await page.add_init_script("Math.random = () => 0")
        await open_dashboard(page, f"http://127.0.0.1:{relay.port}", await app.new_person())
        await page.evaluate(HEAR, "#connection")
        failed = 0

        def count(_: Request) -> None:
            nonlocal failed
            failed += 1
            if failed == 3:
                enough.set()

        enough = asyncio.Event()
        page.on("requestfailed", count)
        await relay.cut()
        await asyncio.wait_for(enough.wait(), 20)
        await relay.start()
        await expect(connection(page)).to_have_text("Live")
        assert await page.evaluate("heard") == ["Offline", "Live"]
