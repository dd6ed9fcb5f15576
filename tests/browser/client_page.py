"""The browser client in a page, as a test drives it, and the messages that a server sends it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.async_api import Page

LOG_IN = """(body) => fetch("/api/auth/login",
    { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) })"""
"""Logs in from the page; takes `{email, password}`."""
START = """(options) => {
  window.seen = [];
  window.states = [];
  window.client = new RealtimeClient(options);
  client.on("*", (message) => seen.push(message));
  client.on("state", (snapshot) => states.push(snapshot.state));
  client.connect();
}"""
RECORD_TIMERS = """() => {
  const original = window.setTimeout;
  window.delays = [];
  window.setTimeout = (callback, delay, ...rest) => { delays.push(delay); return original(callback, delay, ...rest); };
}"""


async def stop_clock(page: Page) -> None:
    """From now on the page's timers run, and its `Date` moves, by `page.clock.run_for` alone, however slow the test."""
    await page.clock.install()
    await page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))


class Client:
    """The client in the page, as a test drives it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def start(self, **options: object) -> None:
        await self.page.evaluate(START, options)

    async def call(self, expression: str, argument: object = None) -> Any:
        return await self.page.evaluate(expression, argument)

    async def seqs(self) -> list[int]:
        """The durable messages that were told, in the order they were told."""
        seqs: list[int] = await self.page.evaluate("seen.filter((m) => m.seq !== undefined).map((m) => m.seq)")
        return seqs

    async def until(self, condition: str) -> None:
        await self.page.wait_for_function(f"() => {condition}")

    async def until_state(self, state: str) -> dict[str, Any]:
        await self.until(f"client.getSnapshot().state === {json.dumps(state)}")
        snapshot: dict[str, Any] = await self.page.evaluate("client.getSnapshot()")
        return snapshot

    async def until_seq(self, seq: int) -> None:
        await self.until(f"seen.some((m) => m.seq === {seq})")
