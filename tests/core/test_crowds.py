"""A crowd that connects and says nothing takes most descriptors, and whoever has something to say is served."""

import asyncio
import http.client
import os
from contextlib import AsyncExitStack

import pytest
from benches.messages import requests
from benches.programs import Program, fan_out
from benches.slow_peers import command

from jasaweb_rt._core import LoadClient
from tests.support.sockets import WAIT_SECONDS

# Of these, a quarter is kept; each of the two crowds fits into a usual limit of its own.
_OPEN_FILES = 1024
_EACH_CROWD = 450
_HONEST = 20


def _status(address: tuple[str, int]) -> int:
    client = http.client.HTTPConnection(*address, timeout=WAIT_SECONDS)
    try:
        client.request("GET", "/")
        return client.getresponse().status
    finally:
        client.close()


@pytest.mark.timeout(120)
async def test_who_says_nothing_gives_way_to_who_does() -> None:
    cores = os.sched_getaffinity(0)
    limited = ("prlimit", f"--nofile={_OPEN_FILES}:{_OPEN_FILES}", "--", *fan_out())
    async with AsyncExitStack() as stack:

        async def started(*program: str) -> Program:
            running = await asyncio.to_thread(Program, program, cores)
            stack.push_async_callback(asyncio.to_thread, running.__exit__, None, None, None)
            return running

        server = await started(*limited)
        for _ in range(2):
            await started(*command(server.address, {"silent": _EACH_CROWD}, pause=60.0, again=True))
        async with asyncio.timeout(WAIT_SECONDS):
            while not (stats := await asyncio.to_thread(server.stats))["http_refused"]:
                assert await asyncio.to_thread(_status, server.address) == 404
        assert stats["connections_turned_away"] == 0
        client = LoadClient()
        try:
            users = requests(f"user-{number}" for number in range(_HONEST))
            opened, _ = await asyncio.to_thread(client.connect, server.address, users, wait=WAIT_SECONDS)
            assert opened == _HONEST
        finally:
            client.stop()
