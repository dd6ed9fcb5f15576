"""A whole server as a process, on a database of the test's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.support.payments import KEY
from tests.support.people import insert_people
from tests.support.program import Program, environment, program


@pytest.fixture
async def server(tmp_path: Path, database_url: str, connection: asyncpg.Connection) -> AsyncIterator[Program]:
    """`jasaweb-rt serve`, with the people of the tests in its database."""
    await insert_people(connection)
    environ = environment(database_url, MIDTRANS_SERVER_KEY=KEY)
    async with program(tmp_path, environ, "serve") as running:
        await running.url()
        yield running


@pytest.fixture
async def http(server: Program) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of that server."""
    async with httpx.AsyncClient(base_url=await server.url(), timeout=30) as client:
        yield client
