"""The viewer of the HTTP interface: it shows what there is, and asks nobody but us."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from playwright.async_api import expect

from tests.browser.application import Application
from tests.browser.conftest import NewPage
from tests.browser.dashboard import log_in, until_live

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_it_shows_our_routes_and_asks_no_foreign_host(app: Application, new_page: NewPage) -> None:
    page = await new_page()
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    await page.goto(f"{app.url}/schema")
    for route in ("/api/notifications", "/api/projects/{project_id}", "/api/admin/websocket/broadcast"):
        await expect(page.locator(f'[data-path="{route}"]').first).to_be_visible()
    await page.locator('[data-path="/api/projects/{project_id}"]').click()
    await expect(page.get_by_text("Sets a project's status").last).to_be_visible()
    assert {host for host in asked if host} == {f"127.0.0.1:{app.port}"}


async def test_a_route_is_tried_out_under_the_session_of_the_page(app: Application, new_page: NewPage) -> None:
    admin = await app.new_person("admin")
    project = await app.new_project(await app.new_person(), "Toko Kopi Arjuna")
    page = await new_page()
    await log_in(page, app.url, admin)
    await until_live(page)
    await page.goto(f"{app.url}/schema")
    await page.locator('[data-path="/api/projects/{project_id}"]').click()
    await page.get_by_role("button", name="Try it out").click()
    await page.get_by_placeholder("project_id").fill(project)
    await page.locator("textarea").fill('{"status": "review"}')
    await page.get_by_role("button", name="Execute").click()
    answer = page.locator(".live-responses-table")
    await expect(answer.locator(".response-col_status").last).to_have_text("200")
    await expect(answer.locator(".response-col_description").last).to_contain_text('"status": "review"')


async def test_it_is_dark_where_that_is_wanted(app: Application, new_page: NewPage) -> None:
    page = await new_page(color_scheme="dark")
    await page.goto(f"{app.url}/schema")
    await expect(page.locator(".opblock").first).to_be_visible()
    colour = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert all(int(part) < 80 for part in colour.strip("rgb()").split(","))
