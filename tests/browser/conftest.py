"""A real Chromium, and pages that are watched: a console error or a policy violation fails the test that caused it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, async_playwright, expect

from tests.browser import npm_modules
from tests.browser.accessibility import Axe
from tests.browser.application import Application, application
from tests.browser.client_page import RECORD_TIMERS, Client, stop_clock
from tests.support.scripted_server import STATIC, ScriptedServer, scripted_server
from tests.support.tcp_relay import TcpRelay, tcp_relay

CHROMIUM_FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 20_000
"""How long a page may take for anything that a test waits for."""
PATIENCE = """{
  // Never long between two attempts to connect, however long a test has kept the server away.
  Math.random = () => 0.02;
  // Toasts stay, as under a pointer: a test may be late to look at them.
  const hold = (node) => node.classList?.contains("toast") && node.dispatchEvent(new Event("pointerenter"));
  new MutationObserver((changes) => changes.forEach(({ addedNodes }) => addedNodes.forEach(hold))).observe(document,
      { childList: true, subtree: true });
}"""
REPORT_VIOLATIONS = """addEventListener("securitypolicyviolation",
    (event) => console.error("Content-Security-Policy: " + event.violatedDirective + " " + event.blockedURI))"""

NewPage = Callable[..., Awaitable[Page]]

expect.set_options(timeout=WAIT_MS)


class Watch:
    """What the pages of a test complained about."""

    def __init__(self) -> None:
        self._complaints: list[str] = []
        self._allowed: list[re.Pattern[str]] = []

    def allow(self, pattern: str) -> None:
        """Complaints that the test provokes, such as the browser's own about a network that was cut."""
        self._allowed.append(re.compile(pattern))

    def follow(self, page: Page) -> None:
        page.on("console", self._on_console)
        page.on("pageerror", self._on_error)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def _on_error(self, error: Error) -> None:
        self._complaints.append(f"{error.name}: {error.message}")

    @property
    def complaints(self) -> list[str]:
        return [text for text in self._complaints if not any(pattern.search(text) for pattern in self._allowed)]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The system's Chromium. Missing: an error where CI is set, else the tests are skipped."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        missing = "chromium is not installed; on Debian: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    # Chromium refuses its own sandbox to root.
    flags = [*CHROMIUM_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=executable, args=flags)
        yield chromium
        await chromium.close()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest_asyncio.fixture(loop_scope="session")
async def new_page(browser: Browser, watch: Watch) -> AsyncIterator[NewPage]:
    """Opens pages, each in a context of its own unless `context` is given; other options are the new context's."""
    contexts: list[BrowserContext] = []

    async def open_page(*, context: BrowserContext | None = None, **options: Any) -> Page:
        if context is None:
            context = await browser.new_context(**{"locale": "en-GB", **options})
            context.set_default_timeout(WAIT_MS)
            await context.add_init_script(REPORT_VIOLATIONS)
            await context.add_init_script(PATIENCE)
            contexts.append(context)
        page = await context.new_page()
        watch.follow(page)
        return page

    yield open_page
    # Before the end: a page that closes in the middle of something may complain of that.
    complaints = watch.complaints
    await asyncio.gather(*(context.close() for context in contexts))
    assert complaints == []


@pytest.fixture(scope="session")
def npm_module() -> Callable[[str], Path]:
    """Gives the folder of a package that npm installed for these tests; skips, or fails in CI, where it is missing."""
    return npm_modules.npm_module


@pytest.fixture(scope="session")
def bundles(npm_module: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of what `npm/bundle.mjs` makes, once for all tests."""
    for name in ("esbuild", "react", "react-dom"):
        npm_module(name)
    folder = tmp_path_factory.mktemp("bundles")
    npm_modules.run_script("bundle.mjs", folder, STATIC)
    return folder


@pytest.fixture(scope="session")
def axe(npm_module: Callable[[str], Path]) -> Axe:
    """What asserts of a page, awaited with it, that it keeps the rules of accessibility."""
    return Axe((npm_module("axe-core") / "axe.min.js").read_text())


@pytest_asyncio.fixture(loop_scope="session")
async def scripted() -> AsyncIterator[ScriptedServer]:
    """A server that does what the test says."""
    async with scripted_server() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def client(scripted: ScriptedServer, new_page: NewPage) -> Client:
    """A page that has the client loaded, with no wait between attempts."""
    page = await new_page()
    await page.add_init_script("Math.random = () => 0")
    await page.goto(scripted.base_url)
    await page.wait_for_function("window.RealtimeClient !== undefined")
    return Client(page)


@pytest_asyncio.fixture(loop_scope="session")
async def timed(scripted: ScriptedServer, new_page: NewPage) -> Client:
    """A page whose clock the test moves and whose jitter is the greatest."""
    page = await new_page()
    await page.add_init_script("Math.random = () => 1")
    await page.goto(scripted.base_url)
    await page.wait_for_function("window.RealtimeClient !== undefined")
    await stop_clock(page)
    await page.evaluate(RECORD_TIMERS)
    return Client(page)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Application]:
    """The program, started once for all tests; each of them makes its own people."""
    async with application(tmp_path_factory.mktemp("application")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def relay(app: Application) -> AsyncIterator[TcpRelay]:
    """A way to the program that can be cut."""
    async with tcp_relay("127.0.0.1", app.port) as running:
        yield running
