"""`jasaweb-rt doctor` as an operator calls it, beside servers that run, are ill, or belong to others."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.simulator.clocks import MovedClock, build_library
from tests.support.certificates import CertificateFiles
from tests.support.databases import away
from tests.support.ports import free_port
from tests.support.program import environment, names, program, run

_PRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


async def lines(folder: Path, environ: dict[str, str], *through: str) -> tuple[int, list[str]]:
    """Exit code, and what is wrong or of the port, a line a finding."""
    code, output = await run(folder, environ, "doctor", through=through)
    assert "Traceback" not in output
    return code, [line for line in output.splitlines() if re.match(r"wrong|\w+ +port:", line)]


async def test_before_and_beside_a_server(tmp_path: Path, database_url: str) -> None:
    port = free_port()
    environ = environment(database_url, PORT=str(port), MAX_CONNECTIONS="10")
    assert await lines(tmp_path, environ) == (0, [f"ok      port: 127.0.0.1 port {port} is free"])
    assert names(tmp_path) == []
    async with program(tmp_path, environ, "serve") as server:
        await server.url()
        ready = f"ok      port: 127.0.0.1 port {port} is served by a jasaweb-rt that is ready"
        assert await lines(tmp_path, environ) == (0, [ready])


async def test_beside_a_server_that_has_lost_its_database(tmp_path: Path, postgres_url: str, database_url: str) -> None:
    port = free_port()
    environ = environment(database_url, PORT=str(port), MAX_CONNECTIONS="10")
    async with program(tmp_path, environ, "serve") as server:
        await server.url()
        async with away(postgres_url, database_url):
            code, (database, served) = await lines(tmp_path, environ)
            assert (code, "is not available" in database) == (1, True)
            assert re.search(rf"wrong +port: 127.0.0.1 port {port} is served by a jasaweb-rt that is not ready", served)
            assert "database" in served


async def test_beside_a_server_with_tls(tmp_path: Path, database_url: str) -> None:
    files = CertificateFiles(tmp_path)
    port = free_port()
    environ = environment(database_url, PORT=str(port), TLS_CERT=str(files.cert), TLS_KEY=str(files.key))
    environ |= {"JASAWEB_RT_MAX_CONNECTIONS": "10", "SSL_CERT_FILE": str(files.cert)}
    async with program(tmp_path, environ, "serve") as server:
        await server.url()
        code, (served,) = await lines(tmp_path, environ)
        assert (code, served.endswith("by a jasaweb-rt that is ready")) == (0, True)


@asynccontextmanager
async def another_program(answer: bytes) -> AsyncIterator[int]:
    """A port on which something answers each request by `answer`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.0 200 OK\r\n\r\n<html>", b"SSH-2.0\r\n", b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}']
)
async def test_beside_another_program(tmp_path: Path, database_url: str, answer: bytes) -> None:
    async with another_program(answer) as port:
        code, (taken,) = await lines(tmp_path, environment(database_url, PORT=str(port), MAX_CONNECTIONS="10"))
    assert code == 1
    assert taken.startswith(f"wrong   port: 127.0.0.1 port {port} is taken by another program; stop that")


async def test_a_port_that_is_nobodys_to_take(tmp_path: Path, database_url: str) -> None:
    environ = environment(database_url, HOST="192.0.2.1", REQUIRE_TLS="false", MAX_CONNECTIONS="10")
    code, (address,) = await lines(tmp_path, environ)
    assert (code, "192.0.2.1 is no address of this machine" in address) == (1, True)
    if int(_PRIVILEGED.read_text()) <= 1:
        pytest.skip("every port is for everybody here")
    environ = environment(database_url, PORT="1", MAX_CONNECTIONS="10")
    capabilities = ("setpriv", "--inh-caps=-net_bind_service", "--bounding-set=-net_bind_service")
    code, (privileged,) = await lines(tmp_path, environ, *capabilities)
    assert (code, "127.0.0.1 port 1 is for privileged programs" in privileged) == (1, True)


async def test_limits_and_settings_that_do_not_go_together(tmp_path: Path, database_url: str) -> None:
    environ = environment(database_url, MAX_CONNECTIONS="1000", HOTS="x")
    code, found = await lines(tmp_path, environ, "prlimit", "--nofile=512")
    assert code == 1
    assert [line.split(":")[0] for line in found] == ["wrong   configuration", "wrong   limits", "ok      port"]
    assert "1,000 connections are allowed, and 384 fit into `ulimit -n` 512" in found[1]


async def test_a_clock_that_goes_wrong(tmp_path: Path, database_url: str) -> None:
    clock = MovedClock(await build_library(tmp_path), tmp_path / "clock")
    clock.set_ahead(3600)
    environ = environment(database_url, MAX_CONNECTIONS="10") | clock.environ
    code, (wrong, _) = await lines(tmp_path, environ)
    assert code == 1
    assert re.search(r"the clocks of this machine and of PostgreSQL differ by 3\d{3}\.\d s; keep both by NTP", wrong)


async def test_what_it_says_can_be_read_by_a_terminal(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("JASAWEB_RT_\N{ESCAPE}[2J=1\n")
    code, output = await run(tmp_path, environment(), "doctor")
    assert (code, "\N{ESCAPE}" in output) == (1, False)
