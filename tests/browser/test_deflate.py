"""permessage-deflate between a real browser and the core: no page has to do anything for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from jasaweb_rt._core import ClientFrame, FanoutServer
from tests.browser.conftest import NewPage
from tests.support.sockets import WAIT_SECONDS, socket_url, until
from tests.support.tokens import SECRET, connection_token

pytestmark = pytest.mark.asyncio(loop_scope="session")

LARGE = json.dumps({"type": "notification", "data": [{"id": n, "message": "the same again, ä"} for n in range(900)]})

# Sends back what comes behind the welcome, and gives what was agreed on.
ECHO = """(url) => new Promise((resolve, reject) => {
  const socket = new WebSocket(url);
  let welcomed = false;
  socket.onerror = socket.onclose = reject;
  socket.onmessage = ({ data }) => {
    if (welcomed) {
      socket.send(data);
      resolve(socket.extensions);
    }
    welcomed = true;
  };
})"""


@pytest.fixture
def server() -> Iterator[FanoutServer]:
    """A server that any page may ask."""
    server = FanoutServer(token_secret=SECRET, allowed_origins=["*"])
    server.fileno()
    server.start()
    yield server
    server.stop(0)


async def test_a_large_frame_comes_and_goes_compressed(server: FanoutServer, new_page: NewPage) -> None:
    page = await new_page()
    url = socket_url(server, f"?token={connection_token('anna', 'client')}")
    answer = asyncio.ensure_future(page.evaluate(ECHO, url))
    await until(lambda: server.stats().connections == 1, "the page's socket")
    before = server.stats()
    server.broadcast_to_user("anna", LARGE)
    async with asyncio.timeout(WAIT_SECONDS):
        agreed = await answer
    assert agreed == "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    after = server.stats()
    assert after.compressions == before.compressions + 1
    assert after.bytes_written - before.bytes_written < len(LARGE) / 4
    found: list[bytes] = []

    def has_come() -> bool:
        found.extend(event.frame for event in server.drain_events() if isinstance(event, ClientFrame))
        return bool(found)

    await until(has_come, "what the page sent back")
    assert [json.loads(text) for text in found] == [json.loads(LARGE)]
