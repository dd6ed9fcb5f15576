"""What a doctor says of databases that are not fit for service, and of one that is."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from jasaweb_rt.config import Settings
from jasaweb_rt.database import grants, nodes
from jasaweb_rt.database.embedded import EmbeddedPostgres
from jasaweb_rt.database.migrations import migrate
from jasaweb_rt.doctor import database
from tests.support.databases import add_role
from tests.support.embedded import running

SECRET = "s" * 32


async def said(url: str | None, verdict: str, folder: Path = Path("/nowhere"), migrate_url: str | None = None) -> str:
    """What is said by this verdict, a line a finding."""
    settings = Settings(
        jwt_secret=SECRET, token_secret=SECRET, database_url=url, migrate_url=migrate_url, data_dir=folder
    )
    return "\n".join([finding.text async for finding in database.look(settings) if finding.verdict == verdict])


def acting_as(role: str, url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}role={role}"


async def test_a_database_that_is_fit(database_url: str) -> None:
    assert await said(database_url, "wrong") == ""
    lines = await said(database_url, "ok")
    for pattern in (
        r"^PostgreSQL at .* answers, version \d+\.",
        r"^the clocks of this machine and of PostgreSQL differ by 0\.0 s$",
        r"^no migration is missing",
        r"^the role postgres has the rights",
        r"^\d+ connections are left for a server, which may open 22$",
    ):
        assert re.search(pattern, lines, re.MULTILINE), (pattern, lines)


async def test_a_database_that_does_not_answer() -> None:
    assert "is not available" in await said("postgresql://127.0.0.1:1/none", "wrong")
    assert "schema public" in await said("postgresql://127.0.0.1:1/none?schema=other", "wrong")


async def test_a_database_that_was_not_migrated(empty_database_url: str) -> None:
    wrong = await said(empty_database_url, "wrong")
    assert re.fullmatch(r"migrations are missing \(0001_site_tables, .*\); run `jasaweb-rt migrate`", wrong)


async def test_a_database_that_has_lost_its_triggers(database_url: str, connection: asyncpg.Connection) -> None:
    await connection.execute("alter table public.users disable trigger jasaweb_rt_changed")
    assert "has lost its triggers (jasaweb_rt_changed)" in await said(database_url, "wrong")


async def test_the_role_that_migrates_must_come_in_too(database_url: str) -> None:
    assert "is not available" in await said(database_url, "wrong", migrate_url="postgresql://127.0.0.1:1/none")
    assert await said(database_url, "wrong", migrate_url=database_url) == ""


async def test_a_role_without_its_rights(database_url: str, connection: asyncpg.Connection) -> None:
    async with add_role(database_url) as role:
        url = acting_as(role, database_url)
        assert "jasaweb-rt migrate --grant-to ROLE" in await said(url, "wrong")
        await migrate(database_url, grant_to=role)
        assert await said(url, "wrong") == ""
        await connection.execute(f"revoke delete on jasaweb_rt.outbox from {role}")
        assert await said(url, "wrong") == (
            f"The role {role} lacks rights that a server needs (delete on jasaweb_rt.outbox); as the role that "
            f"migrates, run `jasaweb-rt migrate --grant-to {role}`"
        )
        for right in grants.RIGHTS:
            columns = f" ({', '.join(right.columns)})" if right.columns else ""
            privileges = ", ".join(f"{privilege}{columns}" for privilege in right.privileges)
            await connection.execute(f"revoke {privileges} on {right.table} from {role}")
        await connection.execute(f"grant select on jasaweb_rt.migrations to {role}")
        assert "(select (id, email, password, name, role) on public.users; " in await said(url, "wrong")


async def test_a_database_that_can_only_be_read(database_url: str) -> None:
    separator = "&" if "?" in database_url else "?"
    wrong = await said(f"{database_url}{separator}default_transaction_read_only=on", "wrong")
    assert re.search(r"can only be read \(a standby\?\)", wrong)


async def test_a_database_with_too_little_room(database_url: str, connection: asyncpg.Connection) -> None:
    name = await connection.fetchval("select current_database()")
    await connection.execute(f'alter database "{name}" connection limit 15')
    others = r"\d+ are others', which leaves \d+"
    assert re.search(
        rf"15 connections are allowed and {others} where a server may open 22; raise", await said(database_url, "wrong")
    )
    await connection.execute(f'alter database "{name}" connection limit -1')
    for number in range(100):
        await nodes.renew(connection, f"node-{number}")
    assert re.search(rf"{others} where 100 servers may open 2200", await said(database_url, "wrong"))
    assert re.search(r"100 servers share .*, and JASAWEB_RT_NATS_URL is not set", await said(database_url, "advice"))


@pytest.fixture
async def plain_postgres(data_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A server as PostgreSQL's own defaults have it, in this one point."""
    async with running(data_dir, {"track_commit_timestamp": "off"}) as server:
        yield server


async def test_an_embedded_server_and_commit_times(data_dir: Path, plain_postgres: EmbeddedPostgres) -> None:
    await migrate(plain_postgres.url)
    assert await said(None, "wrong", data_dir) == ""
    advice = await said(None, "advice", data_dir)
    assert "so the embedded PostgreSQL runs; fit for a trial" in advice
    assert "ALTER SYSTEM SET track_commit_timestamp = on" in advice


async def test_no_database_is_started(data_dir: Path) -> None:
    assert "so the embedded PostgreSQL will be started" in await said(None, "advice", data_dir)
    assert not data_dir.exists()
