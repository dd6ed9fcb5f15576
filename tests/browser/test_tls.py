"""The dashboard over https, with TLS of the server's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.application import application
from tests.browser.conftest import NewPage
from tests.browser.dashboard import inbox, open_dashboard
from tests.support.certificates import CertificateFiles

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_dashboard_is_live_over_wss_and_its_cookies_are_secure(tmp_path: Path, new_page: NewPage) -> None:
    (tmp_path / "tls").mkdir()
    files = CertificateFiles(tmp_path / "tls")
    async with application(tmp_path, TLS_CERT=str(files.cert), TLS_KEY=str(files.key)) as app:
        assert app.url.startswith("https:")
        person = await app.new_person()
        page = await new_page(ignore_https_errors=True)
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        await open_dashboard(page, app.url, person)
        assert [url.partition("?")[0] for url in sockets] == [f"{app.url.replace('https', 'wss')}/ws"]
        await app.insert(person, "Over TLS")
        await expect(inbox(page)).to_have_text(["Over TLS"])
        assert {cookie["name"]: cookie["secure"] for cookie in await page.context.cookies()} == {
            "auth_token": True,
            "csrftoken": True,
        }
        # Before its server goes, of which it would complain.
        await page.context.close()
