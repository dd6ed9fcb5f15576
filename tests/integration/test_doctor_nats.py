"""What a doctor says of NATS servers that are not fit for service, and of those that are."""

import asyncio
import re
from pathlib import Path

import msgspec
import pytest

from jasaweb_rt.config import Settings
from jasaweb_rt.doctor import nats as doctor
from tests.support import nats_server as nats
from tests.support.nats_server import NatsCluster, NatsServer, nats_cluster, nats_server
from tests.support.ports import free_port

SECRET = "s" * 32


async def said(*urls: str, credentials: Path | None = None, ca: Path | None = None) -> list[str]:
    """What is said, a line a finding."""
    settings = msgspec.structs.replace(
        Settings(jwt_secret=SECRET, token_secret=SECRET),
        nats_url=urls,
        nats_credentials=credentials and str(credentials),
        nats_ca=ca and str(ca),
    )
    findings = await asyncio.to_thread(lambda: list(doctor.look(settings)))
    return [f"{finding.verdict} {finding.text}" for finding in findings]


async def test_without_nats_nothing_is_said() -> None:
    assert await said() == []


async def test_a_cluster_that_is_fit(tmp_path: Path) -> None:
    async with nats_cluster(tmp_path) as cluster:
        lines = await said(*cluster.urls)
        assert [re.sub(r"\d+\.\d+\.\d+$", "", line) for line in lines] == [
            f"ok 127.0.0.1:{server.port} takes us and echoes, version " for server in cluster
        ]


async def test_servers_that_are_not_there(tmp_path: Path) -> None:
    port = free_port()
    async with nats_server(tmp_path) as server:
        gone, there = await said(f"nats://127.0.0.1:{port}", server.url)
        assert re.match(rf"wrong 127\.0\.0\.1:{port} is no NATS server that answers \(.*refused\); see", gone)
        assert there.startswith("ok ")
        other = f"nats://127.0.0.1:{server.monitoring_port}"
        (line,) = await said(other)
        assert line.startswith(f"wrong 127.0.0.1:{server.monitoring_port} is no NATS server that answers")


@pytest.mark.parametrize("configuration", [nats.PASSWORD, nats.TOKEN, nats.OPERATOR, nats.NKEY_ONLY])
async def test_a_user_who_is_not_let_in(tmp_path: Path, configuration: str) -> None:
    async with nats_server(tmp_path, configuration=configuration) as server:
        (line,) = await said(server.url_of("somebody:else"))
        assert re.match(rf"wrong 127\.0\.0\.1:{server.port}: .*JASAWEB_RT_NATS_CREDENTIALS", line)


async def test_users_who_are_let_in(tmp_path: Path) -> None:
    async with nats_server(tmp_path, configuration=nats.PASSWORD) as server:
        assert (await said(server.url_of(nats.PASSWORD_USER)))[0].startswith("ok ")
    async with nats_server(tmp_path, configuration=nats.OPERATOR) as server:
        assert (await said(server.url, credentials=nats.CREDENTIALS))[0].startswith("ok ")


async def test_a_user_who_may_not_use_our_subjects(tmp_path: Path) -> None:
    rules = nats.permissions(publish=["other.>"], subscribe=["other.>"])
    async with nats_server(tmp_path, configuration=rules) as server:
        (line,) = await said(server.url_of(nats.PASSWORD_USER))
        assert "let this user publish and subscribe to jasaweb_rt.>" in line
        assert nats.PASSWORD_USER.partition(":")[2] not in line


async def test_an_authority_that_is_not_known(tmp_path: Path) -> None:
    async with nats_server(tmp_path, tls=True) as server:
        (line,) = await said(server.url)
        assert re.match(rf"wrong 127\.0\.0\.1:{server.port}: .*JASAWEB_RT_NATS_CA", line)
        assert (await said(server.url, ca=nats.CA))[0].startswith("ok ")


async def test_a_server_that_takes_small_messages_only(tmp_path: Path) -> None:
    async with nats_server(tmp_path, configuration="max_payload: 65536") as server:
        _, line = await said(server.url)
        assert re.match(r"wrong .* takes messages of 65,536 bytes, and a frame may have .*; raise max_payload", line)
        await server.reload("max_payload: 131072")
        _, line = await said(server.url)
        assert re.match(r"advice .* takes messages of 131,072 bytes, .*; raise max_payload to 1048576", line)


async def test_servers_that_do_not_belong_together(tmp_path: Path) -> None:
    clusters = [NatsCluster([NatsServer(tmp_path, f"nats-{number}")]) for number in range(2)]
    clusters[1][0].routes = []
    try:
        for cluster in clusters:
            cluster.start()
            await cluster.wait_ready()
        *_, line = await said(clusters[0][0].url, clusters[1][0].url)
        ports = [cluster[0].port for cluster in clusters]
        assert line.startswith(
            f"wrong not all belong to a cluster (127.0.0.1:{ports[0]} rt, 127.0.0.1:{ports[1]} none); give"
        )
    finally:
        for cluster in clusters:
            await cluster.stop()
