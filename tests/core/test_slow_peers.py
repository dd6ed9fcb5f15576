"""Peers that are slow on purpose, in every phase of a connection: they are cut, and nobody else notices."""

import asyncio
import json
import os
from contextlib import AsyncExitStack

import pytest
from benches.messages import TOKEN_SECRET
from benches.programs import Program
from benches.slow_peers import PHASES, command
from websockets.asyncio.client import connect

from jasaweb_rt._core import FanoutServer
from tests.support.sockets import frame, socket_url
from tests.support.tokens import connection_token

_EACH = 200
_HONEST = 20
_ROUNDS = 30
# Longer than the longest time-out, that of a message, and what comes behind it, on a machine that is slow itself.
_CUT_SECONDS = 150


@pytest.mark.timeout(300)
async def test_slow_peers_of_every_phase_are_cut_and_honest_ones_get_everything() -> None:
    # The least message that may be configured, for its time-out is the shortest then.
    server = FanoutServer(
        token_secret=TOKEN_SECRET,
        connect_rate_per_ip=0,
        max_connections_per_ip=0,
        max_message_bytes=125,
        ping_interval=5.0,
        pong_timeout=5.0,
    )
    server.start()
    counts = dict.fromkeys(PHASES, _EACH)
    try:
        async with AsyncExitStack() as stack:
            program = await asyncio.to_thread(
                Program, command(server.address, counts, pause=0.5), os.sched_getaffinity(0)
            )
            stack.push_async_callback(asyncio.to_thread, program.__exit__, None, None, None)
            honest = []
            for number in range(_HONEST):
                token = connection_token(f"honest-{number}", secret=TOKEN_SECRET)
                socket = await stack.enter_async_context(connect(socket_url(server, f"?token={token}")))
                await frame(socket)  # the welcome
                honest.append(socket)
            for number in range(_ROUNDS):
                server.broadcast_to_all(f'{{"number":{number}}}')
                for socket in honest:
                    assert await frame(socket) == {"number": number}
            async with asyncio.timeout(_CUT_SECONDS):
                while server.stats().connections > _HONEST or server.stats().http_connections > 0:
                    await asyncio.sleep(0.1)
                while await asyncio.to_thread(_ended, program) != counts:
                    await asyncio.sleep(0.1)
            server.broadcast_to_all('{"number":-1}')
            for socket in honest:
                assert await frame(socket) == {"number": -1}
            drops = server.stats().drops
            # A peer whose message dragged on was cut for that, or for the ping that it did not answer.
            assert drops.client_slow <= 2 * _EACH
            assert server.stats().panics == 0
    finally:
        await asyncio.to_thread(server.stop, 0)


def _ended(program: Program) -> dict[str, int]:
    program.tell("ended")
    return dict(json.loads(program.answer("ended")))
