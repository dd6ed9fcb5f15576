"""What people do on the log-in page, on the dashboard and on the page for administrators, and where their parts are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from playwright.async_api import Locator, Page, expect
from websockets.asyncio.client import connect

from tests.browser.application import PASSWORD, Application, Person

CUT = r"net::ERR_|WebSocket connection to"
"""What the browser itself says of a network that the test has cut."""
DASHBOARD = re.compile(r"/client/dashboard$")


async def log_in(page: Page, url: str, person: Person, *, next_page: str = "") -> None:
    """Fills in the form and sends it, in whatever language it is."""
    await page.goto(f"{url}/login{next_page}")
    await page.locator("#email").fill(person.email)
    await page.locator("#password").fill(PASSWORD)
    await page.locator("#login-form button[type=submit]").click()


async def open_dashboard(page: Page, url: str, person: Person) -> None:
    """Logs in and waits until the page is live; marks the page, so that a reload shows."""
    await log_in(page, url, person)
    await expect(page).to_have_url(DASHBOARD)
    await until_live(page)
    await page.evaluate("window.loadedOnce = true")


async def open_admin(page: Page, url: str, person: Person) -> None:
    """Logs in and waits until the page is live; marks the page, so that a reload shows."""
    await log_in(page, url, person, next_page="?next=/admin/realtime")
    await expect(page).to_have_url(f"{url}/admin/realtime")
    await until_live(page)
    await page.evaluate("window.loadedOnce = true")


async def until_live(page: Page) -> None:
    """Waits for the socket."""
    await expect(connection(page)).to_have_attribute("data-state", "open")


async def until_loaded(page: Page) -> None:
    """Waits for the lists of a page that is live."""
    await expect(page.locator(".list-note.loading")).to_have_count(0)


def connection(page: Page) -> Locator:
    """What the page says of its socket."""
    return page.locator("#connection")


def inbox(page: Page) -> Locator:
    """Titles of the inbox, from the top."""
    return page.locator("#inbox h3")


def badge(page: Page) -> Locator:
    """The count of unread notifications."""
    return page.locator("#unread")


def card(page: Page, project: str) -> Locator:
    """The card of a project."""
    return page.get_by_role("region", name="Projects").get_by_role("listitem").filter(has_text=project)


async def assert_never_reloaded(page: Page) -> None:
    """The page is the one that `open_dashboard` opened."""
    assert await page.evaluate("window.loadedOnce === true")


@asynccontextmanager
async def sockets(app: Application, person: Person, count: int) -> AsyncIterator[None]:
    """So many connections of somebody."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(app.session(person))
        for _ in range(count):
            token = (await client.post("/api/websocket/token")).json()["token"]
            socket = await stack.enter_async_context(connect(f"ws://127.0.0.1:{app.port}/ws?token={token}"))
            await socket.recv()
        yield
