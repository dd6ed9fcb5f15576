"""What foreign programs put into the database: the pages show what there is of it, and go on."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import expect

from tests.browser.application import Application
from tests.browser.conftest import NewPage
from tests.browser.dashboard import card, inbox, open_dashboard

pytestmark = pytest.mark.asyncio(loop_scope="session")

INSERT = """INSERT INTO real_time_notifications (id, user_id, type, title, message, data)
    VALUES (gen_random_uuid()::text, $1, $2::text::"NotificationType", $3, '', $4::jsonb)"""


async def test_what_an_update_leaves_out_is_read(app: Application, new_page: NewPage) -> None:
    person = await app.new_person()
    project = await app.new_project(person, "Kabar Pagi")
    invoice = await app.new_invoice(project)
    page = await new_page()
    await open_dashboard(page, app.url, person)
    shown, badge = card(page, "Kabar Pagi").locator(".badge"), page.locator(f"[data-invoice-id='{invoice}'] span")
    await expect(shown).to_have_text("In progress")
    await expect(badge).to_have_text("Unpaid")
    await app.execute("UPDATE projects SET status = 'review' WHERE id = $1", project)
    await app.execute("UPDATE invoices SET status = 'pending' WHERE id = $1", invoice)
    await app.execute(INSERT, person.id, "project_update", "Moved", json.dumps({"projectId": project}))
    await app.execute(INSERT, person.id, "payment_update", "Asked for", json.dumps({"invoiceId": invoice}))
    await expect(inbox(page)).to_have_text(["Asked for", "Moved"])
    await expect(shown).to_have_text("In review")
    await expect(badge).to_have_text("Pending")


async def test_a_time_that_is_none_does_not_stop_the_page(app: Application, new_page: NewPage) -> None:
    person = await app.new_person()
    invoice = await app.new_invoice(await app.new_project(person, "Kabar Pagi"))
    page = await new_page()
    await open_dashboard(page, app.url, person)
    badge = page.locator(f"[data-invoice-id='{invoice}'] span")
    await expect(badge).to_have_text("Unpaid")
    await app.execute("UPDATE invoices SET status = 'paid' WHERE id = $1", invoice)
    data = {"invoiceId": invoice, "status": "paid", "paidAt": "yesterday"}
    await app.execute(INSERT, person.id, "payment_update", "Paid", json.dumps(data))
    await expect(badge).to_have_text("Paid")
    await expect(inbox(page)).to_have_text(["Paid"])
