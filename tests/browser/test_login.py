"""Log-in in a real browser, against the whole program."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.browser.application import PASSWORD, Application
from tests.browser.conftest import NewPage, Watch
from tests.browser.dashboard import (
    DASHBOARD,
    log_in,
    open_dashboard,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_wrong_password_is_said_and_the_right_one_leads_in(
    app: Application, new_page: NewPage, watch: Watch
) -> None:
    watch.allow("401")
    person = await app.new_person()
    page = await new_page()
    await page.goto(f"{app.url}/client/dashboard")
    await expect(page).to_have_url(re.compile(r"/login\?next=%2Fclient%2Fdashboard$"))
    await page.get_by_label("E-mail").fill(person.email)
    await page.get_by_label("Password").fill("wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("wrong")
    await expect(page.get_by_label("Password")).to_be_focused()
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(DASHBOARD)
    await expect(page.get_by_role("heading", level=1)).to_contain_text(person.name)


async def test_what_is_missing_is_asked_for(app: Application, new_page: NewPage) -> None:
    page = await new_page()
    await page.goto(f"{app.url}/login")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_have_text("Enter your e-mail address.")
    await page.get_by_label("E-mail").fill("a@example.test")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_have_text("Enter your password.")


@pytest.mark.parametrize(
    "foreign",
    [
        "https://example.org/",
        "//example.org/",
        "/\\example.org",
        "/.//example.org/",
        "/client/..//example.org/",
        "javascript:alert(1)",
        "data:text/html,x",
        "http://[x",
    ],
)
async def test_leads_to_no_foreign_page(app: Application, new_page: NewPage, foreign: str) -> None:
    person = await app.new_person()
    page = await new_page()
    await log_in(page, app.url, person, next_page=f"?next={foreign}")
    await expect(page).to_have_url(f"{app.url}/client/dashboard")


async def test_leads_to_the_page_that_was_asked_for(app: Application, new_page: NewPage) -> None:
    person = await app.new_person()
    page = await new_page()
    await log_in(page, app.url, person, next_page="?next=/client/dashboard%3Ffrom=mail%23inbox-title")
    await expect(page).to_have_url(f"{app.url}/client/dashboard?from=mail#inbox-title")


async def test_demo_accounts_fill_in_the_form(app: Application, new_page: NewPage) -> None:
    page = await new_page()
    await page.goto(f"{app.url}/login")
    await page.get_by_role("button", name="admin@jasaweb.test").click()
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(DASHBOARD)
    await expect(page.get_by_role("heading", name="All projects")).to_be_visible()


async def test_log_out(app: Application, new_page: NewPage) -> None:
    person = await app.new_person()
    page = await new_page()
    await open_dashboard(page, app.url, person)
    await page.get_by_role("button", name="Log out").click()
    await expect(page).to_have_url(re.compile("/login"))
    await page.goto(f"{app.url}/client/dashboard")
    await expect(page).to_have_url(re.compile("/login"))
