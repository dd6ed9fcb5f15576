"""The guide's dashboard (its step 8) with the hook, bundled as a site bundles it; and the hook against the program."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Route, expect

from tests.browser.application import PASSWORD, Application
from tests.browser.client_page import LOG_IN
from tests.browser.conftest import NewPage
from tests.browser.test_use_websocket import SCRIPT
from tests.support.scripted_server import ScriptedServer, durable

pytestmark = pytest.mark.asyncio(loop_scope="session")

DASHBOARD = b"""<!doctype html><html lang="en"><title>Dashboard</title><link rel="icon" href="/static/favicon.svg">
<ul><li data-invoice-id="i1">Toko Kopi <span class="status-badge status-pending">Pending</span></li>
<li data-invoice-id="i2">Berita Kota <span class="status-badge status-pending">Pending</span></li></ul>
<div id="root"></div><script type="module" src="/dashboard.js"></script></html>"""


async def test_the_guide_s_dashboard(scripted: ScriptedServer, new_page: NewPage, bundles: Path) -> None:
    scripted.files = {"/dashboard.html": DASHBOARD, "/dashboard.js": (bundles / "dashboard.js").read_bytes()}
    page = await new_page()
    await page.goto(f"{scripted.base_url}/dashboard.html")
    status = page.locator(".connection-status")
    await expect(status).to_have_text("Connecting...")
    socket = await scripted.accept()
    await socket.sync(head=0)
    await expect(status).to_have_text("Connected")
    await expect(status).to_have_class("connection-status connected")

    await page.evaluate("window.loadedOnce = true")
    await socket.send({**durable(1, invoiceId="i1", status="paid", amount=1500000), "type": "payment_update"})
    badge = page.locator('[data-invoice-id="i1"] .status-badge')
    await expect(badge).to_have_text("Paid")
    await expect(badge).to_have_class("status-badge status-paid")
    await expect(page.locator('[data-invoice-id="i2"] .status-badge')).to_have_text("Pending")
    assert await page.evaluate("window.loadedOnce")

    async with page.expect_navigation():
        await socket.send(durable(2, projectId="p", oldStatus="draft", newStatus="review"))
    again = await scripted.accept()
    assert again.query == {}
    await again.sync(head=2)
    await expect(status).to_have_text("Connected")
    assert await page.evaluate("window.loadedOnce") is None


async def test_a_notification_of_the_program_arrives_in_a_component(
    app: Application, new_page: NewPage, bundles: Path
) -> None:
    person = await app.new_person()
    page = await new_page()

    async def serve_react(route: Route) -> None:
        await route.fulfill(path=bundles / "react.development.js", content_type="text/javascript")

    async def serve_script(route: Route) -> None:
        await route.fulfill(path=SCRIPT, content_type="text/javascript")

    await page.route(f"{app.url}/react.js", serve_react)
    await page.route(f"{app.url}/hook.js", serve_script)
    # A page of the program's own, under its own policy, which then shows ours.
    await page.goto(f"{app.url}/login?strict")
    await page.evaluate(LOG_IN, {"email": person.email, "password": PASSWORD})
    await page.evaluate("""() => {
      document.body.innerHTML = "<div id=root></div>";
      return import("/hook.js").then(() => {});
    }""")
    await page.wait_for_function("() => window.ready")
    await page.evaluate("show([{ name: 'a' }, { kind: 'Listener', label: 'heard' }])")
    status, messages = page.locator("#a output"), page.locator("#a li")
    await expect(status).to_have_text("open true 0 0")
    await app.insert(person, "Straight from a commit")
    await expect(messages).to_have_text(["Connected", "Straight from a commit"])
    await expect(status).to_have_text("open true 1 0")
    assert await page.evaluate("heard") == ["heard 1"]
    await page.evaluate("sockets.a.markRead({ upTo: 1 })")
    await expect(status).to_have_text("open true 0 0")
