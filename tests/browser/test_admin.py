"""The page for administrators in a real browser: what it changes, and who sees it."""

from __future__ import annotations

import re
import uuid
from contextlib import AsyncExitStack

import pytest
from playwright.async_api import Locator, Page, Request, expect

from tests.browser.accessibility import Axe
from tests.browser.application import Application, Person
from tests.browser.conftest import NewPage, Watch
from tests.browser.dashboard import (
    DASHBOARD,
    assert_never_reloaded,
    badge,
    card,
    inbox,
    open_admin,
    open_dashboard,
    sockets,
    until_live,
    until_loaded,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

SETTLED = "Promise.allSettled(document.getAnimations().map((animation) => animation.finished))"
MARKUP = "<img src=x onerror=\"document.body.dataset.hacked='1'\"> & <b>bold</b>"


async def opened(new_page: NewPage, app: Application, *, name: str = "Sari") -> tuple[Page, Person]:
    """The page of an administrator of the test's own."""
    page, admin = await new_page(), await app.new_person("admin", name=name)
    await open_admin(page, app.url, admin)
    return page, admin


def row(page: Page, words: str) -> Locator:
    """A connection."""
    return page.locator("#connections tr").filter(has_text=words)


def message(page: Page, subject: str) -> Locator:
    """A message to this administrator."""
    return page.get_by_role("region", name="Messages").get_by_role("listitem").filter(has_text=subject)


def form(page: Page, name: str) -> Locator:
    """The card with the form of that heading."""
    return page.get_by_role("region", name=name)


class TestAccess:
    async def test_nobody_is_led_in_by_the_log_in(self, app: Application, new_page: NewPage) -> None:
        admin = await app.new_person("admin")
        page = await new_page()
        await page.goto(f"{app.url}/admin/realtime")
        await expect(page).to_have_url(re.compile(r"/login\?next=%2Fadmin%2Frealtime$"))
        await open_admin(page, app.url, admin)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Administration")

    async def test_a_client_is_sent_to_the_dashboard(self, app: Application, new_page: NewPage) -> None:
        page = await new_page()
        await open_dashboard(page, app.url, await app.new_person())
        await expect(page.get_by_role("link", name="Administration")).to_be_hidden()
        await page.goto(f"{app.url}/admin/realtime")
        await expect(page).to_have_url(DASHBOARD)

    async def test_the_pages_lead_to_each_other(self, app: Application, new_page: NewPage) -> None:
        page, _ = await opened(new_page, app)
        await page.get_by_role("link", name="Dashboard").click()
        await expect(page).to_have_url(DASHBOARD)
        # Chromium complains of a page that is left while its socket is being opened.
        await until_live(page)
        await page.get_by_role("link", name="Administration").click()
        await expect(page).to_have_url(f"{app.url}/admin/realtime")
        await until_live(page)
        await page.get_by_role("button", name="Log out").click()
        await expect(page).to_have_url(re.compile("/login"))


class TestProjects:
    async def test_a_status_is_changed_here_and_seen_by_the_client(self, app: Application, new_page: NewPage) -> None:
        client = await app.new_person()
        await app.new_project(client, "Koperasi Mandiri")
        client_page = await new_page()
        await open_dashboard(client_page, app.url, client)
        page, _ = await opened(new_page, app)
        other_page, _ = await opened(new_page, app, name="Rina")
        await page.get_by_label("Status of Koperasi Mandiri").last.select_option("In review")
        await expect(card(client_page, "Koperasi Mandiri").locator(".badge")).to_have_text("In review")
        shown = other_page.get_by_role("region", name="All projects").get_by_role("listitem")
        await expect(shown.filter(has_text="Koperasi Mandiri").first.locator(".badge")).to_have_text("In review")
        await assert_never_reloaded(page)


class TestInvoices:
    async def test_a_payment_is_marked_after_a_question_and_all_follow(
        self, app: Application, new_page: NewPage
    ) -> None:
        client = await app.new_person()
        project = await app.new_project(client, "Toko Kopi Arjuna", status="pending_payment")
        invoice = await app.new_invoice(project)
        client_page = await new_page()
        await open_dashboard(client_page, app.url, client)
        page, _ = await opened(new_page, app)
        other_page, _ = await opened(new_page, app, name="Rina")
        shown = page.locator(f'[data-invoice-id="{invoice}"]')
        button = shown.get_by_role("button", name="Mark as paid: Rp\xa01,500,000 for “Toko Kopi Arjuna”")
        await button.click()
        dialog = page.get_by_role("dialog", name="Mark this invoice as paid?")
        await expect(dialog).to_contain_text("Rp\xa01,500,000 for “Toko Kopi Arjuna”")
        await expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        await expect(button).to_be_focused()
        assert await app.value("select status::text from invoices where id = $1", invoice) == "unpaid"
        await button.click()
        await dialog.get_by_role("button", name="Mark as paid").click()
        for window in (page, other_page, client_page):
            await expect(window.locator(f'[data-invoice-id="{invoice}"] .status-badge')).to_have_text("Paid")
        await expect(button).to_have_count(0)
        await expect(page.locator("#invoices-title")).to_be_focused()
        await expect(card(client_page, "Toko Kopi Arjuna").locator(".badge")).to_have_text("In progress")
        query = "select status = 'paid' and paid_at > now() at time zone 'UTC' - interval '1 min' from invoices"
        assert await app.value(f"{query} where id = $1", invoice) is True
        await assert_never_reloaded(client_page)

    async def test_what_was_taken_back_meanwhile_is_not_paid(
        self, app: Application, new_page: NewPage, watch: Watch
    ) -> None:
        watch.allow("409")
        invoice = await app.new_invoice(await app.new_project(await app.new_person(), "Kabar Pagi"))
        page, _ = await opened(new_page, app)
        shown = page.locator(f'[data-invoice-id="{invoice}"]')
        await shown.get_by_role("button").click()
        await app.execute("UPDATE invoices SET status = 'cancelled' WHERE id = $1", invoice)
        await page.get_by_role("dialog").get_by_role("button", name="Mark as paid").click()
        await expect(page.locator(".toast")).to_contain_text("it cannot be marked as paid")
        await expect(shown.locator(".status-badge")).to_have_text("Cancelled")
        await expect(shown.get_by_role("button")).to_have_count(0)


class TestAnnouncements:
    @pytest.mark.parametrize(
        ("audience", "reached"),
        [("Everyone", {"client", "admin"}), ("Clients", {"client"}), ("Administrators", {"admin"})],
    )
    async def test_those_see_it_who_shall(
        self, app: Application, new_page: NewPage, audience: str, reached: set[str]
    ) -> None:
        client, admin = await app.new_person(), await app.new_person("admin", name="Rina")
        pages = {"client": await new_page(), "admin": await new_page()}
        await open_dashboard(pages["client"], app.url, client)
        await open_dashboard(pages["admin"], app.url, admin)
        page, _ = await opened(new_page, app)
        card = form(page, "New announcement")
        title = f"Maintenance {uuid.uuid4()}"
        await card.get_by_label("Title").fill(title)
        await card.get_by_label("Message").fill(MARKUP)
        await card.get_by_label("For").select_option(audience)
        await card.get_by_label("Priority").select_option("Critical")
        await card.get_by_role("button", name="Announce").click()
        await expect(card.get_by_role("status")).to_have_text(re.compile(r"^Announced to \d+ (person|people)\.$"))
        await expect(card.get_by_label("Title")).to_have_value("")
        after = str(uuid.uuid4())
        for name, person in (("client", client), ("admin", admin)):
            await app.insert(person, after)
            await expect(inbox(pages[name]).first).to_have_text(after)
            toast = pages[name].locator(".toast").filter(has_text=title)
            await expect(toast).to_have_count(int(name in reached))
            if name in reached:
                await expect(toast).to_contain_text(MARKUP)
                await expect(toast).to_have_attribute("data-priority", "critical")
            assert await pages[name].evaluate("document.body.dataset.hacked") is None
        stored = "select count(*) from real_time_notifications n join users u on u.id = n.user_id where title = $1"
        assert (await app.value(f"{stored} and role = 'client'", title) > 0) == ("client" in reached)
        assert (await app.value(f"{stored} and role = 'admin'", title) > 0) == ("admin" in reached)

    async def test_one_that_is_live_only_is_stored_for_nobody(self, app: Application, new_page: NewPage) -> None:
        client_page = await new_page()
        await open_dashboard(client_page, app.url, await app.new_person())
        page, _ = await opened(new_page, app)
        card = form(page, "New announcement")
        title = f"Live {uuid.uuid4()}"
        await card.get_by_label("Title").fill(title)
        await card.get_by_label("Message").fill("Now or never")
        await card.get_by_label("Only those who are connected now").check()
        await card.get_by_role("button", name="Announce").click()
        await expect(card.get_by_role("status")).to_have_text(re.compile(r"^Sent over \d+ connections?\.$"))
        await expect(client_page.locator(".toast").filter(has_text=title)).to_be_visible()
        assert await app.value("select count(*) from real_time_notifications where title = $1", title) == 0

    async def test_what_is_missing_is_asked_for(self, app: Application, new_page: NewPage) -> None:
        page, _ = await opened(new_page, app)
        card = form(page, "New announcement")
        await card.get_by_label("Title").fill("   ")
        await card.get_by_role("button", name="Announce").click()
        await expect(card.get_by_role("alert")).to_have_text("“Title” is missing.")
        await expect(card.get_by_label("Title")).to_be_focused()
        await expect(card.get_by_label("Title")).to_have_attribute("aria-invalid", "true")


class TestMessages:
    async def test_one_arrives_and_is_answered(self, app: Application, new_page: NewPage) -> None:
        client = await app.new_person(name=MARKUP)
        client_page = await new_page()
        await open_dashboard(client_page, app.url, client)
        page, admin = await opened(new_page, app)
        await expect(page.get_by_text("No messages yet.")).to_be_visible()
        await app.write(client, admin, "Logo", f"Bigger?\n{MARKUP}")
        shown = message(page, "Logo")
        await expect(shown.get_by_role("heading", level=3)).to_have_text("Logo")
        await expect(shown).to_contain_text(f"From {MARKUP}")
        await expect(shown.locator(".message-content")).to_have_text(f"Bigger?\n{MARKUP}")
        await expect(badge(page)).to_have_text("1 unread")
        await expect(page).to_have_title("(1) Administration · JasaWeb")
        await expect(page.locator("#announcer")).to_have_text("New: Logo")
        await shown.get_by_role("button", name="Reply").click()
        await expect(shown.get_by_label("Message")).to_be_focused()
        await expect(shown.get_by_label("Subject")).to_have_value("Re: Logo")
        await shown.get_by_role("button", name="Send").click()
        await expect(shown.get_by_role("alert")).to_have_text("“Message” is missing.")
        await shown.get_by_label("Message").fill("Of course")
        await shown.get_by_role("button", name="Send").press("Enter")
        await expect(shown.get_by_role("status")).to_have_text(f"Your message to {MARKUP} is sent.")
        await expect(shown.get_by_role("button", name="Send")).to_be_focused()
        await expect(badge(page)).to_be_hidden()
        await expect(inbox(client_page).first).to_have_text("Re: Logo")
        query = "select data->>'content' from real_time_notifications where user_id = $1 and type = 'user_message'"
        assert await app.value(query, client.id) == "Of course"
        assert await page.evaluate("document.body.dataset.hacked") is None

    async def test_a_new_one_goes_to_a_chosen_user(self, app: Application, new_page: NewPage) -> None:
        unique = uuid.uuid4().hex
        client = await app.new_person(name=f"Dewi {unique}")
        client_page = await new_page()
        await open_dashboard(client_page, app.url, client)
        page, _ = await opened(new_page, app)
        card = form(page, "New message")
        await card.get_by_role("button", name="Send").click()
        await expect(card.get_by_role("alert")).to_have_text("“To” is missing.")
        await card.get_by_label("Find a person").fill("nobody has this name")
        await expect(page.locator("#compose-people")).to_have_text("Nobody has such a name.")
        await card.get_by_label("Find a person").fill(unique.upper())
        await expect(card.get_by_label("To", exact=True)).to_have_value(client.id)
        await card.get_by_label("Subject").fill("Welcome")
        await card.get_by_label("Message").fill("Good to have you")
        await card.get_by_role("button", name="Send").click()
        await expect(card.locator(".form-done")).to_have_text(f"Your message to Dewi {unique} is sent.")
        await expect(inbox(client_page)).to_have_text(["Welcome"])

    async def test_nobody_else_has_an_account(self, app: Application, new_page: NewPage) -> None:
        page = await new_page()
        await page.route("**/api/users?*", lambda route: route.fulfill(json={"items": [], "total": 0}))
        await open_admin(page, app.url, await app.new_person("admin"))
        await expect(page.locator("#compose-people")).to_have_text("There is nobody to write to yet.")

    async def test_one_below_many_alerts_is_found(self, app: Application, new_page: NewPage) -> None:
        admin = await app.new_person("admin")
        await app.write(await app.new_person(), admin, "Far below", "Hello")
        await app.execute(
            "INSERT INTO real_time_notifications (id, user_id, type, title, message)"
            " SELECT gen_random_uuid()::text, $1, 'admin_alert', 'n' || n, '' FROM generate_series(1, 160) n",
            admin.id,
        )
        page = await new_page()
        await open_admin(page, app.url, admin)
        await expect(message(page, "Far below")).to_be_visible()
        await expect(page.get_by_role("region", name="Messages").get_by_role("listitem")).to_have_count(1)

    async def test_one_of_a_foreign_program_has_no_reply(self, app: Application, new_page: NewPage) -> None:
        page, admin = await opened(new_page, app)
        await app.insert(admin, "From elsewhere", kind="user_message", message="Plain")
        await expect(message(page, "From elsewhere")).to_contain_text("Plain")
        await expect(message(page, "From elsewhere").get_by_role("button", name="Reply")).to_have_count(0)
        await message(page, "From elsewhere").get_by_role("button", name="Mark “From elsewhere” as read").press("Enter")
        await expect(badge(page)).to_be_hidden()
        await expect(page.locator("#messages-title")).to_be_focused()


class TestConnections:
    async def test_who_is_there_is_shown_and_found(self, app: Application, new_page: NewPage) -> None:
        unique = uuid.uuid4().hex
        client = await app.new_person(name=f"{MARKUP} {unique}")
        phone = await new_page(
            user_agent="Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko)"
            " Chrome/140.0.0.0 Mobile Safari/537.36"
        )
        page, admin = await opened(new_page, app, name=f"Sari {unique}")
        await page.get_by_label("Name, id or address").fill(unique)
        await expect(row(page, "Administrator")).to_have_count(1)
        await open_dashboard(phone, app.url, client)
        shown = row(page, MARKUP)
        await expect(shown.get_by_role("rowheader")).to_have_text(client.name)
        for words in ("Client", "127.0.0.1", "Chrome on Android", "just now"):
            await expect(shown).to_contain_text(words)
        await expect(page.locator("#connections tr")).to_have_count(2)
        await page.get_by_label("Role").select_option("Administrator")
        await expect(page.locator("#connections tr")).to_have_count(1)
        await expect(row(page, admin.name)).to_be_visible()
        await page.get_by_label("Name, id or address").fill(f"{unique} nobody")
        await expect(page.get_by_text("Nobody who is connected matches.")).to_be_visible()
        await page.get_by_label("Name, id or address").fill(client.id)
        await page.get_by_label("Role").select_option("All")
        await expect(shown).to_be_visible()
        assert await page.evaluate("document.body.dataset.hacked") is None

    async def test_who_leaves_is_gone_from_the_list(self, app: Application, new_page: NewPage) -> None:
        client = await app.new_person()
        page, _ = await opened(new_page, app)
        async with sockets(app, client, 1):
            await page.get_by_label("Name, id or address").fill(client.id)
            await expect(row(page, client.name)).to_be_visible()
        await expect(row(page, client.name)).to_have_count(0)

    async def test_one_is_closed_after_a_question(self, app: Application, new_page: NewPage) -> None:
        client = await app.new_person(name=f"Dewi {uuid.uuid4()}")
        client_page = await new_page()
        await open_dashboard(client_page, app.url, client)
        page, _ = await opened(new_page, app)
        await page.get_by_label("Name, id or address").fill(client.name)
        button = page.get_by_role("button", name=f"Disconnect {client.name} at 127.0.0.1")
        await button.click()
        dialog = page.get_by_role("dialog", name="Disconnect this page?")
        await dialog.get_by_role("button", name="Cancel").click()
        await expect(button).to_be_focused()
        await button.click()
        await dialog.get_by_role("button", name="Disconnect").click()
        await expect(client_page.get_by_role("alert")).to_contain_text("An administrator disconnected this page.")
        await expect(button).to_have_count(0)
        await expect(page.locator("#announcer")).to_have_text(f"{client.name} was disconnected.")
        await expect(page.locator("#connections-title")).to_be_focused()

    async def test_many_are_paged(self, app: Application, new_page: NewPage) -> None:
        unique = uuid.uuid4().hex
        people = [await app.new_person(name=f"{unique} {number}") for number in range(3)]
        page, _ = await opened(new_page, app)
        async with AsyncExitStack() as stack:
            for person in people:
                await stack.enter_async_context(sockets(app, person, 8))
            await page.get_by_label("Name, id or address").fill(unique)
            await expect(page.locator("#range")).to_have_text("1\N{EN DASH}20 of 24")
            await expect(page.locator("#connections tr")).to_have_count(20)
            await expect(page.get_by_role("button", name="Previous")).to_be_disabled()
            await page.get_by_role("button", name="Next").press("Enter")
            await expect(page.locator("#range")).to_have_text("21\N{EN DASH}24 of 24")
            await expect(page.locator("#connections tr")).to_have_count(4)
            await expect(page.get_by_role("button", name="Next")).to_be_disabled()
            await expect(page.locator("#connections-title")).to_be_focused()
        # All who were on that page are gone, and so is the page.
        await expect(page.get_by_text("Nobody who is connected matches.")).to_be_visible()

    async def test_a_page_that_nobody_sees_asks_nothing(self, app: Application, new_page: NewPage) -> None:
        page, _ = await opened(new_page, app)
        await expect(page.locator("#connections tr")).not_to_have_count(0)
        hide = """(hidden) => {
            Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
        await page.clock.install()
        await page.evaluate(hide, True)
        asked: list[str] = []

        def count(request: Request) -> None:
            asked.append(request.url)

        page.on("request", count)
        await page.clock.run_for(60_000)
        assert [url for url in asked if "/api/admin/websocket/" in url] == []
        async with page.expect_response(re.compile("/api/admin/websocket/status")):
            await page.evaluate(hide, False)


class TestFigures:
    async def test_they_follow(self, app: Application, new_page: NewPage) -> None:
        page, _ = await opened(new_page, app)
        figure = page.locator(".figure").filter(has=page.get_by_text("Connections", exact=True)).locator("dd")
        await expect(page.locator("#health")).to_have_text("Notifications go out")
        async with sockets(app, await app.new_person(), 9):
            await expect(figure).to_have_text(re.compile(r"^\d\d+$"))
        await expect(figure).to_have_text(re.compile(r"^[1-9]$"))


class TestLook:
    @pytest.mark.parametrize("width", [320, 390, 768, 1280])
    async def test_nothing_sticks_out_at_any_width(self, app: Application, new_page: NewPage, width: int) -> None:
        client = await app.new_person(name="Raden Mas Suryadi Kusumanegara van der " + "Long" * 20)
        project = await app.new_project(client, "Perkumpulan" * 8, status="pending_payment")
        await app.new_invoice(project, amount=9_999_999_999)
        admin = await app.new_person("admin", name="Administrator" * 6)
        await app.write(client, admin, "W" * 200, "https://example.org/" + "x" * 300)
        page = await new_page(viewport={"width": width, "height": 800})
        async with sockets(app, client, 1):
            await open_admin(page, app.url, admin)
            await page.get_by_label("Name, id or address").fill(client.id)
            await expect(page.locator("#connections tr")).to_have_count(1)
            await page.get_by_role("button", name="Reply").click()
            await until_loaded(page)
            assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            await page.locator("#connections button").click()
            await expect(page.get_by_role("dialog")).to_be_visible()
            assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")

    @pytest.mark.parametrize(
        ("width", "scheme", "locale"), [(1280, "light", "en-GB"), (1280, "dark", "en-GB"), (390, "light", "id-ID")]
    )
    async def test_axe_finds_nothing(
        self, app: Application, new_page: NewPage, axe: Axe, width: int, scheme: str, locale: str
    ) -> None:
        client, admin = await app.new_person(), await app.new_person("admin")
        await app.new_invoice(await app.new_project(client, "Kabar Pagi"))
        await app.write(client, admin, "Logo", "Bigger?")
        page = await new_page(viewport={"width": width, "height": 844}, color_scheme=scheme, locale=locale)
        await open_admin(page, app.url, admin)
        await expect(page.locator("#connections tr").first).to_be_visible()
        await expect(page.locator("#invoices li").first).to_be_visible()
        await page.locator(".reply").click()
        await page.locator("#announce button").click()
        await expect(page.locator("#announce .form-error")).not_to_be_empty()
        await page.evaluate(SETTLED)
        await axe(page)
        await page.locator("#connections button").first.click()
        await page.evaluate(SETTLED)
        await axe(page, within="dialog")

    async def test_it_speaks_indonesian(self, app: Application, new_page: NewPage) -> None:
        admin = await app.new_person("admin")
        page = await new_page(locale="id-ID")
        await open_admin(page, app.url, admin)
        assert await page.evaluate("document.documentElement.lang") == "id"
        await expect(page).to_have_title("Administrasi · JasaWeb")
        for heading in ("Semua proyek", "Semua tagihan", "Pesan", "Pengumuman baru", "Yang sedang terhubung"):
            await expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
        await expect(page.locator("#health")).to_have_text("Pemberitahuan terkirim")

    async def test_it_is_under_a_strict_policy(self, app: Application, new_page: NewPage) -> None:
        page, _ = await opened(new_page, app)
        answer = await page.reload()
        assert answer is not None
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
