"""Several tabs of one browser, which share its session."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.application import PASSWORD, Application
from tests.browser.client_page import LOG_IN
from tests.browser.conftest import NewPage
from tests.browser.dashboard import inbox, open_dashboard, until_live

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


async def test_log_out_in_one_tab_is_for_all(app: Application, new_page: NewPage) -> None:
    first = await new_page()
    await open_dashboard(first, app.url, await app.new_person())
    second = await new_page(context=first.context)
    await second.goto(f"{app.url}/client/dashboard")
    await until_live(second)
    await second.get_by_role("button", name="Log out").click()
    for page in (first, second):
        await expect(page.locator("#login-form")).to_be_visible()
