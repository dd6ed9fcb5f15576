"""Two servers on one port: only where the second says so, and then nobody is turned away while the first ends."""

import asyncio
import errno
import sys
from pathlib import Path

import pytest

from jasaweb_rt._core import FanoutServer
from tests.core.conftest import StartServer
from tests.support.ports import free_port
from tests.support.sockets import closed, opened, opened_many, until
from tests.support.tokens import SECRET

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shares a port so")


def listeners(port: int) -> int:
    """Sockets that listen on a port (proc(5): state `0A`)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


async def test_newcomers_go_to_the_successor_and_sockets_stay_until_they_are_closed(start_server: StartServer) -> None:
    port = free_port()
    first = start_server(port=port)
    assert not first.leave_port_to_successor()
    async with opened(first, "early") as early:
        second = start_server(port=port, take_over=True)
        assert first.leave_port_to_successor()
        await until(lambda: listeners(port) == 1, "the end of the first one's port")
        async with opened_many(second, *((f"user-{number}", "client") for number in range(30))):
            assert (first.stats().connections, second.stats().connections) == (1, 30)
            assert first.broadcast_to_user("early", "{}") == 1
            assert await early.recv() == "{}"
            await asyncio.to_thread(first.stop, 5)
            assert (await closed(early))[0] == 1001
            assert second.stats().connections == 30


def test_nobody_shares_a_port_by_accident(start_server: StartServer) -> None:
    port = free_port()
    start_server(port=port)
    start_server(port=port, take_over=True)
    with pytest.raises(OSError, match="cannot listen") as raised:
        start_server(port=port)
    assert raised.value.errno == errno.EADDRINUSE


def test_a_successor_of_nobody_just_starts(start_server: StartServer) -> None:
    server = start_server(port=free_port(), take_over=True)
    assert not server.leave_port_to_successor()


def test_a_port_of_the_systems_choice_cannot_be_taken_over() -> None:
    with pytest.raises(ValueError, match="take_over: needs a port, and not 0"):
        FanoutServer(token_secret=SECRET, take_over=True)
