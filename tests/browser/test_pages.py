"""Whether everybody can use the pages: rules of accessibility, the keyboard alone, small screens, large text."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from playwright.async_api import Page, expect

from jasaweb_rt.database.invoices import InvoiceStatus
from jasaweb_rt.messages import NotificationType, ProjectStatus
from tests.browser.accessibility import Axe
from tests.browser.application import PASSWORD, Application, Person
from tests.browser.conftest import NewPage, Watch
from tests.browser.dashboard import DASHBOARD, badge, connection, inbox, open_dashboard, until_live, until_loaded

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOCALES = ["en-GB", "id-ID"]
SCHEMES: list[Any] = ["light", "dark"]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}
CALM: dict[str, Any] = {"reduced_motion": "reduce"}
"""Colours are looked at as they are in the end."""
FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


async def fill(app: Application, person: Person) -> None:
    """One of everything that the dashboard shows."""
    for project_status in get_args(ProjectStatus):
        project = await app.new_project(person, f"Situs {project_status}", status=project_status)
        await app.execute("UPDATE projects SET url = 'https://example.org/' WHERE id = $1", project)
    for invoice_status in get_args(InvoiceStatus):
        await app.new_invoice(project, status=invoice_status)
    for kind in (*get_args(NotificationType), *get_args(NotificationType)):
        await app.insert(person, f"About {kind}", kind=kind, message="What there is to say of it.")
    await app.execute(
        'UPDATE real_time_notifications SET data = \'{"fromUserId": "somebody", "fromUserName": "Sari"}\''
        " WHERE user_id = $1 AND type = 'user_message'",
        person.id,
    )
    await app.execute(
        "UPDATE real_time_notifications SET read_at = now()"
        " WHERE id IN (SELECT min(id) FROM real_time_notifications WHERE user_id = $1 GROUP BY type)",
        person.id,
    )


async def look(page: Page, axe: Axe) -> None:
    """With axe, in every colour scheme and at either width."""
    for viewport in (PHONE, DESK):
        await page.set_viewport_size(viewport)  # type: ignore[arg-type]
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            await axe(page)


@pytest.mark.parametrize("locale", LOCALES)
class TestRules:
    async def test_log_in(self, app: Application, new_page: NewPage, axe: Axe, locale: str) -> None:
        page = await new_page(locale=locale, **CALM)
        await page.goto(f"{app.url}/login")
        await expect(page.locator("#demo-accounts button")).to_have_count(3)
        await page.locator("#login-form button").click()
        await expect(page.get_by_role("alert")).not_to_be_empty()
        await look(page, axe)

    @pytest.mark.parametrize("role", ["client", "admin"])
    async def test_dashboard(self, app: Application, new_page: NewPage, axe: Axe, locale: str, role: str) -> None:
        person = await app.new_person(role)
        await fill(app, person)
        page = await new_page(locale=locale, **CALM)
        await open_dashboard(page, app.url, person)
        await expect(inbox(page)).to_have_count(10)
        await app.insert(person, "Holiday", kind="system_announcement", message="The office is closed on Monday")
        await expect(page.locator(".toast")).to_have_count(1)
        await until_loaded(page)
        await look(page, axe)

    async def test_writing_a_message(self, app: Application, new_page: NewPage, axe: Axe, locale: str) -> None:
        page = await new_page(locale=locale, **CALM)
        await open_dashboard(page, app.url, await app.new_person("admin"))
        await page.locator("#write").click()
        await expect(page.locator("#compose-to option").nth(1)).to_be_attached()
        await page.locator("#compose-form button.primary").click()
        await expect(page.locator("#compose").get_by_role("alert")).not_to_be_empty()
        await look(page, axe)

    async def test_nothing_there_and_nothing_works(
        self, app: Application, new_page: NewPage, axe: Axe, watch: Watch, locale: str
    ) -> None:
        watch.allow("503")
        person = await app.new_person()
        page = await new_page(locale=locale, **CALM)
        await page.route("**/api/invoices", lambda route: route.fulfill(status=503))
        await open_dashboard(page, app.url, person)
        await expect(page.locator(".list-note.failed")).to_have_count(1)
        await expect(page.locator(".list-note.empty")).to_have_count(2)
        await look(page, axe)


class TestKeyboard:
    async def test_in_read_write_and_out(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        await app.insert(person, "one")
        await app.insert(person, "two")
        page = await new_page(viewport=DESK)
        await page.goto(f"{app.url}/login")
        await expect(page.locator("#email")).to_be_focused()
        await page.keyboard.type(person.email)
        await page.keyboard.press("Tab")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(DASHBOARD)
        await until_live(page)
        await expect(badge(page)).to_have_text("2 unread")
        seen = []
        for _ in range(7):
            await page.keyboard.press("Tab")
            focused = page.locator(":focus")
            await expect(focused).to_be_visible()
            outline = await focused.evaluate("(node) => getComputedStyle(node).outlineStyle")
            assert outline == "solid"
            seen.append(await focused.evaluate("(node) => node.id || node.className || node.getAttribute('href')"))
        assert seen == ["skip", "language", "log-out", "read-all", "write", "mark", "mark"]
        await page.locator(".skip").press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await page.locator("#read-all").press("Enter")
        await expect(badge(page)).to_be_hidden()
        await expect(page.locator("#inbox-title")).to_be_focused()
        await page.keyboard.press("Tab")
        await expect(page.locator("#write")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator("#write")).to_be_focused()
        await page.locator("#log-out").press("Enter")
        await expect(page).to_have_url(re.compile("/login"))


class TestSize:
    @pytest.mark.parametrize("locale", LOCALES)
    @pytest.mark.parametrize("width", [320, 640])
    async def test_text_of_twice_the_size_fits(
        self, app: Application, new_page: NewPage, width: int, locale: str
    ) -> None:
        person = await app.new_person("admin", name="Raden Mas Suryadi Kusumanegara")
        await fill(app, person)
        page = await new_page(viewport={"width": width, "height": 640}, locale=locale)
        browser = await page.context.new_cdp_session(page)
        await browser.send("Page.setFontSizes", {"fontSizes": {"standard": 32, "fixed": 26}})
        await page.goto(f"{app.url}/login")
        await expect(page.locator("#demo-accounts button")).to_have_count(3)
        assert await page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)") == 32
        assert await page.evaluate(FITS)
        await open_dashboard(page, app.url, person)
        await expect(inbox(page)).to_have_count(10)
        await until_loaded(page)
        assert await page.evaluate(FITS)
        await page.locator("#write").click()
        dialog = page.locator("#compose")
        assert await dialog.evaluate("(node) => node.scrollWidth <= node.clientWidth")

    async def test_nothing_moves_for_those_who_ask_for_that(self, app: Application, new_page: NewPage) -> None:
        person, admin = await app.new_person(), await app.new_person("admin")
        project = await app.new_project(person, "Kabar Pagi", status="pending_payment")
        invoice = await app.new_invoice(project)
        page = await new_page(**CALM)
        await page.add_init_script(
            "window.moved = []; for (const name of ['animationstart', 'transitionstart'])"
            " addEventListener(name, ({ target }) => window.moved.push(target.className), true)"
        )
        await open_dashboard(page, app.url, person)
        await app.report_payment(invoice)
        await app.set_status(admin, project, "review")
        await expect(page.locator(".status-paid")).to_have_count(1)
        await expect(page.locator(".project .badge")).to_have_text("In review")
        await expect(page.locator(".toast")).to_have_count(1)
        await expect(connection(page)).to_have_text("Live")
        assert await page.evaluate("window.moved") == []
