"""The web application on a real database. No front door stands before it: its headers are written by the tests."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from litestar import Litestar

from jasaweb_rt.app import create_app
from jasaweb_rt.config import Settings
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.services import Services
from tests.support import tokens
from tests.support.people import SECRET, insert_people
from tests.support.sockets import until

Client = httpx.AsyncClient


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(jwt_secret=SECRET, token_secret=tokens.SECRET, port=0, database_url=database_url)


@pytest.fixture
async def idle_gateway(settings: Settings) -> Gateway:
    """The gateway of the application, which nobody has started."""
    assert settings.database_url
    return Gateway(settings, settings.database_url)


@pytest.fixture
async def services(settings: Settings, pool: asyncpg.Pool, idle_gateway: Gateway) -> Services:
    async with pool.acquire() as connection:
        await insert_people(connection)
    return Services(settings, pool, idle_gateway)


@pytest.fixture
async def gateway(services: Services, idle_gateway: Gateway) -> AsyncIterator[Gateway]:
    """The gateway of the application, running; its relay follows the outbox."""
    await asyncio.to_thread(idle_gateway.start)
    await until(lambda: idle_gateway.is_relay_ready)
    yield idle_gateway
    await asyncio.to_thread(idle_gateway.stop, 1)


@pytest.fixture
async def client(settings: Settings, services: Services) -> AsyncIterator[Client]:
    async with client_of(create_app(settings, services=services)) as client:
        yield client


def client_of(app: Litestar) -> Client:
    """A client of an application, to be closed."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]  # stricter scopes of its own
    return httpx.AsyncClient(transport=transport, base_url="http://rt.test")
