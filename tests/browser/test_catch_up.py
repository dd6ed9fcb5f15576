"""The browser client, away for thousands of notifications, against the whole program."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.application import PASSWORD, Application, Person
from tests.browser.client_page import LOG_IN
from tests.browser.conftest import NewPage, Watch
from tests.support.tcp_relay import TcpRelay

pytestmark = pytest.mark.asyncio(loop_scope="session")

MANY = 10_000
FLOOD = 700
"""More than a client holds back."""
WAIT_MS = 60_000
LISTEN = """async ({ options, last }) => {
  const { RealtimeClient } = await import("/static/realtime.js");
  window.client = new RealtimeClient({ ...options, storage: sessionStorage });
  window.seqs = [];
  window.untrue = [];
  client.on("*", ({ seq, data }) => {
    if (seq === undefined) return;
    seqs.push(seq);
    if (data.title !== String(seq)) untrue.push(seq);
    if (seq >= last) client.close();
  });
  client.connect();
}"""


async def store(app: Application, person: Person, count: int) -> None:
    """Stores notifications for one who gets no others; the title of each is its `seq`."""
    await app.execute(
        """
        INSERT INTO real_time_notifications (id, user_id, type, title, message)
        SELECT gen_random_uuid(), $1, 'user_message', coalesce(head_seq, 0) + i, ''
        FROM (SELECT) AS one LEFT JOIN jasaweb_rt.counters ON user_id = $1, generate_series(1, $2::int) AS i ORDER BY i
        """,
        person.id,
        count,
    )


async def test_ten_thousand_come_in_order_while_more_are_stored_and_the_network_fails(
    app: Application, relay: TcpRelay, new_page: NewPage, watch: Watch
) -> None:
    watch.allow(r"net::ERR_|WebSocket|favicon\.ico")
    person = await app.new_person()
    await store(app, person, MANY)
    await app.execute("DELETE FROM real_time_notifications WHERE user_id = $1 AND title::int % 97 = 0", person.id)
    epoch = await app.value("SELECT epoch FROM jasaweb_rt.epoch")
    page = await new_page()
    await page.add_init_script("Math.random = () => 0")
    url = f"http://127.0.0.1:{relay.port}/healthz"  # a page that has no client of its own
    told: list[int] = []

    async def listen(last: int, **options: Any) -> None:
        await page.evaluate(LISTEN, {"options": options, "last": last})

    async def until_seq(seq: int) -> None:
        await page.wait_for_function(f"() => seqs.at(-1) >= {seq}", timeout=WAIT_MS)

    await page.goto(url)
    await page.evaluate(LOG_IN, {"email": person.email, "password": PASSWORD})
    await listen(6_000, lastSeq=0, epoch=epoch)
    await until_seq(1_000)
    await store(app, person, FLOOD)
    await until_seq(3_000)
    await relay.cut()
    await store(app, person, 10)
    await relay.start()
    await until_seq(6_000)
    told += await page.evaluate("seqs")
    assert await page.evaluate("untrue") == []
    # A page that is loaded anew goes on where the last one was.
    await page.goto(url)
    last = MANY + 2 * FLOOD + 10
    await listen(last)
    await until_seq(8_000)
    await store(app, person, FLOOD)
    await until_seq(last)
    told += await page.evaluate("seqs")
    assert await page.evaluate("untrue") == []
    assert told == [seq for seq in range(1, last + 1) if seq % 97 or seq > MANY]
    assert await page.evaluate("client.getSnapshot().unread") == len(told)
