"""The files of `deploy/` that no other test runs: units of systemd, their environment, settings of the kernel."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest
from dotenv import dotenv_values

from jasaweb_rt.config import Settings, load_settings, max_connections_for
from jasaweb_rt.doctor import nats as doctor_of_nats
from tests.support import nats_server
from tests.support.nats_server import NatsCluster, NatsServer
from tests.support.people import SECRET, bearer, insert_people
from tests.support.ports import free_port
from tests.support.program import program
from tests.support.sockets import WAIT_SECONDS

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PROGRAM = "/opt/jasaweb-rt/bin/jasaweb-rt"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The environment file, with the keys that it names in files of the test."""
    environ = {name: value or "" for name, value in dotenv_values(DEPLOY / "systemd" / "environment").items()}
    for name, value in environ.items():
        if name.endswith("_FILE"):
            file = tmp_path / Path(value).name
            file.write_text("" if "PREVIOUS" in name else SECRET)
            environ[name] = str(file)
    return load_settings(environ, None, data_dir=tmp_path)


def said(unit: Path, name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)
    return str(value)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_the_unit(tmp_path: Path, unit: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    # It looks for the program, too.
    text = unit.read_text()
    assert PROGRAM in text
    copy = tmp_path / unit.name
    copy.write_text(text.replace(PROGRAM, str(Path(sys.executable).with_name("jasaweb-rt"))))
    answer = subprocess.run(
        [analyze, "verify", "--man=no", copy], capture_output=True, text=True, timeout=60, check=False
    )
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_and_settings_go_together(unit: Path, settings: Settings) -> None:
    # Beyond the time of a stop: what the embedded PostgreSQL may take behind it.
    assert int(said(unit, "TimeoutStopSec")) >= settings.drain_seconds + 15
    if "--role app" not in said(unit, "ExecStart"):
        assert settings.max_connections <= max_connections_for(int(said(unit, "LimitNOFILE")))
    assert said(unit, "RestartPreventExitStatus") == "2"
    assert said(unit, "EnvironmentFile") == "/etc/jasaweb-rt/environment"


def _environ_of(unit: Path, folder: Path, database_url: str, port: int) -> dict[str, str]:
    """What systemd would give the service, with database, port, keys and folders of the test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JASAWEB_RT_")}
    given = {name: value or "" for name, value in dotenv_values(DEPLOY / "systemd" / "environment").items()}
    given |= {"DATABASE_URL": database_url, "JASAWEB_RT_PORT": str(port), "JASAWEB_RT_MAX_CONNECTIONS": "100"}
    for name, value in given.items():
        if name.endswith("_FILE"):
            given[name] = str(folder / Path(value).name)
    name, _, value = said(unit, "Environment").partition("=")
    given[name] = value.replace("/run/jasaweb-rt", str(folder))
    for name in re.findall(r"^UnsetEnvironment=(.*)$", unit.read_text(), re.MULTILINE):
        for unset in name.split():
            del given[unset]
    return kept | given


async def test_gateway_and_app_find_each_other_by_their_units(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await insert_people(connection)
    folder = tmp_path / "run"
    folder.mkdir(0o700)
    for name, text in (("jwt_secret", SECRET), ("token_secret", SECRET), ("token_secret_previous", "")):
        (folder / name).write_text(text)
    port = free_port()
    async with AsyncExitStack() as stack:
        for name in ("jasaweb-rt-app@.service", "jasaweb-rt-gateway.service"):
            unit = DEPLOY / "systemd" / name
            arguments = said(unit, "ExecStart").removeprefix(PROGRAM).split()
            environ = _environ_of(unit, folder, database_url, port)
            await (await stack.enter_async_context(program(folder, environ, *arguments))).line("listening on")
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}",
                timeout=WAIT_SECONDS,
                headers={"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"},
            )
        )
        issued = (await client.post("/api/websocket/token", headers=bearer("client"))).json()
        assert issued["connectionUrl"] == "wss://rt.example.org/ws"


def test_the_kernel_knows_the_settings() -> None:
    lines = (DEPLOY / "sysctl" / "90-jasaweb-rt.conf").read_text().splitlines()
    names = [line.split(" = ")[0] for line in lines if line and not line.startswith("#")]
    assert names
    for name in names:
        assert (Path("/proc/sys") / name.replace(".", "/")).exists(), name


class _Deployed(NatsServer):
    """A NATS server by the file of `deploy/`, with addresses and certificates of the test, and all else as it is."""

    cluster: NatsCluster

    def text(self) -> str:
        text = (DEPLOY / "nats" / "nats-server.conf").read_text()
        replacements = [
            ("server_name: nats-1", f"server_name: {self.name}"),
            ("0.0.0.0:4222", f"127.0.0.1:{self.port}"),
            ("127.0.0.1:8222", f"127.0.0.1:{self.monitoring_port}"),
            ("0.0.0.0:6222", f"127.0.0.1:{self.route_port}"),
            ("/etc/nats/ca.pem", str(nats_server.CA)),
        ]
        for number, other in enumerate(self.cluster, start=1):
            replacements.append((f"nats://nats-{number}.example.org:6222", other.route_url))
        for there, here in replacements:
            assert text.count(there) == 1, there
            text = text.replace(there, here)
        for name, file in (("server.pem", "server.crt"), ("server.key", "server.key")):
            text = text.replace(f"/etc/nats/{name}", str(nats_server.DATA / file))
        return text


async def test_nats_servers_are_one_and_let_us_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JASAWEB_RT_NATS_PASSWORD", "of-the-tests")
    servers = [_Deployed(tmp_path, f"nats-{number}", tls=True) for number in range(1, 4)]
    cluster = NatsCluster(servers)
    for server in servers:
        server.cluster = cluster
    try:
        cluster.start()
        await cluster.wait_ready()
        settings = msgspec.structs.replace(
            Settings(jwt_secret=SECRET, token_secret=SECRET),
            nats_url=tuple(server.url_of("jasaweb_rt:of-the-tests") for server in servers),
            nats_ca=str(nats_server.CA),
        )
        found = await asyncio.to_thread(lambda: list(doctor_of_nats.look(settings)))
        assert [finding.verdict for finding in found] == ["ok"] * 3, found
    finally:
        await cluster.stop()
