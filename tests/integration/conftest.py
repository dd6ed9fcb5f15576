"""A gateway on a database of the test's own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from jasaweb_rt import dispatch
from jasaweb_rt import gateway as gateways
from jasaweb_rt.config import Settings
from jasaweb_rt.database import feed
from jasaweb_rt.database.feed import CatchUp
from jasaweb_rt.gateway import Gateway
from tests.support.databases import add_users
from tests.support.tokens import SECRET


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a gateway is given up, or looked at unasked, because the machine is slow."""
    monkeypatch.setattr(gateways, "_FINISH_SECONDS", 20.0)
    monkeypatch.setattr(gateways, "_END_SECONDS", 30.0)
    monkeypatch.setattr(dispatch, "_HANDLING_SECONDS", 20.0)
    monkeypatch.setattr(gateways, "_COMPARE_SECONDS", 3600.0)


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(
        jwt_secret=SECRET,
        token_secret=SECRET,
        database_url=database_url,
        port=0,
        max_connections_per_ip=0,
        connect_rate_per_ip=0,
        pong_timeout=60,
    )


@pytest.fixture
async def gateway(settings: Settings, database_url: str, connection: asyncpg.Connection) -> AsyncIterator[Gateway]:
    """Started; the clients anna and budi and the administrator citra may connect."""
    await add_users(connection, ("anna", "client"), ("budi", "client"), ("citra", "admin"))
    gateway = Gateway(settings, database_url)
    await asyncio.to_thread(gateway.start)
    yield gateway
    await asyncio.to_thread(gateway.stop, 1)


@pytest.fixture
async def slow_answers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[threading.Event, threading.Event]]:
    """The first answer to a session that joins is kept back: set when it was read, and to be set when it may go on."""
    read, go_on = threading.Event(), threading.Event()
    catch_up: Callable[..., Any] = feed.catch_up

    async def slow(*arguments: Any) -> list[CatchUp]:
        answers: list[CatchUp] = await catch_up(*arguments)
        read.set()
        await asyncio.to_thread(go_on.wait, 40)
        return answers

    monkeypatch.setattr(feed, "catch_up", slow)
    yield read, go_on
    go_on.set()
