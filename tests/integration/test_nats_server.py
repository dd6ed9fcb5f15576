"""The NATS servers of the tests are what the tests take them for."""

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support import nats_server as nats
from tests.support.nats_server import NatsCluster, NatsServer, nats_cluster

ROOT = Path(__file__).parent.parent.parent
SECONDS = 40


class Client:
    """As much of the protocol of NATS as these tests speak."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.info: dict[str, Any] = {}

    async def connect(self, user: str = "", **options: str) -> None:
        """Says who it is, with the TLS that the server asks for. PermissionError: not let in."""
        self.info = json.loads((await self.line()).removeprefix("INFO "))
        if self.info.get("tls_required"):
            context = ssl.create_default_context(cafile=nats.CA)
            await self._writer.start_tls(context, server_hostname="127.0.0.1")
        name, _, password = user.partition(":")
        who = {"user": name, "pass": password} if password else {"auth_token": name} if name else {}
        self.say(f"CONNECT {json.dumps({'verbose': False, 'lang': 'test', **who, **options})}")
        await self.fence()

    def say(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())

    async def line(self) -> str:
        """The next line that is not the server's own question or news. PermissionError: an error."""
        async with asyncio.timeout(SECONDS):
            while True:
                said = (await self._reader.readline()).decode().removesuffix("\r\n")
                if not said:
                    raise ConnectionResetError
                if said.startswith("-ERR"):
                    raise PermissionError(said)
                if said == "PING":
                    self.say("PONG")
                elif not self.info or not said.startswith("INFO "):
                    return said

    async def fence(self) -> None:
        """Returns once the server has done all that was said."""
        self.say("PING")
        assert await self.line() == "PONG"

    async def message(self) -> tuple[str, str]:
        """Subject and content of the next message."""
        words = (await self.line()).split()
        assert words[0] == "MSG", words
        return words[1], await self.line()


@asynccontextmanager
async def client(url: str, user: str = "", **options: str) -> AsyncIterator[Client]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        client = Client(reader, writer)
        await client.connect(user, **options)
        yield client
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def heard(cluster: NatsCluster, publisher: int, subject: str) -> None:
    """Returns once a server knows of a subscription to `subject` at another one."""
    async with asyncio.timeout(SECONDS):
        while True:
            routes = (await cluster[publisher].monitoring("/routez?subs=1"))["routes"]
            if any(subject in route.get("subscriptions_list", ()) for route in routes):
                return
            await asyncio.sleep(0.01)


async def test_one_server_from_start_to_stop(tmp_path: Path) -> None:
    async with nats.nats_server(tmp_path) as server:
        async with client(server.url) as one:
            assert one.info["server_name"] == "nats"
            one.say("SUB a.* 1", "PUB a.b 5", "hello")
            assert await one.message() == ("a.b", "hello")
        port, pid = server.port, server.pid
        await server.stop()
        assert not server.running
        await server.restart()
        assert (server.port, server.running) == (port, True)
        assert server.pid != pid
        server.kill()
        with pytest.raises(OSError, match=str(port)):
            await asyncio.open_connection(server.host, server.port)
    assert "Server is ready" in server.log


async def test_what_one_server_is_told_comes_from_the_others(tmp_path: Path) -> None:
    async with nats_cluster(tmp_path) as cluster:
        assert [server.name for server in cluster] == ["nats-0", "nats-1", "nats-2"]
        for server in cluster:
            assert await server.neighbours() == {other.name for other in cluster} - {server.name}
        async with client(cluster.urls[0]) as near, client(cluster.urls[2]) as far:
            assert "connect_urls" not in near.info  # or a client would pass by the relay that a test puts before it
            far.say("SUB a 1")
            await far.fence()
            await heard(cluster, 0, "a")
            near.say("PUB a 2", "hi")
            assert await far.message() == ("a", "hi")


async def test_a_server_of_a_cluster_dies_and_comes_back(tmp_path: Path) -> None:
    async with nats_cluster(tmp_path) as cluster:
        cluster[1].kill()
        await cluster.wait_ready()
        await cluster[1].restart()
        await cluster.wait_ready()
        assert await cluster[1].neighbours() == {"nats-0", "nats-2"}


async def test_a_paused_server_is_silent_until_it_goes_on(tmp_path: Path) -> None:
    async with nats.nats_server(tmp_path) as server, client(server.url) as one:
        server.pause()
        state = Path(f"/proc/{server.pid}/stat")
        async with asyncio.timeout(SECONDS):
            while state.read_text().rpartition(")")[2].split()[0] != "T":
                await asyncio.sleep(0.005)
        one.say("PING")
        server.resume()
        assert await one.line() == "PONG"
        server.pause()
        await server.stop()  # frozen as it is
        assert not server.running


async def test_a_server_with_a_certificate(tmp_path: Path) -> None:
    async with nats.nats_server(tmp_path, tls=True) as server:
        assert server.url.startswith("tls://")
        async with client(server.url) as one:
            assert one.info["tls_required"]


@pytest.mark.parametrize(
    ("configuration", "user"), [(nats.PASSWORD, nats.PASSWORD_USER), (nats.TOKEN, nats.TOKEN_USER)]
)
async def test_a_server_that_lets_in_one_user(tmp_path: Path, configuration: str, user: str) -> None:
    async with nats.nats_server(tmp_path, configuration=configuration) as server:
        assert server.url_of(user) == f"nats://{user}@127.0.0.1:{server.port}"
        async with client(server.url, user):
            pass
        with pytest.raises(PermissionError, match="Authorization Violation"):
            async with client(server.url, "somebody:else"):
                pass


@pytest.mark.parametrize("configuration", [nats.OPERATOR, nats.NKEY_ONLY])
async def test_a_server_that_lets_in_who_can_sign(tmp_path: Path, configuration: str) -> None:
    async with nats.nats_server(tmp_path, configuration=configuration) as server:
        with pytest.raises(PermissionError, match="Authorization Violation"):
            async with client(server.url) as one:
                pytest.fail(f"let in without a signature: {one.info}")


async def test_other_permissions_while_it_runs(tmp_path: Path) -> None:
    async with nats.nats_server(tmp_path, configuration=nats.permissions()) as server:
        async with client(server.url, nats.PASSWORD_USER) as one:
            one.say("SUB a 1")
            await one.fence()
        await server.reload(nats.permissions(publish=["a"], subscribe=["b"]))
        async with client(server.url, nats.PASSWORD_USER) as one:
            one.say("SUB b 1", "PUB a 0", "")
            await one.fence()
            one.say("SUB a 1")
            with pytest.raises(PermissionError, match="Permissions Violation for Subscription"):
                await one.fence()
        with pytest.raises(AssertionError, match="Failed to reload"):
            await server.reload("no_such_setting: 1")


async def test_it_dies_with_the_tests_that_are_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.nats_owner", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(await asyncio.to_thread(owner.stdout.readline))
        assert "nats-server" in Path(f"/proc/{pid}/cmdline").read_text()
        owner.kill()
    async with asyncio.timeout(SECONDS):
        while "nats-server" in command_line(pid):
            await asyncio.sleep(0.01)


def command_line(pid: int) -> str:
    """How the process was called; empty where there is none, or only what its parent has not looked at yet."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


async def test_what_does_not_start_says_why(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, configuration="no_such_setting: 1")
    server.start()
    with pytest.raises(AssertionError, match="no_such_setting"):
        await server.wait_ready()
    await server.stop()
