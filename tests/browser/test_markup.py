"""HTML in any text that anybody can write is shown as text: on the dashboard, on the page for administrators."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from playwright.async_api import Page, expect
from websockets.asyncio.client import connect

from tests.browser.application import Application, Person
from tests.browser.conftest import WAIT_MS, NewPage
from tests.browser.dashboard import inbox, open_admin, open_dashboard, until_loaded

pytestmark = pytest.mark.asyncio(loop_scope="session")

SENTINEL = "globalThis.ranScript = true"
MARKUP = f"""<img src=x onerror="{SENTINEL}"><script>{SENTINEL}</script>'"><b>bold</b>&lt;"""
"""Something of each kind; short enough for a title."""
INSERT = """INSERT INTO real_time_notifications (id, user_id, type, title, message, data)
    VALUES (gen_random_uuid()::text, $1, $2::text::"NotificationType", $3, $3, $4::jsonb)"""
DATA = {
    "project_update": ("projectId", "projectName", "oldStatus", "newStatus", "message", "title"),
    "payment_update": ("invoiceId", "projectId", "projectName", "amount", "status", "paidAt", "title", "message"),
    "system_announcement": ("title", "message", "priority", "actionUrl"),
    "admin_alert": ("event", "message", "projectId", "requiresAction", "title"),
    "user_message": ("fromUserId", "fromUserName", "toUserId", "subject", "content", "title", "message"),
}
"""What `data` may hold, by type; a foreign program may put anything there."""


async def insert_markup(app: Application, person: Person) -> None:
    """A notification of each type, with markup in each of its fields, under a link that is a script."""
    for kind, fields in DATA.items():
        data = dict.fromkeys(fields, MARKUP) | (
            {"actionUrl": f"javascript:{SENTINEL}"} if "actionUrl" in fields else {}
        )
        await app.execute(INSERT, person.id, kind, MARKUP, json.dumps(data))


async def assert_text_only(page: Page) -> None:
    """Nothing of the markup became an element, an attribute or a link, and no script ran."""
    await until_loaded(page)
    assert await page.evaluate("globalThis.ranScript") is None
    made = "b, img[src='x'], script:not([src]), [onerror], a[href^='javascript' i]"
    await expect(page.locator("body").locator(made)).to_have_count(0)


async def test_on_the_dashboard(app: Application, new_page: NewPage) -> None:
    person = await app.new_person(name=MARKUP)
    project = await app.new_project(person, MARKUP)
    await app.execute("UPDATE projects SET url = $2 WHERE id = $1", project, f"javascript:{SENTINEL}")
    await app.new_invoice(project)
    await insert_markup(app, person)
    page = await new_page()
    await open_dashboard(page, app.url, person)
    await expect(inbox(page)).to_have_count(len(DATA))
    await expect(inbox(page).filter(has_text="<script>").first).to_be_visible()
    await assert_text_only(page)
    # The same, as it is pushed.
    await insert_markup(app, person)
    await expect(inbox(page)).to_have_count(2 * len(DATA))
    await assert_text_only(page)


async def test_on_the_page_for_administrators(app: Application, new_page: NewPage) -> None:
    admin = await app.new_person("admin", name=MARKUP)
    person = await app.new_person(name=MARKUP)
    await app.execute("UPDATE users SET email = $2 || id WHERE id = $1", person.id, "<i>@example.test<b>")
    await app.new_invoice(await app.new_project(person, MARKUP))
    page = await new_page()
    async with app.session(admin) as client:
        token = (await client.post("/api/websocket/token")).json()["token"]
        url = f"ws://127.0.0.1:{app.port}/ws?token={token}"
        async with connect(url, user_agent_header=MARKUP) as socket:
            await socket.recv()
            await open_admin(page, app.url, admin)
            await insert_markup(app, admin)
            await app.write(admin, person, MARKUP, MARKUP)
            await expect(page.get_by_text(re.compile("<script>")).first).to_be_visible()
            await assert_text_only(page)
            # Frames of administrators, which come to everybody as they are; then one that the page shows.
            for kind, data in (
                ("system_announcement", {"title": MARKUP, "message": f"said {MARKUP}", "audience": "all"}),
                ("admin_alert", {"event": MARKUP, "message": f"said {MARKUP}"}),
            ):
                await socket.send(json.dumps({"type": kind, "data": data, "id": kind}))
                async with asyncio.timeout(WAIT_MS / 1000):
                    while json.loads(await socket.recv())["data"].get("message") != f"said {MARKUP}":
                        pass
            await app.write(await app.new_person(name=MARKUP), admin, f"last {MARKUP}", MARKUP)
            await expect(page.get_by_text(re.compile("last <img")).first).to_be_visible()
            await assert_text_only(page)
