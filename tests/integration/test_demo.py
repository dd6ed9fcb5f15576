"""The demo's people: written once, and never over what is there."""

import asyncpg
import pytest

from jasaweb_rt import demo
from jasaweb_rt.database import projects
from jasaweb_rt.exceptions import ConfigurationError
from tests.support.databases import add_users


async def counts(connection: asyncpg.Connection) -> dict[str, int]:
    tables = ("users", "projects", "invoices", "real_time_notifications")
    return {table: await connection.fetchval(f"select count(*) from public.{table}") for table in tables}


async def test_it_is_written_once(connection: asyncpg.Connection) -> None:
    await demo.seed(connection)
    first = await counts(connection)
    assert first == {"users": 3, "projects": 4, "invoices": 4, "real_time_notifications": 3}
    await projects.set_status(connection, "demo-news", "completed")
    await demo.seed(connection)
    assert await counts(connection) == first
    project = await projects.get(connection, "demo-news")
    assert project is not None
    assert project.status == "completed"


async def test_a_database_with_other_people_is_refused(connection: asyncpg.Connection) -> None:
    await add_users(connection, ("somebody", "client"))
    with pytest.raises(ConfigurationError, match="other users"):
        await demo.seed(connection)
    assert (await counts(connection))["users"] == 1
