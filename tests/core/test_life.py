"""The life of a server within its process: ends without a stop, forks, stops that come early."""

import subprocess
import sys
import threading

import pytest

from jasaweb_rt._core import FanoutServer, ServerStoppedError
from tests.support.sockets import closed, opened, until
from tests.support.tokens import SECRET

PREAMBLE = f"""
import os, sys, threading, time
from jasaweb_rt._core import FanoutServer, ServerStoppedError
server = FanoutServer(token_secret={SECRET!r})
server.on_message(print)
server.start()
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PREAMBLE + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("script", ["", "del server", "import threading; keep = [server]; sys.exit(0)"])
def test_a_process_ends_without_a_stop(script: str) -> None:
    ended = run(script)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_fork_leaves_the_server_to_its_parent() -> None:
    ended = run("""
child = os.fork()
if not child:
    try:
        server.broadcast_to_all("{}")
    except ServerStoppedError:
        server.stop(0)
        os._exit(7)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), server.broadcast_to_all("{}"))
server.stop(0)
""")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "7 0\n", "")


def test_a_server_that_was_made_before_a_fork_does_not_start_in_it() -> None:
    ended = run("""
made = FanoutServer(token_secret="x" * 32)
child = os.fork()
if not child:
    try:
        made.start()
    except ServerStoppedError as error:
        os._exit(7 if f"process {os.getppid()}" in str(error) else 1)
    os._exit(2)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
made.start()
made.stop(0)
server.stop(0)
""")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "7\n", "")


def test_forks_of_a_process_that_had_a_server_are_nodes_of_their_own() -> None:
    ended = run("""
reader, writer = os.pipe()
for _ in range(2):
    child = os.fork()
    if not child:
        os.write(writer, FanoutServer(token_secret="x" * 32).node_id.encode())
        os._exit(0)
    os.waitpid(child, 0)
first, second = os.read(reader, 16), os.read(reader, 16)
print(len(first), len(second), first != second)
server.stop(0)
""")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "16 16 True\n", "")


async def test_a_callback_may_stop_the_server(server: FanoutServer) -> None:
    ended = threading.Event()

    def callback(_: list[tuple[str, str, str, bytes]]) -> None:
        server.stop(0)
        ended.set()

    server.on_message(callback)
    async with opened(server, "user-1") as socket:
        await socket.send("stop")
        assert (await closed(socket))[0] == 1001
        await until(ended.is_set)


def test_a_server_that_was_stopped_does_not_start() -> None:
    server = FanoutServer(token_secret=SECRET)
    server.stop(0)
    with pytest.raises(ServerStoppedError):
        server.start()
