"""The dashboard in a real browser, against the whole program."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.async_api import expect

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
    until_loaded,
)
from tests.support.tcp_relay import TcpRelay

pytestmark = pytest.mark.asyncio(loop_scope="session")

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "dashboard.png"


class TestLive:
    async def test_an_admin_s_change_shows_without_a_reload(self, app: Application, new_page: NewPage) -> None:
        person, admin = await app.new_person(), await app.new_person("admin", name="Sari")
        project = await app.new_project(person, "Toko Kopi Arjuna")
        page = await new_page()
        await open_dashboard(page, app.url, person)
        status = card(page, "Toko Kopi Arjuna").locator(".badge")
        await expect(status).to_have_text("In progress")
        await app.set_status(admin, project, "review")
        await expect(status).to_have_text("In review")
        await expect(inbox(page)).to_have_count(1)
        await expect(badge(page)).to_have_text("1 unread")
        await expect(page).to_have_title("(1) Dashboard · JasaWeb")
        await app.set_status(admin, project, "completed")
        await expect(status).to_have_text("Completed")
        await expect(badge(page)).to_have_text("2 unread")
        await assert_never_reloaded(page)

    async def test_a_foreign_insert_shows_and_its_markup_stays_text(self, app: Application, new_page: NewPage) -> None:
        person, other = await app.new_person(), await app.new_person()
        page = await new_page()
        await open_dashboard(page, app.url, person)
        title = "<img src=x onerror=\"document.body.dataset.hacked='1'\"> & <b>bold</b>"
        await app.insert(other, "not for you")
        await app.insert(person, title, message="<script>document.body.dataset.hacked='1'</script>")
        await expect(inbox(page)).to_have_text([title])
        await expect(page.get_by_text("<script>document.body")).to_be_visible()
        await expect(page.locator("#announcer")).to_have_text(f"New: {title}")
        assert await page.evaluate("document.body.dataset.hacked") is None
        await assert_never_reloaded(page)

    async def test_many_inserts_arrive_each_once_newest_first(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        page = await new_page()
        await open_dashboard(page, app.url, person)
        for number in range(1, 31):
            await app.insert(person, f"n{number}")
        await expect(inbox(page)).to_have_text([f"n{number}" for number in range(30, 0, -1)])
        await expect(badge(page)).to_have_text("30 unread")

    async def test_an_announcement_is_shown_over_the_page(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        page = await new_page()
        await open_dashboard(page, app.url, person)
        await expect(page.locator(".toast")).to_have_count(0)
        await app.insert(person, "Holiday", kind="system_announcement", message="The office is closed <on> Monday")
        toast = page.get_by_label("Announcements").locator(".toast")
        await expect(toast).to_contain_text("The office is closed <on> Monday")
        await toast.get_by_role("button", name="Dismiss").click()
        await expect(toast).to_have_count(0)

    async def test_announcements_taller_than_a_phone_are_dismissed(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        page = await new_page(viewport={"width": 320, "height": 568})
        await open_dashboard(page, app.url, person)
        for title in ("one", "two"):
            await app.insert(person, title, kind="system_announcement", message="Read me. " * 400)
            await expect(page.locator(".toast").last).to_contain_text(title)
        for _ in range(2):
            await page.locator(".toast").last.get_by_role("button", name="Dismiss").click()
        await expect(page.locator(".toast")).to_have_count(0)

    async def test_a_status_of_a_foreign_program_s_own_is_shown_as_it_is(
        self, app: Application, new_page: NewPage
    ) -> None:
        person = await app.new_person()
        project = await app.new_project(person, "Kabar Pagi")
        page = await new_page()
        await open_dashboard(page, app.url, person)
        await expect(card(page, "Kabar Pagi")).to_be_visible()
        await app.execute(
            "INSERT INTO real_time_notifications (id, user_id, type, title, message, data)"
            " VALUES (gen_random_uuid()::text, $1, 'project_update', 'Moved', '',"
            " jsonb_build_object('projectId', $2::text, 'newStatus', 'on_hold'))",
            person.id,
            project,
        )
        await expect(card(page, "Kabar Pagi").locator(".badge")).to_have_text("on hold")

    async def test_what_is_too_large_for_the_socket_is_read_by_http(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        page = await new_page()
        await open_dashboard(page, app.url, person)
        await app.insert(person, "Large", message="x" * 70_000)
        await expect(inbox(page)).to_have_text(["Large"])
        await expect(page.locator(".notification-message")).to_have_text("x" * 70_000)

    async def test_a_new_project_appears_with_its_first_update(self, app: Application, new_page: NewPage) -> None:
        person, admin = await app.new_person(), await app.new_person("admin")
        page = await new_page()
        await open_dashboard(page, app.url, person)
        await expect(page.get_by_text("No projects yet.")).to_be_visible()
        project = await app.new_project(person, "SMA Negeri 3")
        await app.set_status(admin, project, "review")
        await expect(card(page, "SMA Negeri 3").locator(".badge")).to_have_text("In review")
        await expect(page.get_by_text("No projects yet.")).to_have_count(0)


class TestInbox:
    async def test_unread_agrees_in_two_tabs(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        for title in ("one", "two", "three"):
            await app.insert(person, title)
        first = await new_page()
        await open_dashboard(first, app.url, person)
        second = await new_page(context=first.context)
        await second.goto(f"{app.url}/client/dashboard")
        for page in (first, second):
            await expect(connection(page)).to_have_text("Live")
            await expect(badge(page)).to_have_text("3 unread")
        await first.get_by_role("button", name="Mark “two” as read").click()
        for page in (first, second):
            await expect(badge(page)).to_have_text("2 unread")
            await expect(page.locator(".notification.unread h3")).to_have_text(["three", "one"])
        await app.insert(person, "four")
        for page in (first, second):
            await expect(badge(page)).to_have_text("3 unread")
        await second.get_by_role("button", name="Mark all as read").click()
        for page in (first, second):
            await expect(badge(page)).to_be_hidden()
            await expect(page.locator(".notification.unread")).to_have_count(0)
            await expect(page).to_have_title("Dashboard · JasaWeb")

    async def test_a_foreign_update_of_read_at_moves_the_badge(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        page = await new_page()
        await open_dashboard(page, app.url, person)
        notification = await app.insert(person, "one")
        await expect(badge(page)).to_have_text("1 unread")
        await app.execute("UPDATE real_time_notifications SET read_at = now() WHERE id = $1", notification)
        await expect(badge(page)).to_be_hidden()

    async def test_older_ones_are_shown_on_demand(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        await app.execute(
            "INSERT INTO real_time_notifications (id, user_id, type, title, message)"
            " SELECT gen_random_uuid()::text, $1, 'project_update', 'n' || n, '' FROM generate_series(1, 120) n",
            person.id,
        )
        page = await new_page()
        await open_dashboard(page, app.url, person)
        older = page.get_by_role("button", name="Show older")
        for shown in (50, 100, 120):
            await expect(inbox(page)).to_have_count(shown)
            if shown < 120:
                await older.click()
        await expect(older).to_be_hidden()
        await expect(inbox(page).last).to_have_text("n1")

    async def test_the_keyboard_keeps_its_place_when_one_is_read(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        await app.insert(person, "one")
        page = await new_page()
        await open_dashboard(page, app.url, person)
        await page.get_by_role("button", name="Mark “one” as read").press("Enter")
        await expect(badge(page)).to_be_hidden()
        await expect(page.locator("#inbox-title")).to_be_focused()


class TestReconnect:
    async def test_catches_up_after_its_socket_was_cut(
        self, app: Application, relay: TcpRelay, new_page: NewPage, watch: Watch
    ) -> None:
        watch.allow(CUT)
        person, admin = await app.new_person(), await app.new_person("admin")
        project = await app.new_project(person, "Kabar Pagi")
        page = await new_page()
        await open_dashboard(page, f"http://127.0.0.1:{relay.port}", person)
        await app.insert(person, "before")
        await expect(inbox(page)).to_have_text(["before"])
        await relay.cut()
        await expect(connection(page)).not_to_have_text("Live")
        await app.set_status(admin, project, "completed")
        for number in range(1, 6):
            await app.insert(person, f"n{number}")
        await expect(inbox(page)).to_have_text(["before"])
        await relay.start()
        await expect(connection(page)).to_have_text("Live")
        await expect(inbox(page)).to_have_count(7)
        assert (await inbox(page).all_text_contents())[:5] == ["n5", "n4", "n3", "n2", "n1"]
        await expect(card(page, "Kabar Pagi").locator(".badge")).to_have_text("Completed")
        await expect(badge(page)).to_have_text("7 unread")
        await app.insert(person, "after")
        await expect(inbox(page).first).to_have_text("after")
        await assert_never_reloaded(page)

    async def test_what_was_read_elsewhere_meanwhile_is_read_here_too(
        self, app: Application, relay: TcpRelay, new_page: NewPage, watch: Watch
    ) -> None:
        watch.allow(CUT)
        person = await app.new_person()
        for title in ("one", "two"):
            await app.insert(person, title)
        page, elsewhere = await new_page(), await new_page()
        await open_dashboard(page, f"http://127.0.0.1:{relay.port}", person)
        await open_dashboard(elsewhere, app.url, person)
        await relay.cut()
        await expect(connection(page)).not_to_have_text("Live")
        await elsewhere.get_by_role("button", name="Mark “one” as read").click()
        await expect(badge(elsewhere)).to_have_text("1 unread")
        await relay.start()
        await expect(page.locator(".notification.unread h3")).to_have_text(["two"])
        await expect(badge(page)).to_have_text("1 unread")

    async def test_network_of_the_browser_off_and_on(self, app: Application, new_page: NewPage, watch: Watch) -> None:
        watch.allow(CUT)
        person = await app.new_person()
        page = await new_page()
        await open_dashboard(page, app.url, person)
        await page.context.set_offline(True)
        await expect(connection(page)).not_to_have_text("Live")
        await app.insert(person, "missed")
        await page.context.set_offline(False)
        await expect(connection(page)).to_have_text("Live")
        await expect(inbox(page)).to_have_text(["missed"])
        await assert_never_reloaded(page)

    async def test_too_much_to_replay_is_read_anew(
        self, app: Application, relay: TcpRelay, new_page: NewPage, watch: Watch
    ) -> None:
        watch.allow(CUT)
        person = await app.new_person()
        page = await new_page()
        await open_dashboard(page, f"http://127.0.0.1:{relay.port}", person)
        await relay.cut()
        await expect(connection(page)).not_to_have_text("Live")
        await app.execute(
            "INSERT INTO real_time_notifications (id, user_id, type, title, message)"
            " SELECT gen_random_uuid()::text, $1, 'project_update', 'n' || n, '' FROM generate_series(1, 700) n",
            person.id,
        )
        await relay.start()
        await expect(badge(page)).to_have_text("700 unread")
        await expect(inbox(page).first).to_have_text("n700")
        await app.insert(person, "after")
        await expect(inbox(page).first).to_have_text("after")
        await expect(inbox(page).nth(1)).to_have_text("n700")
        await assert_never_reloaded(page)

    async def test_a_session_that_has_ended_leads_to_the_log_in(
        self, app: Application, relay: TcpRelay, new_page: NewPage, watch: Watch
    ) -> None:
        watch.allow(f"{CUT}|401")
        person = await app.new_person()
        page = await new_page()
        await open_dashboard(page, f"http://127.0.0.1:{relay.port}", person)
        await page.context.clear_cookies()
        await relay.cut()
        await expect(connection(page)).not_to_have_text("Live")
        await relay.start()
        await expect(page).to_have_url(re.compile(r"/login\?next=%2Fclient%2Fdashboard$"))


class TestAdmin:
    async def test_a_status_is_changed_in_one_window_and_seen_in_three(
        self, app: Application, new_page: NewPage
    ) -> None:
        client, admin = await app.new_person(name="Dewi"), await app.new_person("admin", name="Sari")
        await app.new_project(client, "Koperasi Maju")
        client_page, admin_page = await new_page(), await new_page()
        await open_dashboard(client_page, app.url, client)
        await open_dashboard(admin_page, app.url, admin)
        other_admin_page = await new_page(context=admin_page.context)
        await other_admin_page.goto(f"{app.url}/client/dashboard")
        await expect(connection(other_admin_page)).to_have_text("Live")
        await admin_page.get_by_label("Status of Koperasi Maju").select_option("Completed")
        await expect(card(client_page, "Koperasi Maju").locator(".badge")).to_have_text("Completed")
        for page in (admin_page, other_admin_page):
            shown = (
                page.get_by_role("region", name="All projects").get_by_role("listitem").filter(has_text="Koperasi Maju")
            )
            await expect(shown.locator(".badge")).to_have_text("Completed")
            await expect(page.get_by_label("Status of Koperasi Maju")).to_have_value("completed")
        await assert_never_reloaded(admin_page)

    async def test_a_client_sees_no_way_to_change(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person()
        await app.new_project(person, "Koperasi Jaya")
        page = await new_page()
        await open_dashboard(page, app.url, person)
        await expect(card(page, "Koperasi Jaya")).to_be_visible()
        await expect(page.get_by_role("combobox")).to_have_count(0)


class TestLook:
    @pytest.mark.parametrize("path", ["/login", "/client/dashboard"])
    async def test_pages_are_under_a_strict_policy(self, app: Application, new_page: NewPage, path: str) -> None:
        page = await new_page()
        await open_dashboard(page, app.url, await app.new_person())
        if path == "/login":
            await page.context.clear_cookies()
        answer = await page.goto(f"{app.url}{path}")
        assert answer is not None
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy

    @pytest.mark.parametrize("width", [320, 390, 768, 1280])
    async def test_nothing_sticks_out_at_any_width(self, app: Application, new_page: NewPage, width: int) -> None:
        person = await app.new_person(name="Raden Mas Suryadi Kusumanegara van der Long-Name")
        await app.new_project(person, "Perkumpulan" * 8, status="pending_payment")
        await app.insert(person, "W" * 200, message="https://example.org/" + "x" * 300)
        page = await new_page(viewport={"width": width, "height": 800})
        await open_dashboard(page, app.url, person)
        await expect(inbox(page)).to_have_count(1)
        await until_loaded(page)
        assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")

    async def test_every_control_has_a_name_and_every_part_a_place(self, app: Application, new_page: NewPage) -> None:
        person = await app.new_person("admin")
        await app.new_project(person, "Named")
        await app.insert(person, "one")
        page = await new_page(viewport={"width": 390, "height": 844})
        await open_dashboard(page, app.url, person)
        await expect(inbox(page)).to_have_count(1)
        await until_loaded(page)
        for role in ("banner", "main"):
            await expect(page.get_by_role(role)).to_have_count(1)
        for role in ("button", "link", "combobox"):
            controls = await page.get_by_role(role).all()  # type: ignore[arg-type]
            assert controls
            for control in controls:
                await expect(control).to_have_accessible_name(re.compile(r"\w"))
        assert await page.evaluate("document.documentElement.lang") == "en"

    async def test_picture_for_the_readme(self, app: Application, new_page: NewPage, tmp_path: Path) -> None:
        """Goes into the project's documents only where WRITE_SCREENSHOTS is set."""
        person, admin = await app.new_person(), await app.new_person("admin", name="Sari")
        sea = await app.new_project(person, "PT Sinar Laut Nusantara", kind="company")
        coffee = await app.new_project(person, "Toko Kopi Arjuna", kind="company", status="completed")
        news = await app.new_project(person, "Kabar Pagi", kind="berita", status="pending_payment")
        await app.new_invoice(coffee, amount=4_200_000, status="paid", paid=datetime.now(UTC))
        await app.new_invoice(sea, amount=2_750_000)
        invoice = await app.new_invoice(news, amount=5_000_000)
        page = await new_page(viewport={"width": 1280, "height": 990}, device_scale_factor=1.5)
        await app.insert(
            person, "Welcome", kind="system_announcement", message="Everything about your projects arrives here."
        )
        await open_dashboard(page, app.url, person)
        await page.get_by_role("button", name="Mark all as read").click()
        await expect(badge(page)).to_be_hidden()
        await app.write(admin, person, "Your logo", "Could you send us the logo as SVG?")
        await app.set_status(admin, sea, "review")
        await app.report_payment(invoice, amount=5_000_000)
        await expect(inbox(page)).to_have_count(5)
        await expect(page.locator(".toast")).to_have_count(1)
        await expect(page.locator(".status-paid")).to_have_count(2)
        await page.mouse.move(0, 0)
        await page.evaluate("Promise.allSettled(document.getAnimations().map((animation) => animation.finished))")
        picture = PICTURE if os.environ.get("WRITE_SCREENSHOTS") else tmp_path / PICTURE.name
        picture.parent.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=picture)
