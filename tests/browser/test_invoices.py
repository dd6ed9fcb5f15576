"""The invoices of the dashboard: their states, and payments that arrive while it is open."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import get_args

import pytest
from playwright.async_api import Locator, Page, Route, expect

from jasaweb_rt.database.invoices import InvoiceStatus
from tests.browser.application import Application
from tests.browser.conftest import NewPage, Watch
from tests.browser.dashboard import (
    CUT,
    assert_never_reloaded,
    badge,
    card,
    connection,
    inbox,
    open_dashboard,
    until_live,
)
from tests.support.tcp_relay import TcpRelay

pytestmark = pytest.mark.asyncio(loop_scope="session")


def row(page: Page, invoice: str) -> Locator:
    """An invoice, as the guide's own script finds it."""
    return page.locator(f'[data-invoice-id="{invoice}"]')


def status(page: Page, invoice: str) -> Locator:
    return row(page, invoice).locator(".status-badge")


class TestList:
    async def test_each_with_its_project_amount_date_and_status(self, app: Application, new_page: NewPage) -> None:
        person, other = await app.new_person(), await app.new_person()
        project = await app.new_project(person, "Kabar <b>Pagi</b>")
        paid_at = datetime(2026, 1, 2, 5, tzinfo=UTC)
        paid = await app.new_invoice(project, amount=2_750_000, status="paid", paid=paid_at)
        open_one = await app.new_invoice(project)
        await app.new_invoice(await app.new_project(other, "Not yours"))
        page = await new_page(timezone_id="Asia/Jakarta")
        await open_dashboard(page, app.url, person)
        shown = page.get_by_role("region", name="Invoices").get_by_role("listitem")
        await expect(shown).to_have_count(2)
        await expect(row(page, paid).get_by_role("heading", level=3)).to_have_text("Kabar <b>Pagi</b>")
        await expect(row(page, paid)).to_contain_text("Rp\xa02,750,000")
        await expect(row(page, paid)).to_contain_text(f"No. {paid[:8].upper()} · Paid 2 Jan 2026")
        await expect(row(page, open_one)).to_contain_text("Issued")

    async def test_every_status_has_a_word_and_a_look(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        project = await app.new_project(person, "Kabar Pagi")
        statuses: tuple[str, ...] = get_args(InvoiceStatus)
        made = {name: await app.new_invoice(project, status=name) for name in statuses}
        page = await new_page()
        await open_dashboard(page, app.url, person)
        plain = await page.locator(".status-badge").first.evaluate(
            "(node) => { const it = node.cloneNode(); it.className = 'status-badge'; node.after(it);"
            " const colour = getComputedStyle(it).backgroundColor; it.remove(); return colour; }"
        )
        words = set()
        for name, invoice in made.items():
            await expect(status(page, invoice)).to_have_class(f"status-badge status-{name}")
            words.add(await status(page, invoice).inner_text())
            colour = await status(page, invoice).evaluate("(node) => getComputedStyle(node).backgroundColor")
            assert (colour == plain) == (name == "cancelled"), name
        assert words == {
            "Unpaid",
            "Pending",
            "Paid",
            "Failed",
            "Expired",
            "Cancelled",
            "Refunded",
            "Partly refunded",
        }

    async def test_none_and_failed(self, app: Application, new_page: NewPage, watch: Watch) -> None:
        watch.allow("503")
        person = await app.new_person()
        page = await new_page()
        failing = True

        async def answer(route: Route) -> None:
            await (route.fulfill(status=503, json={"success": False, "error": "no"}) if failing else route.continue_())

        await page.route("**/api/invoices", answer)
        await open_dashboard(page, app.url, person)
        part = page.get_by_role("region", name="Invoices")
        await expect(part.get_by_role("status")).to_contain_text("Your invoices could not be loaded.")
        failing = False
        await part.get_by_role("button", name="Try again").click()
        await expect(part.get_by_role("status")).to_have_text("No invoices yet.")


class TestPayment:
    async def test_a_webhook_turns_the_badge_and_is_said(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        project = await app.new_project(person, "Kabar Pagi", status="pending_payment")
        invoice, untouched = await app.new_invoice(project), await app.new_invoice(project)
        page = await new_page()
        await open_dashboard(page, app.url, person)
        await expect(status(page, invoice)).to_have_text("Unpaid")
        await app.report_payment(invoice, "pending", code="201")
        await expect(status(page, invoice)).to_have_text("Pending")
        await app.report_payment(invoice)
        await expect(status(page, invoice)).to_have_text("Paid")
        await expect(status(page, invoice)).to_have_class("status-badge status-paid")
        await expect(row(page, invoice)).to_contain_text(re.compile(r"· Paid \d"))
        await expect(row(page, invoice)).to_have_class(re.compile(r"\bflash\b"))
        await expect(status(page, untouched)).to_have_text("Unpaid")
        toast = page.get_by_label("Announcements").locator(".toast").filter(has_text="Payment received")
        await expect(toast).to_contain_text("Rp\xa01,500,000 for “Kabar Pagi”")
        await expect(card(page, "Kabar Pagi").locator(".badge")).to_have_text("In progress")
        await expect(inbox(page)).to_have_text(["Project updated", "Payment received", "Payment pending"])
        await expect(badge(page)).to_have_text("3 unread")
        await assert_never_reloaded(page)

    async def test_the_client_s_and_the_administrator_s_page_follow(self, app: Application, new_page: NewPage) -> None:
        client, admin = await app.new_person(), await app.new_person("admin")
        invoice = await app.new_invoice(await app.new_project(client, "Kabar Pagi"))
        pages = [await new_page(), await new_page(), await new_page(locale="id-ID")]
        for page, person in zip(pages, (client, admin, admin), strict=True):
            await open_dashboard(page, app.url, person)
            await expect(row(page, invoice)).to_have_count(1)
        await expect(pages[1].get_by_role("heading", name="All invoices")).to_be_visible()
        await app.report_payment(invoice)
        for page, word in zip(pages, ("Paid", "Paid", "Lunas"), strict=True):
            await expect(status(page, invoice)).to_have_text(word)
            await assert_never_reloaded(page)
        alert = pages[2].locator(".notification").filter(has_text="Tagihan untuk “Kabar Pagi”: “Lunas”, oleh Midtrans")
        await expect(alert.get_by_role("heading")).to_have_text("Status tagihan berubah")

    async def test_the_guide_s_own_script_finds_its_way(
        self, app: Application, new_page: NewPage, watch: Watch
    ) -> None:
        watch.allow(CUT)
        person = await app.new_person()
        invoice = await app.new_invoice(await app.new_project(person, "Kabar Pagi"))
        page = await new_page()
        await open_dashboard(page, app.url, person)
        await expect(page.locator(".connection-status")).to_have_class(re.compile(r"\bconnected\b"))
        await expect(row(page, invoice)).to_be_visible()
        await page.evaluate(
            """(invoiceId) => {
              const badge = document.querySelector(`[data-invoice-id="${invoiceId}"]`).querySelector(".status-badge");
              badge.textContent = "Paid";
              badge.className = "status-badge status-paid";
            }""",
            invoice,
        )
        await app.report_payment(invoice)
        await expect(inbox(page)).to_have_text(["Payment received"])
        await expect(status(page, invoice)).to_have_text("Paid")
        await page.context.set_offline(True)
        await expect(page.locator(".connection-status")).not_to_have_class(re.compile(r"\bconnected\b"))

    async def test_one_that_was_not_known_appears(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        project = await app.new_project(person, "Kabar Pagi")
        page = await new_page()
        await open_dashboard(page, app.url, person)
        await expect(page.get_by_text("No invoices yet.")).to_be_visible()
        invoice = await app.new_invoice(project)
        await app.report_payment(invoice)
        await expect(status(page, invoice)).to_have_text("Paid")
        await expect(page.get_by_text("No invoices yet.")).to_have_count(0)

    async def test_a_payment_counts_more_than_a_list_that_was_asked_for_before(
        self, app: Application, new_page: NewPage
    ) -> None:
        person = await app.new_person()
        invoice = await app.new_invoice(await app.new_project(person, "Kabar Pagi"))
        page = await new_page()
        read, go_on = asyncio.Event(), asyncio.Event()

        async def late(route: Route) -> None:
            answer = await route.fetch()
            read.set()
            await asyncio.wait_for(go_on.wait(), 20)
            await route.fulfill(response=answer)

        await page.route("**/api/invoices", late)
        await open_dashboard(page, app.url, person)
        await asyncio.wait_for(read.wait(), 20)
        await app.report_payment(invoice)
        await expect(inbox(page)).to_have_text(["Payment received"])
        go_on.set()
        await expect(status(page, invoice)).to_have_text("Paid")

    async def test_what_was_paid_while_the_page_was_away_is_shown_without_a_toast(
        self, app: Application, relay: TcpRelay, new_page: NewPage, watch: Watch
    ) -> None:
        watch.allow(CUT)
        person = await app.new_person()
        invoice = await app.new_invoice(await app.new_project(person, "Kabar Pagi"))
        page = await new_page()
        await open_dashboard(page, f"http://127.0.0.1:{relay.port}", person)
        await expect(status(page, invoice)).to_have_text("Unpaid")
        await relay.cut()
        await expect(connection(page)).not_to_have_class(re.compile(r"\bconnected\b"))
        await app.report_payment(invoice)
        await relay.start()
        await expect(status(page, invoice)).to_have_text("Paid")
        await until_live(page)
        await expect(page.locator(".toast")).to_have_count(0)
        await assert_never_reloaded(page)

    async def test_too_much_was_missed(
        self, app: Application, relay: TcpRelay, new_page: NewPage, watch: Watch
    ) -> None:
        watch.allow(CUT)
        person = await app.new_person()
        invoice = await app.new_invoice(await app.new_project(person, "Kabar Pagi"))
        page = await new_page()
        await open_dashboard(page, f"http://127.0.0.1:{relay.port}", person)
        await expect(status(page, invoice)).to_have_text("Unpaid")
        await relay.cut()
        await expect(connection(page)).not_to_have_class(re.compile(r"\bconnected\b"))
        await app.execute("UPDATE invoices SET status = 'failed' WHERE id = $1", invoice)
        await app.execute(
            "INSERT INTO real_time_notifications (id, user_id, type, title, message)"
            " SELECT gen_random_uuid()::text, $1, 'project_update', 'n' || n, '' FROM generate_series(1, 700) n",
            person.id,
        )
        await relay.start()
        await expect(status(page, invoice)).to_have_text("Failed")
        await assert_never_reloaded(page)
