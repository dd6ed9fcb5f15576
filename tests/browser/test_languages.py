"""The pages in English and Indonesian: the words, which language is chosen, and what the server wrote in English."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_args

import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from jasaweb_rt.database.invoices import Invoice, InvoiceStatus
from jasaweb_rt.database.notifications import NewNotification
from jasaweb_rt.database.projects import Project
from jasaweb_rt.domain.invoices import payment_notification
from jasaweb_rt.domain.projects import change_status
from tests.browser.application import Application, Person
from tests.browser.conftest import NewPage, Watch
from tests.browser.dashboard import badge, card, inbox, open_dashboard, until_live

pytestmark = pytest.mark.asyncio(loop_scope="session")

INDONESIAN: dict[str, Any] = {"locale": "id-ID", "timezone_id": "Asia/Jakarta"}
KINDS = """
async () => {
  const kinds = (value) =>
    typeof value === "object"
      ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, kinds(inner)]))
      : typeof value === "function" ? `function of ${value.length}` : typeof value;
  const [en, id] = await Promise.all(["en", "id"].map((language) => import(`/static/text-${language}.js`)));
  return [kinds(en.words), kinds(id.words)];
}
"""
UNTRANSLATED = """
async () => {
  const strings = (value) =>
    typeof value === "object" ? Object.values(value).flatMap(strings)
      : typeof value === "function" ? [value(...Array(value.length).fill(2))] : [value];
  const [en, id] = await Promise.all(["en", "id"].map((language) => import(`/static/text-${language}.js`)));
  const english = strings(en.words);
  return strings(id.words).filter((word, place) => word === english[place]);
}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def login_page(app: Application, new_page: NewPage) -> Page:
    page = await new_page()
    await page.goto(f"{app.url}/login")
    return page


async def call(page: Page, expression: str) -> str:
    """What an export of `text.js` gives on this page."""
    result: str = await page.evaluate(f"import('/static/text.js').then((text) => text.{expression})")
    return result.replace("\xa0", " ")


async def store(app: Application, row: NewNotification) -> None:
    """Inserts a row as the server does."""
    await app.execute(
        "INSERT INTO real_time_notifications (id, user_id, type, title, message, data)"
        ' VALUES (gen_random_uuid()::text, $1, $2::text::"NotificationType", $3, $4, $5::text::jsonb)',
        row.user_id,
        row.type,
        row.title,
        row.message,
        json.dumps(row.data),
    )


class TestWords:
    async def test_both_languages_have_the_same_keys_and_kinds(self, login_page: Page) -> None:
        english, indonesian = await login_page.evaluate(KINDS)
        assert english == indonesian
        assert len(english) > 50

    async def test_every_word_is_translated(self, login_page: Page) -> None:
        assert await login_page.evaluate(UNTRANSLATED) == []

    @pytest.mark.parametrize(
        ("locale", "amount", "expected"),
        [
            ("id-ID", "1500000", "Rp 1.500.000"),
            ("id-ID", "1500000.5", "Rp 1.500.000,50"),
            ("en-GB", "1500000", "Rp 1,500,000"),
            ("en-GB", "0", "Rp 0"),
        ],
    )
    async def test_money(self, app: Application, new_page: NewPage, locale: str, amount: str, expected: str) -> None:
        page = await new_page(locale=locale)
        await page.goto(f"{app.url}/login")
        assert await call(page, f"money({amount})") == expected

    @pytest.mark.parametrize(
        ("locale", "now", "hours", "day"),
        [
            ("id-ID", "baru saja", "2 jam yang lalu", "2 Jan 2026"),
            ("en-GB", "just now", "2 hours ago", "2 Jan 2026"),
            ("en-US", "just now", "2 hours ago", "Jan 2, 2026"),
        ],
    )
    async def test_times(
        self, app: Application, new_page: NewPage, locale: str, now: str, hours: str, day: str
    ) -> None:
        page = await new_page(locale=locale)
        await page.goto(f"{app.url}/login")
        before = "ago(new Date(Date.now() - %d).toISOString())"
        assert await call(page, before % 1_000) == now
        assert await call(page, before % 7_300_000) == hours
        assert await call(page, "ago('2026-01-02T12:00:00.000Z')") == day


class TestChoice:
    @pytest.mark.parametrize(
        ("locale", "language"), [("en-US", "en"), ("id", "id"), ("in-ID", "id"), ("fr-FR", "en"), ("ms-MY", "en")]
    )
    async def test_the_browser_s_languages_decide(
        self, app: Application, new_page: NewPage, locale: str, language: str
    ) -> None:
        page = await new_page(locale=locale)
        await page.goto(f"{app.url}/login")
        await expect(page.locator("html")).to_have_attribute("lang", language)

    async def test_the_first_that_there_is_and_none_of_what_is_no_tag(
        self, app: Application, new_page: NewPage
    ) -> None:
        page = await new_page()
        await page.add_init_script(
            "Object.defineProperty(navigator, 'languages', { value: ['en@posix', 'jv-ID', 'id-ID', 'en-US'] })"
        )
        await page.goto(f"{app.url}/login")
        await expect(page.locator("html")).to_have_attribute("lang", "id")

    async def test_a_choice_is_kept_and_holds_on_every_page(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person(name="Dewi")
        await app.new_project(person, "Kabar Pagi", kind="berita", status="pending_payment")
        await app.insert(person, "one")
        page = await new_page()
        await page.goto(f"{app.url}/login")
        await expect(page).to_have_title("Log in · JasaWeb")
        switch = page.get_by_role("button", name="Bahasa Indonesia")
        await expect(switch).to_have_attribute("lang", "id")
        await switch.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Masuk")
        await expect(page).to_have_title("Masuk · JasaWeb")
        await page.get_by_role("button", name="Masuk").click()
        await expect(page.get_by_role("alert")).to_have_text("Isi alamat email Anda.")
        await open_dashboard(page, app.url, person)
        await expect(page.locator("html")).to_have_attribute("lang", "id")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Halo, Dewi")
        await expect(page.get_by_role("heading", name="Proyek", exact=True)).to_be_visible()
        await expect(page.locator(".project .badge")).to_have_text("Menunggu pembayaran")
        await expect(badge(page)).to_have_text("1 belum dibaca")
        await expect(page).to_have_title("(1) Dasbor · JasaWeb")
        await page.get_by_role("button", name="Tandai “one” sudah dibaca").click()
        await expect(badge(page)).to_be_hidden()
        await page.get_by_role("button", name="English").click()
        await until_live(page)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Hello, Dewi")
        await expect(card(page, "Kabar Pagi").locator(".badge")).to_have_text("Awaiting payment")
        assert await page.evaluate("document.documentElement.lang") == "en"

    async def test_the_pages_work_where_storage_is_barred(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person(name="Dewi")
        page = await new_page(**INDONESIAN)
        await page.add_init_script(
            "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('barred') } })"
        )
        await open_dashboard(page, app.url, person)
        await page.get_by_role("button", name="English").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Halo, Dewi")

    async def test_a_refused_log_in_is_explained_in_the_language(
        self, app: Application, new_page: NewPage, watch: Watch
    ) -> None:
        watch.allow("401")
        page = await new_page(**INDONESIAN)
        await page.goto(f"{app.url}/login")
        await page.get_by_label("Email").fill("nobody@example.test")
        await page.get_by_label("Kata sandi").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text("Email atau kata sandi salah.")


class TestSentencesOfTheServer:
    async def test_a_project_s_change_to_its_owner_and_to_an_administrator(
        self, app: Application, new_page: NewPage
    ) -> None:
        client, admin = await app.new_person(), await app.new_person("admin", name="Sari")
        project = await app.new_project(client, 'Kabar "Pagi"', status="in_progress")
        pages = [await new_page(**INDONESIAN), await new_page(**INDONESIAN), await new_page()]
        for page, person in zip(pages, (client, admin, client), strict=True):
            await open_dashboard(page, app.url, person)
        await app.set_status(admin, project, "review")
        said = [
            ("Proyek diperbarui", '“Kabar "Pagi"” kini berstatus “Ditinjau”'),
            ("Status proyek berubah", 'Sari mengubah “Kabar "Pagi"” menjadi “Ditinjau”'),
            ("Project updated", '“Kabar "Pagi"” is now “In review”'),
        ]
        for page, (title, message) in zip(pages, said, strict=True):
            shown = page.locator(".notification").filter(has_text=message)
            await expect(shown).to_have_count(1)
            await expect(shown.get_by_role("heading")).to_have_text(title)
        await expect(pages[0].locator("#announcer")).to_have_text("Baru: Proyek diperbarui")

    async def test_payments_of_every_status(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        for status in get_args(InvoiceStatus):
            await store(app, payment(person, status))
        page = await new_page(**INDONESIAN)
        await open_dashboard(page, app.url, person)
        await expect(inbox(page)).to_have_count(len(get_args(InvoiceStatus)))
        titles = await inbox(page).all_text_contents()
        assert not [title for title in titles if re.search("Payment|refund", title)]
        assert len(set(titles)) == len(titles)
        messages = await page.locator(".notification-message").all_text_contents()
        assert {message.replace("\xa0", " ") for message in messages} == {"Rp 1.500.000 untuk “Kabar Pagi”"}

    async def test_what_others_wrote_stays_as_it_is(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        by_hand = project_update(person)
        await store(
            app, msgspec.structs.replace(by_hand, title="Please look", data={**by_hand.data, "message": "Soon"})
        )
        await store(app, msgspec.structs.replace(payment(person, "paid"), title="Thanks", message="See you", data={}))
        await store(app, msgspec.structs.replace(payment(person, "paid"), data={"status": "constructor"}))
        page = await new_page(**INDONESIAN)
        await open_dashboard(page, app.url, person)
        await expect(inbox(page)).to_have_text(["Payment received", "Thanks", "Please look"])
        await expect(page.locator(".notification-message")).to_have_text(
            ['The payment for "Kabar Pagi" was received', "See you", "Soon"]
        )


def payment(owner: Person, status: InvoiceStatus) -> NewNotification:
    """What the server tells of an invoice."""
    now = datetime.now(UTC)
    return payment_notification(
        Invoice(
            id="invoice",
            project_id="project",
            project_name="Kabar Pagi",
            amount=Decimal(1_500_000),
            status=status,
            midtrans_order_id=None,
            qris_url=None,
            paid_at=now if status == "paid" else None,
            created_at=now,
        ),
        owner.id,
    )


def project_update(owner: Person) -> NewNotification:
    """What the server tells of a project."""
    now = datetime.now(UTC)
    project = Project("project", owner.id, "Kabar Pagi", "berita", "in_progress", None, now, now)
    change = change_status(project, "review", "Sari")
    assert change is not None
    return change.notifications([])[0]
