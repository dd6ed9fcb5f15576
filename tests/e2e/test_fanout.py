"""The samples of docs/fanout.md: taken from the page, run as they stand, used as a reader would."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.support.pages import sample
from tests.support.program import Program, python
from tests.support.sockets import closed, frame
from tests.support.tokens import SECRET, connection_token

PAGE = "docs/fanout.md"


@asynccontextmanager
async def running(folder: Path, name: str) -> AsyncIterator[tuple[Program, str, str]]:
    """The sample, the URL of its sockets, and what else it says in its first line."""
    (folder / name).write_text(sample(PAGE, name))
    environ = {**os.environ, "PORT": "0", "TOKEN_SECRET": SECRET}
    async with python(folder, environ, name) as program:
        found = await program.line(r"listening on \('127.0.0.1', (\d+)\)(.*)")
        yield program, f"ws://127.0.0.1:{found[1]}/ws", found[2]


@asynccontextmanager
async def opened(url: str, token: str) -> AsyncIterator[ClientConnection]:
    """A socket whose welcome was read."""
    async with connect(url, subprotocols=[Subprotocol("jasaweb.v1"), Subprotocol(f"bearer.{token}")]) as socket:
        assert (await frame(socket))["type"] == "system_announcement"
        yield socket


async def test_scores(tmp_path: Path) -> None:
    async with running(tmp_path, "scores.py") as (program, url, rest):
        async with opened(url, rest.removeprefix(" with ")) as socket:
            goals = [(await frame(socket))["data"]["goals"] for _ in range(3)]
            assert goals == [goals[0], goals[0] + 1, goals[0] + 2]
            program.send_signal(signal.SIGINT)
            assert (await closed(socket))[0] == 1001
        await program.end()


async def test_a_firehose_skips_what_is_too_much(tmp_path: Path) -> None:
    async with running(tmp_path, "firehose.py") as (program, _, _):
        found = await program.line(r"sent (\d+), skipped (\d+)")
        assert int(found[1]) + int(found[2]) == 200
        assert await program.end() == 0


async def test_presence(tmp_path: Path) -> None:
    async with running(tmp_path, "presence.py") as (program, url, _), opened(url, connection_token("anna")) as anna:
        assert await frame(anna) == {"type": "came", "data": {"name": "Anna"}}
        async with opened(url, connection_token("budi")) as budi:
            for socket in (anna, budi):
                assert await frame(socket) == {"type": "came", "data": {"name": "Budi"}}
            await budi.send('{"type":"echo"}')
            assert await frame(budi) == {"type": "echo"}
        assert await frame(anna) == {"type": "went", "data": {"name": "budi", "code": 1000}}
        program.send_signal(signal.SIGINT)
        assert (await closed(anna))[0] == 1001
        await program.end()
