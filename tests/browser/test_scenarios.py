"""What people live through, in several windows at once, against the whole program."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.browser.application import Application, Person
from tests.browser.conftest import NewPage, Watch
from tests.browser.dashboard import (
    CUT,
    assert_never_reloaded,
    badge,
    card,
    connection,
    inbox,
    log_in,
    open_dashboard,
    until_live,
)
from tests.browser.restartable import RestartableProgram

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 3,
    "is_mobile": True,
    "has_touch": True,
}


async def open_windows(new_page: NewPage, url: str, person: Person) -> list[Page]:
    """Two tabs of one browser, and a phone."""
    first, phone = await new_page(), await new_page(**PHONE)
    await open_dashboard(first, url, person)
    second = await new_page(context=first.context)
    await second.goto(f"{url}/client/dashboard")
    await until_live(second)
    await second.evaluate("window.loadedOnce = true")
    await open_dashboard(phone, url, person)
    return [first, second, phone]


async def expect_unread(pages: list[Page], *titles: str) -> None:
    """Every window shows these as unread, from the top, and their number in the badge and in its title."""
    for page in pages:
        if titles:
            await expect(badge(page)).to_have_text(f"{len(titles)} unread")
        else:
            await expect(badge(page)).to_be_hidden()
        await expect(page).to_have_title(f"({len(titles)}) Dashboard · JasaWeb" if titles else "Dashboard · JasaWeb")
        await expect(page.locator(".notification.unread h3")).to_have_text(list(titles))


def payment_badge(page: Page, invoice: str) -> Locator:
    """The badge of an invoice, as the guide's script finds it."""
    return page.locator(f'[data-invoice-id="{invoice}"] .status-badge')


async def test_two_tabs_and_a_phone_agree_on_unread(app: Application, new_page: NewPage) -> None:
    person = await app.new_person()
    pages = await open_windows(new_page, app.url, person)
    first, second, phone = pages
    ids = [await app.insert(person, title) for title in ("one", "two", "three", "four")]
    await expect_unread(pages, "four", "three", "two", "one")
    await first.get_by_role("button", name="Mark “two” as read").click()
    await expect_unread(pages, "four", "three", "one")
    await phone.get_by_role("button", name="Mark “one” as read").tap()
    await expect_unread(pages, "four", "three")
    # A foreign program, by plain SQL: read, unread again, deleted.
    await app.execute("UPDATE real_time_notifications SET read_at = now() WHERE id = $1", ids[3])
    await expect_unread(pages, "three")
    await app.execute("UPDATE real_time_notifications SET read_at = NULL WHERE id = $1", ids[3])
    await expect_unread(pages, "four", "three")
    await app.execute("DELETE FROM real_time_notifications WHERE id = $1", ids[2])
    await expect_unread(pages, "four")
    for page in pages:
        await expect(inbox(page)).to_have_text(["four", "two", "one"])
    await second.get_by_role("button", name="Mark all as read").click()
    await expect_unread(pages)
    await app.insert(person, "five")
    await expect_unread(pages, "five")
    for page in pages:
        await assert_never_reloaded(page)


async def open_administration(page: Page, url: str, admin: Person) -> Page:
    """Logs in, and waits until the administrator's page is live."""
    await log_in(page, url, admin, next_page="?next=/admin/realtime")
    await expect(page).to_have_url(f"{url}/admin/realtime")
    await until_live(page)
    await page.evaluate("window.loadedOnce = true")
    return page


async def test_a_payment_arrives_and_both_dashboards_follow(app: Application, new_page: NewPage) -> None:
    client, other, admin = await app.new_person(), await app.new_person(), await app.new_person("admin")
    project = await app.new_project(client, "Batik Sekar", status="pending_payment")
    invoice = await app.new_invoice(project)
    theirs = await app.new_invoice(await app.new_project(other, "Kopi Senja", status="pending_payment"))
    client_page, phone = await new_page(), await new_page(**PHONE)
    other_page, admin_page = await new_page(), await new_page()
    for page, person in [(client_page, client), (phone, client), (other_page, other), (admin_page, admin)]:
        await open_dashboard(page, app.url, person)
    office_page = await open_administration(await new_page(), app.url, admin)
    following = [client_page, phone, admin_page, office_page]
    for page in following:
        await expect(payment_badge(page, invoice)).to_have_text("Unpaid")
        await expect(card(page, "Batik Sekar").locator(".badge")).to_have_text("Awaiting payment")

    await app.report_payment(invoice)
    for page in following:
        await expect(payment_badge(page, invoice)).to_have_text("Paid")
        await expect(payment_badge(page, invoice)).to_have_class("status-badge status-paid")
        await expect(card(page, "Batik Sekar").locator(".badge")).to_have_text("In progress")
    for page in (client_page, phone):
        await expect(inbox(page)).to_have_text(["Project updated", "Payment received"])
    await expect(inbox(admin_page)).to_have_text(["Project status changed", "Payment status changed"])
    # Somebody else's stays as it is, for them and for the administrator; their next notification is their first.
    await app.insert(other, "mark")
    await expect(inbox(other_page)).to_have_text(["mark"])
    for page in (other_page, admin_page, office_page):
        await expect(payment_badge(page, theirs)).to_have_text("Unpaid")
    for page in [*following, other_page]:
        await assert_never_reloaded(page)


async def announce(page: Page, title: str, audience: str) -> None:
    """Says something by the form of the administrator's page; what is critical stays until it is dismissed."""
    form = page.get_by_role("region", name="New announcement")
    await form.get_by_label("Title").fill(title)
    await form.get_by_label("Message").fill("Tonight at ten")
    await form.get_by_label("For", exact=True).select_option(audience)
    await form.get_by_label("Priority").select_option("Critical")
    await form.get_by_role("button", name="Announce").click()


async def test_an_announcement_is_seen_by_exactly_its_audience(app: Application, new_page: NewPage) -> None:
    people = [await app.new_person(), await app.new_person(), await app.new_person("admin")]
    admin = await app.new_person("admin", name="Sari")
    pages = [await new_page(), await new_page(**PHONE), await new_page()]
    for page, person in zip(pages, people, strict=True):
        await open_dashboard(page, app.url, person)
    first, second, colleague = pages
    admin_page = await open_administration(await new_page(), app.url, admin)

    audiences = [("Everyone", pages), ("Administrators", [colleague]), ("Clients", [first, second])]
    for audience, reached in audiences:
        await announce(admin_page, f"To {audience}", audience)
        for page in reached:
            await expect(page.get_by_label("Announcements").get_by_text(f"To {audience}")).to_be_visible()
            await expect(inbox(page).first).to_have_text(f"To {audience}")
    # What comes last is the last, so nothing else was on its way.
    for page, person in zip(pages, people, strict=True):
        await app.insert(person, "mark")
        own = "To Administrators" if page is colleague else "To Clients"
        await expect(inbox(page)).to_have_text(["mark", own, "To Everyone"])
        await assert_never_reloaded(page)
    announced = admin_page.get_by_label("Announcements")
    await expect(announced.get_by_text("To Administrators")).to_be_visible()
    await expect(announced.get_by_text("To Clients")).to_have_count(0)


@pytest_asyncio.fixture(loop_scope="session")
async def restartable(tmp_path: Path) -> AsyncIterator[RestartableProgram]:
    """A program of the test's own, started."""
    running = RestartableProgram(tmp_path)
    try:
        await running.start()
        yield running
    finally:
        await running.clear_away()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
async def test_the_server_is_restarted_while_pages_are_open(
    restartable: RestartableProgram, new_page: NewPage, watch: Watch, number: signal.Signals
) -> None:
    watch.allow(CUT)
    app = restartable.app
    person, admin = await app.new_person(), await app.new_person("admin", name="Sari")
    project = await app.new_project(person, "Kabar Pagi")
    pages = await open_windows(new_page, app.url, person)
    admin_page = await new_page()
    await open_dashboard(admin_page, app.url, admin)
    for title in ("before", "seen"):
        await app.insert(person, title)
    await expect_unread(pages, "seen", "before")

    await restartable.end(number)
    for page in [*pages, admin_page]:
        await expect(connection(page)).not_to_have_attribute("data-state", "open")
    async with restartable.database() as database:
        for title in ("one", "two", "three"):
            await database.execute(
                "INSERT INTO real_time_notifications (id, user_id, type, title, message)"
                " VALUES (gen_random_uuid()::text, $1, 'user_message', $2, '')",
                person.id,
                title,
            )
        await database.execute("UPDATE real_time_notifications SET read_at = now() WHERE title = 'seen'")
    await restartable.start()

    for page in [*pages, admin_page]:
        await until_live(page)
    await expect_unread(pages, "three", "two", "one", "before")
    for page in pages:
        await expect(inbox(page)).to_have_text(["three", "two", "one", "seen", "before"])
    await restartable.app.set_status(admin, project, "review")
    for page in [*pages, admin_page]:
        await expect(card(page, "Kabar Pagi").locator(".badge")).to_have_text("In review")
        await assert_never_reloaded(page)


async def test_a_laptop_is_closed_and_opened_again(app: Application, new_page: NewPage, watch: Watch) -> None:
    watch.allow(CUT)
    person = await app.new_person()
    page = await new_page()
    await open_dashboard(page, app.url, person)
    await app.insert(person, "before")
    await expect(inbox(page)).to_have_text(["before"])
    await page.context.set_offline(True)
    await expect(connection(page)).not_to_have_attribute("data-state", "open")
    titles = [f"n{number}" for number in range(1, 51)]
    for title in titles:
        await app.insert(person, title)
    await expect(inbox(page)).to_have_text(["before"])
    await page.context.set_offline(False)
    await expect(badge(page)).to_have_text("51 unread")
    await expect(inbox(page)).to_have_text([*reversed(titles), "before"])
    # Live again, behind all of them.
    await app.insert(person, "after")
    await expect(inbox(page)).to_have_text(["after", *reversed(titles), "before"])
    await assert_never_reloaded(page)
