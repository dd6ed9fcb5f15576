"""Messages between a client and the agency, written and answered on the dashboard."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, expect

from tests.browser.application import Application, Person
from tests.browser.conftest import NewPage, Watch
from tests.browser.dashboard import CUT, badge, inbox, open_dashboard, until_live

pytestmark = pytest.mark.asyncio(loop_scope="session")


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


def toast(page: Page) -> Locator:
    return page.get_by_label("Announcements").locator(".toast")


def message(page: Page, title: str) -> Locator:
    return page.locator(".notification").filter(has=page.get_by_role("heading", name=title, exact=True))


async def offer(page: Page, *people: Person, total: int | None = None) -> None:
    """The server of all these tests has many administrators; this page hears of a few."""
    items = [{"id": person.id, "name": person.name, "role": "admin"} for person in people]
    answer = {"items": items, "total": len(items) if total is None else total}
    await page.route("**/api/users?*", lambda route: route.fulfill(json=answer))


async def write(page: Page, subject: str, content: str) -> None:
    await dialog(page).get_by_label("Subject").fill(subject)
    await dialog(page).get_by_label("Message", exact=True).fill(content)


async def store_message(app: Application, to: Person, sender: Person, subject: str, **data: Any) -> None:
    """A message as the server stores it; `data` replaces parts of it."""
    content = {"fromUserId": sender.id, "fromUserName": sender.name, "toUserId": to.id, "subject": subject, **data}
    await app.execute(
        "INSERT INTO real_time_notifications (id, user_id, type, title, message, data)"
        " VALUES (gen_random_uuid()::text, $1, 'user_message', $2, 'What do you think?', $3::text::jsonb)",
        to.id,
        subject,
        json.dumps(content),
    )


class TestWriting:
    async def test_a_client_writes_and_the_administrator_answers(self, app: Application, new_page: NewPage) -> None:
        client, admin = await app.new_person(name="Dewi"), await app.new_person("admin", name="Sari Utami")
        client_page, admin_page = await new_page(), await new_page()
        await offer(client_page, admin)
        await open_dashboard(client_page, app.url, client)
        await open_dashboard(admin_page, app.url, admin)
        await client_page.get_by_role("button", name="Write").click()
        await expect(dialog(client_page)).to_have_accessible_name("Message to Sari Utami")
        await expect(client_page.get_by_label("To", exact=True)).to_be_hidden()
        await write(client_page, "Logo", "Here it is.\nGreetings")
        await dialog(client_page).get_by_role("button", name="Send").click()
        await expect(toast(client_page)).to_contain_text("Your message to Sari Utami is sent.")
        await expect(dialog(client_page)).to_be_hidden()

        received = message(admin_page, "Logo")
        await expect(received).to_contain_text("Message from Dewi")
        await expect(received.locator(".notification-message")).to_have_text(
            "Here it is.\nGreetings", use_inner_text=True
        )
        await expect(badge(admin_page)).to_have_text("1 unread")
        await received.get_by_role("button", name="Reply to Dewi: Logo").click()
        await expect(admin_page.get_by_label("To", exact=True)).to_have_value(client.id)
        await expect(dialog(admin_page).get_by_label("Subject")).to_have_value("Re: Logo")
        content = dialog(admin_page).get_by_label("Message", exact=True)
        await expect(content).to_be_focused()
        await content.fill("Thank you")
        await dialog(admin_page).get_by_role("button", name="Send").click()
        await expect(toast(admin_page)).to_contain_text("Your message to Dewi is sent.")
        await expect(badge(admin_page)).to_be_hidden()
        await expect(message(client_page, "Re: Logo")).to_contain_text("Message from Sari Utami")

    async def test_several_administrators_to_choose_from(self, app: Application, new_page: NewPage) -> None:
        client = await app.new_person()
        admins = [await app.new_person("admin", name=name) for name in ("Ayu", "Sari")]
        page, other_page = await new_page(), await new_page()
        await offer(page, *admins)
        await open_dashboard(page, app.url, client)
        await open_dashboard(other_page, app.url, admins[1])
        await page.get_by_role("button", name="Write").click()
        to = page.get_by_label("To", exact=True)
        await expect(to.get_by_role("option")).to_have_text(["Choose…", "Ayu", "Sari"])
        await write(page, "Hello", "There")
        await dialog(page).get_by_role("button", name="Send").click()
        await expect(dialog(page).get_by_role("alert")).to_have_text("“To” is missing.")
        await expect(to).to_be_focused()
        await to.select_option("Sari")
        await dialog(page).get_by_role("button", name="Send").click()
        await expect(toast(page)).to_contain_text("Your message to Sari is sent.")
        await expect(inbox(other_page)).to_have_text(["Hello"])

    async def test_what_is_missing_is_asked_for_and_lengths_are_kept(self, app: Application, new_page: NewPage) -> None:
        page = await new_page()
        await offer(page, await app.new_person("admin"))
        await open_dashboard(page, app.url, await app.new_person())
        await page.get_by_role("button", name="Write").click()
        send = dialog(page).get_by_role("button", name="Send")
        subject = dialog(page).get_by_label("Subject")
        await send.click()
        await expect(dialog(page).get_by_role("alert")).to_have_text("“Subject” is missing.")
        await expect(subject).to_be_focused()
        await expect(subject).to_have_attribute("aria-invalid", "true")
        await subject.type("x" * 210)
        await expect(subject).to_have_value("x" * 200)
        await dialog(page).get_by_label("Message", exact=True).fill("  \n ")
        await send.click()
        await expect(dialog(page).get_by_role("alert")).to_have_text("“Message” is missing.")

    async def test_nobody_to_write_to_and_a_list_that_fails(
        self, app: Application, new_page: NewPage, watch: Watch
    ) -> None:
        watch.allow("503")
        page = await new_page()
        failing = True

        async def answer(route: Route) -> None:
            if failing:
                await route.fulfill(status=503, json={"success": False, "error": "no"})
            else:
                await route.fulfill(json={"items": [], "total": 0})

        await page.route("**/api/users?*", answer)
        await open_dashboard(page, app.url, await app.new_person())
        await page.get_by_role("button", name="Write").click()
        status = dialog(page).locator("#compose-status")
        await expect(status).to_contain_text("could not be loaded")
        failing = False
        await status.get_by_role("button", name="Try again").click()
        await expect(status).to_have_text("There is nobody to write to yet.")

    async def test_an_administrator_is_told_where_the_others_are(self, app: Application, new_page: NewPage) -> None:
        page = await new_page()
        await offer(page, await app.new_person("admin"), total=600)
        await open_dashboard(page, app.url, await app.new_person("admin"))
        await page.get_by_role("button", name="Write").click()
        link = dialog(page).get_by_role("link", name=re.compile("Not everyone is listed"))
        await expect(link).to_have_attribute("href", "/admin/realtime")


class TestFailure:
    async def test_a_refusal_is_said_and_the_text_stays(
        self, app: Application, new_page: NewPage, watch: Watch
    ) -> None:
        watch.allow("403")
        client, other = await app.new_person(), await app.new_person(name="No Administrator")
        page = await new_page()
        await offer(page, other)
        await open_dashboard(page, app.url, client)
        await page.get_by_role("button", name="Write").click()
        await write(page, "Logo", "Here it is")
        send = dialog(page).get_by_role("button", name="Send")
        await send.press("Enter")
        await expect(dialog(page).get_by_role("alert")).to_have_text("You may write to administrators only")
        await expect(dialog(page).get_by_label("Subject")).to_have_value("Logo")
        await expect(dialog(page).get_by_label("Message", exact=True)).to_have_value("Here it is")
        await expect(send).to_be_enabled()
        await expect(send).to_be_focused()

    async def test_a_failure_after_the_dialog_was_closed_is_said_as_well(
        self, app: Application, new_page: NewPage, watch: Watch
    ) -> None:
        watch.allow(CUT)
        page = await new_page()
        await offer(page, await app.new_person("admin", name="Sari"))
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def late(route: Route) -> None:
            asked.set()
            await asyncio.wait_for(go_on.wait(), 20)
            await route.abort()

        await page.route("**/api/messages", late)
        await open_dashboard(page, app.url, await app.new_person())
        await page.get_by_role("button", name="Write").click()
        await write(page, "Logo", "Here it is")
        await dialog(page).get_by_role("button", name="Send").click()
        await asyncio.wait_for(asked.wait(), 20)
        await page.keyboard.press("Escape")
        await expect(dialog(page)).to_be_hidden()
        go_on.set()
        await expect(toast(page)).to_contain_text("Your message to Sari could not be sent.")
        await expect(toast(page)).to_contain_text("The server cannot be reached")
        await page.get_by_role("button", name="Write").click()
        await expect(dialog(page).get_by_label("Message", exact=True)).to_have_value("Here it is")

    async def test_what_is_typed_while_one_is_on_its_way_stays(self, app: Application, new_page: NewPage) -> None:
        page = await new_page()
        await offer(page, await app.new_person("admin", name="Sari"))
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def late(route: Route) -> None:
            asked.set()
            await asyncio.wait_for(go_on.wait(), 20)
            await route.fulfill(status=201, json={"success": True})

        await page.route("**/api/messages", late)
        await open_dashboard(page, app.url, await app.new_person())
        await page.get_by_role("button", name="Write").click()
        await write(page, "Logo", "Here it is")
        await dialog(page).get_by_role("button", name="Send").click()
        await asyncio.wait_for(asked.wait(), 20)
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Write").click()
        await write(page, "Colours", "And these")
        go_on.set()
        await expect(toast(page)).to_contain_text("Your message to Sari is sent.")
        await expect(dialog(page)).to_be_visible()
        await expect(dialog(page).get_by_label("Message", exact=True)).to_have_value("And these")
        await dialog(page).get_by_role("button", name="Send").click()
        await expect(dialog(page)).to_be_hidden()
        await page.get_by_role("button", name="Write").click()
        await expect(dialog(page).get_by_label("Message", exact=True)).to_have_value("")

    async def test_a_draft_outlives_a_reload_and_is_its_author_s(self, app: Application, new_page: NewPage) -> None:
        client, other = await app.new_person(), await app.new_person()
        page = await new_page()
        await offer(page, await app.new_person("admin"))
        await open_dashboard(page, app.url, client)
        await page.get_by_role("button", name="Write").click()
        await write(page, "Logo", "Half a sent")
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Bahasa Indonesia").click()
        await expect(page.locator("#write")).to_have_text("Tulis pesan")
        # Before it is live, a page does not hear every click; and Chromium complains of one that is left then.
        await until_live(page)
        await page.get_by_role("button", name="Tulis pesan").click()
        await expect(page.locator("#compose-subject")).to_have_value("Logo")
        await expect(page.locator("#compose-content")).to_have_value("Half a sent")
        await page.get_by_role("button", name="Kirim").click()
        await expect(page.locator(".toast")).to_contain_text("telah terkirim")
        await page.reload()
        await until_live(page)
        await page.get_by_role("button", name="Tulis pesan").click()
        await expect(page.locator("#compose-content")).to_have_value("")
        await page.locator("#compose-content").fill("Mine")
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Keluar").click()
        await expect(page).to_have_url(re.compile("/login"))
        await open_dashboard(page, app.url, other)
        await page.get_by_role("button", name="Tulis pesan").click()
        await expect(page.locator("#compose-content")).to_have_value("")


class TestReply:
    async def test_by_the_keyboard_alone_and_back_to_where_it_was(self, app: Application, new_page: NewPage) -> None:
        client, admin = await app.new_person(), await app.new_person("admin", name="Sari")
        await store_message(app, client, admin, "re: Re: Logo")
        page = await new_page()
        await offer(page)
        await open_dashboard(page, app.url, client)
        reply = message(page, "re: Re: Logo").get_by_role("button", name="Reply")
        await reply.focus()
        await page.keyboard.press("Enter")
        await expect(dialog(page)).to_have_accessible_name("Message to Sari")
        await expect(dialog(page).get_by_label("Subject")).to_have_value("Re: Logo")
        await page.keyboard.type("Fine")
        await page.keyboard.press("Escape")
        await expect(reply).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(dialog(page).get_by_label("Message", exact=True)).to_have_value("Fine")
        await page.keyboard.press("Tab")
        await expect(dialog(page).get_by_role("button", name="Send")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(toast(page)).to_contain_text("Your message to Sari is sent.")
        await expect(badge(page)).to_be_hidden()

    async def test_none_to_a_message_without_a_sender(self, app: Application, new_page: NewPage) -> None:
        client, admin = await app.new_person(), await app.new_person("admin", name="Sari")
        await app.insert(client, "From a program", kind="user_message", message="Hello")
        await store_message(app, client, admin, "No name", fromUserName="")
        page = await new_page()
        await open_dashboard(page, app.url, client)
        await expect(inbox(page)).to_have_text(["No name", "From a program"])
        await expect(page.get_by_role("button", name="Reply")).to_have_count(0)

    async def test_to_one_that_came_too_large_for_the_socket(self, app: Application, new_page: NewPage) -> None:
        client, admin = await app.new_person(), await app.new_person("admin", name="Sari")
        page = await new_page()
        await offer(page, admin)
        await open_dashboard(page, app.url, client)
        await store_message(app, client, admin, "Long", content="x" * 70_000)
        await message(page, "Long").get_by_role("button", name="Reply to Sari: Long").click()
        await expect(dialog(page).get_by_label("Subject")).to_have_value("Re: Long")
