"""TLS and credentials to NATS, and what foreign programs send on our subjects."""

import asyncio
import secrets
from pathlib import Path
from typing import Any

import pytest

from jasaweb_rt._core import ClusterClient, FanoutServer
from tests.core.conftest import StartServer
from tests.support import nats_server as nats_support
from tests.support.cluster import cluster_event, cluster_stats, heard, start_nodes
from tests.support.nats_server import CA, CREDENTIALS, NKEY, NatsServer, nats_server
from tests.support.sockets import frame, opened, until
from tests.support.tokens import SECRET

LOGINS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "password": (nats_support.PASSWORD, nats_support.PASSWORD_USER, {}),
    "token": (nats_support.TOKEN, nats_support.TOKEN_USER, {}),
    "nkey": (nats_support.NKEY_ONLY, "", {"nats_credentials": NKEY}),
    "creds": (nats_support.OPERATOR, "", {"nats_credentials": str(CREDENTIALS)}),
}


async def reaches(start: StartServer, url: str, **options: Any) -> None:
    a, b = await start_nodes(start, 2, [url], **options)
    async with opened(b, "anna") as socket:
        await heard(b)
        a.broadcast_to_user("anna", '{"n": 1}')
        assert await frame(socket) == {"n": 1}


@pytest.mark.parametrize("login", LOGINS)
async def test_credentials(start_server: StartServer, tmp_path: Path, login: str) -> None:
    configuration, user, options = LOGINS[login]
    async with nats_server(tmp_path, configuration=configuration) as nats:
        await reaches(start_server, nats.url_of(user), **options)
        stranger = start_server(nats_url=[nats.url])
        event = await cluster_event(stranger, "authorization violation")
        assert not event.connected
        assert "nats_credentials" in event.reason


@pytest.mark.parametrize("login", ["none", "creds"])
async def test_tls(start_server: StartServer, tmp_path: Path, login: str) -> None:
    configuration, user, options = LOGINS.get(login, ("", "", {}))
    async with nats_server(tmp_path, configuration=configuration, tls=True) as nats:
        await reaches(start_server, nats.url_of(user), nats_ca=CA, **options)
        # An authority that nobody named is not believed.
        stranger = start_server(nats_url=[nats.url_of(user)], **options)
        assert not (await cluster_event(stranger, "nats_ca")).connected


async def test_rights_on_our_subjects_are_enough(start_server: StartServer, tmp_path: Path) -> None:
    own = ["jasaweb_rt.>"]
    async with nats_server(tmp_path, configuration=nats_support.permissions(own, own)) as nats:
        await reaches(start_server, nats.url_of(nats_support.PASSWORD_USER))
        assert "Violation" not in nats.log


async def test_with_an_authority_nothing_goes_in_the_clear(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        careful = start_server(nats_url=[nats.url], nats_ca=CA)
        await cluster_event(careful, "nats_ca")
        assert not cluster_stats(careful).connected


def made(**options: Any) -> FanoutServer:
    return FanoutServer(token_secret=SECRET, **options)


def test_settings_that_cannot_work_are_refused_by_name(tmp_path: Path) -> None:
    url = ["nats://127.0.0.1:4222"]
    empty = tmp_path / "empty"
    empty.write_text("nothing")
    wrong_seed = tmp_path / "seed"
    wrong_seed.write_text(NKEY.read_text("ascii").strip()[:-1] + "=")
    for options, setting in (
        ({"nats_url": ["http://127.0.0.1"]}, "nats_url"),
        ({"nats_url": ["nats://a:pass-word@one", "nats://b:pass-word@two"]}, "nats_url"),
        ({"nats_ca": CA}, "nats_ca: needs nats_url"),
        ({"nats_credentials": NKEY}, "nats_credentials: needs nats_url"),
        ({"nats_url": ["nats://t@127.0.0.1"], "nats_credentials": NKEY}, "nats_credentials"),
        ({"nats_url": url, "nats_credentials": tmp_path / "absent"}, "nats_credentials: .*absent"),
        ({"nats_url": url, "nats_credentials": empty}, "nats_credentials: .*empty"),
        ({"nats_url": url, "nats_credentials": wrong_seed}, "nats_credentials: .*seed"),
        ({"nats_url": url, "nats_ca": tmp_path / "absent"}, "nats_ca: .*absent"),
        ({"nats_url": url, "nats_ca": empty}, "nats_ca: .*empty"),
    ):
        with pytest.raises(ValueError, match=setting) as refusal:
            made(**options)
        assert "pass-word" not in str(refusal.value)


async def foreign(nats: NatsServer, messages: list[tuple[str, bytes]]) -> None:
    """Publishes as any program may that NATS lets in; returns once the server has taken it."""
    reader, writer = await asyncio.open_connection(nats.host, nats.port)
    writer.write(b'CONNECT {"verbose":false}\r\n')
    for subject, payload in messages:
        writer.write(b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(payload), payload))
    writer.write(b"PING\r\n")
    async with asyncio.timeout(30):
        while await reader.readline() != b"PONG\r\n":
            pass
    writer.close()
    await writer.wait_closed()


async def test_what_cannot_be_read_changes_nothing(start_server: StartServer, tmp_path: Path) -> None:
    async with nats_server(tmp_path) as nats:
        a, b = await start_nodes(start_server, 2, [nats.url])
        async with opened(b, "anna") as socket:
            await heard(b)
            header = bytes([1, 0]) + secrets.token_bytes(8) + bytes(8)
            kinds = [bytes([1, kind]) + header[2:] for kind in range(256)]
            payloads = [b"", b"\x00", b"\x01\x01", b"\x02" + header[1:], *kinds]
            payloads += [kind + b"\xff" * 30 for kind in kinds]
            harmless = {8, 9, 10, 11, 12}  # echoes, probes, requests to compare, farewells, and events for programs
            payloads = [payload for payload in payloads if len(payload) < 2 or payload[1] not in harmless]
            subjects = [
                "jasaweb_rt.all",
                "jasaweb_rt.control",
                f"jasaweb_rt.node.{b.node_id}",
                "jasaweb_rt.role.client",
            ]
            await foreign(nats, [(subject, payload) for subject in subjects for payload in payloads])
            a.broadcast_to_user("anna", '{"n": 1}')
            assert await frame(socket) == {"n": 1}
            # The subjects have channels of their own, so the last may still be on its way.
            await until(lambda: cluster_stats(b).malformed >= len(subjects) * (len(payloads) - 3), "the count")
            assert cluster_stats(b).connected
            assert len(b.connections()) == 1


async def test_a_client_says_which_setting_is_wrong(tmp_path: Path) -> None:
    async with nats_server(tmp_path, configuration=nats_support.TOKEN) as nats:
        client = ClusterClient([nats.url_of("wrong")])
        try:
            with pytest.raises(ConnectionError, match="nats_credentials"):
                await asyncio.to_thread(client.connect, 2)
        finally:
            client.close()
