"""Fixtures for every kind of test: a PostgreSQL for the whole run, a database of its own for each test."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from jasaweb_rt.database.embedded import EmbeddedPostgres
from jasaweb_rt.database.migrations import migrate
from jasaweb_rt.database.pool import connect, create_pool
from tests.support.databases import create_database, drop_database, with_database

# How long an example takes is the machine's affair.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server, as a role that may create databases and roles: TEST_DATABASE_URL, or an embedded one of ours."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    # No power fails during the tests; the embedded server's own tests leave fsync on.
    settings = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings=settings)
    url = server.start()
    try:
        asyncio.run(server.wait_ready())
        yield url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """Name of a migrated database that is copied for each test."""
    name = f"template_{uuid.uuid4().hex}"

    async def make() -> None:
        await create_database(postgres_url, name)
        await migrate(with_database(postgres_url, name))

    asyncio.run(make())
    yield name
    asyncio.run(drop_database(postgres_url, name))


@pytest.fixture
async def empty_database_url(postgres_url: str) -> AsyncIterator[str]:
    """URL of a database of the test's own, with nothing in it."""
    name = f"test_{uuid.uuid4().hex}"
    await create_database(postgres_url, name)
    yield with_database(postgres_url, name)
    await drop_database(postgres_url, name)


@pytest.fixture
async def database_url(postgres_url: str, template_database: str) -> AsyncIterator[str]:
    """URL of a migrated database of the test's own."""
    name = f"test_{uuid.uuid4().hex}"
    await create_database(postgres_url, name, template=template_database)
    yield with_database(postgres_url, name)
    await drop_database(postgres_url, name)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """One connection to `database_url`, opened as the application opens its own."""
    connection = await connect(database_url)
    yield connection
    await connection.close(timeout=30)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on `database_url`."""
    async with await create_pool(database_url) as pool:
        yield pool


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A fresh data directory, as `.jasaweb/` is one."""
    return tmp_path / ".jasaweb"
