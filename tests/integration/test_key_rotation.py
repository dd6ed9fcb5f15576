"""Keys that are replaced under open sockets: who is accepted when, and what is logged."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from jasaweb_rt import key_rotation
from jasaweb_rt.config import Settings, load_keys
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.key_rotation import KeyRotation
from tests.support.databases import add_users
from tests.support.sockets import WAIT_SECONDS, frame, opened, socket_url
from tests.support.tokens import connection_token

FIRST, SECOND, THIRD = (f"the {number} key of this test is long" for number in ("first", "second", "third"))


class Files:
    """Where the keys are kept."""

    def __init__(self, folder: Path) -> None:
        self.jwt, self.token, self.previous = (folder / name for name in ("jwt", "token", "previous"))
        self.jwt.write_text(FIRST)

    def environ(self) -> dict[str, str]:
        """What names the session key, and the others where there is a folder for them."""
        named = {"JWT_SECRET": self.jwt}
        if self.token.exists():
            named |= {"TOKEN_SECRET": self.token, "TOKEN_SECRET_PREVIOUS": self.previous}
        return {f"JASAWEB_RT_{name}_FILE": str(path) for name, path in named.items()}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def apart(files: Files) -> None:
    """Tokens have a key of their own, and none before it."""
    files.token.write_text(FIRST)
    files.previous.write_text("\n")


@pytest.fixture
async def gateway(
    settings: Settings, files: Files, database_url: str, connection: asyncpg.Connection
) -> AsyncIterator[Gateway]:
    """Started with the keys of `files`."""
    await add_users(connection, ("anna", "client"))
    keys = msgspec.structs.asdict(load_keys(files.environ(), None))
    gateway = Gateway(msgspec.structs.replace(settings, **keys), database_url)
    await asyncio.to_thread(gateway.start)
    yield gateway
    await asyncio.to_thread(gateway.stop, 1)


@pytest.fixture
def rotation(gateway: Gateway, files: Files) -> KeyRotation:
    environ = files.environ()
    return KeyRotation(lambda: load_keys(environ, None), gateway)


def derived(jwt_secret: str) -> str:
    """The key of connection tokens where none is configured."""
    return load_keys({"JASAWEB_RT_JWT_SECRET": jwt_secret}, None).token_secret


async def is_accepted(gateway: Gateway, secret: str) -> bool:
    """Whether a token under `secret` opens a socket."""
    async with connect(socket_url(gateway.server, f"?token={connection_token('anna', secret=secret)}")) as socket:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await socket.recv()
        except ConnectionClosed:
            return False
        return True


@pytest.mark.usefixtures("apart")
async def test_a_rotation_step_by_step(gateway: Gateway, rotation: KeyRotation, files: Files) -> None:
    async with opened(gateway.server, "anna", token=connection_token("anna", secret=FIRST)) as socket:
        await frame(socket)
        assert not await is_accepted(gateway, SECOND)
        for current, previous, accepted in [
            (FIRST, SECOND, [FIRST, SECOND]),
            (SECOND, FIRST, [FIRST, SECOND]),
            (SECOND, "", [SECOND]),
            (SECOND, THIRD, [SECOND, THIRD]),
        ]:
            files.token.write_text(current)
            files.previous.write_text(previous)
            await rotation.read_again()
            assert gateway.keys.current.token_secret == current
            for secret in (FIRST, SECOND, THIRD):
                assert await is_accepted(gateway, secret) == (secret in accepted)
        gateway.server.broadcast_to_user("anna", '{"still":"here"}')
        assert await frame(socket) == {"still": "here"}


async def test_a_derived_key_is_accepted_until_its_tokens_are_over(
    gateway: Gateway, rotation: KeyRotation, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    for session_key, accepted in [(SECOND, [FIRST, SECOND]), (THIRD, [SECOND, THIRD]), (THIRD, [SECOND, THIRD])]:
        files.jwt.write_text(session_key)
        await rotation.read_again()
        assert gateway.keys.current.jwt_secret == session_key
        for secret in (FIRST, SECOND, THIRD):
            assert await is_accepted(gateway, derived(secret)) == (secret in accepted)
    monkeypatch.setattr(key_rotation, "_ACCEPTED_SECONDS", 0.01)
    files.jwt.write_text(FIRST)
    await rotation.read_again()
    async with asyncio.timeout(WAIT_SECONDS):
        while await is_accepted(gateway, derived(THIRD)):
            pass
    assert await is_accepted(gateway, derived(FIRST))


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 40, None], ids=["empty", "short", "no text", "missing"])
async def test_what_cannot_be_read_changes_nothing(
    gateway: Gateway, rotation: KeyRotation, files: Files, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    files.jwt.write_text(SECOND)
    if content is None:
        files.token.unlink()
    else:
        files.token.write_bytes(content)
    await rotation.read_again()
    [record] = [record for record in caplog.records if record.name == "jasaweb_rt.key_rotation"]
    assert record.levelno == logging.ERROR
    assert "JASAWEB_RT_TOKEN_SECRET_FILE" in record.getMessage()
    assert not {FIRST, SECOND, "short"} & set(record.getMessage().split())
    assert gateway.keys.current.jwt_secret == FIRST
    assert await is_accepted(gateway, FIRST)
    files.token.write_text(SECOND)
    await rotation.read_again()
    assert gateway.keys.current.jwt_secret == SECOND
    assert await is_accepted(gateway, SECOND)


@pytest.mark.usefixtures("apart")
async def test_a_token_is_renewed_by_the_keys_of_now(gateway: Gateway, rotation: KeyRotation, files: Files) -> None:
    async with opened(gateway.server, "anna", token=connection_token("anna", secret=FIRST)) as socket:
        await frame(socket)
        files.token.write_text(SECOND)
        await rotation.read_again()
        for number, secret in enumerate((SECOND, FIRST)):
            data = {"token": connection_token("anna", secret=secret)}
            refresh = {"type": "refresh", "data": data, "timestamp": "", "id": str(number)}
            await socket.send(msgspec.json.encode(refresh), text=True)
        refused = (await frame(socket))["data"]
        assert (refused["code"], refused["ref"]) == ("invalid_token", "1")


@pytest.mark.usefixtures("apart")
async def test_what_is_replaced_is_named_and_not_shown(
    rotation: KeyRotation, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jasaweb_rt.key_rotation")
    await rotation.read_again()
    files.token.write_text(SECOND)
    files.previous.write_text(FIRST)
    await rotation.read_again()
    assert [record.getMessage() for record in caplog.records if record.name == "jasaweb_rt.key_rotation"] == [
        "the keys were read again; they are the same",
        "the keys were read again; replaced: TOKEN_SECRET, TOKEN_SECRET_PREVIOUS",
    ]
