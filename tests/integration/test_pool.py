"""Connections: how they are set up, and what is said when there are none."""

import asyncio
import re
import socket
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from jasaweb_rt.database.pool import acquire, connect, create_pool
from jasaweb_rt.exceptions import ConfigurationError, DatabaseBusyError, DatabaseUnavailableError


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port that is taken and on which nobody listens, so connections to it are refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def end_backend(url: str, pid: int) -> None:
    """What an administrator, a fail-over or a restart does to a connection."""
    other = await asyncpg.connect(url)
    await other.execute("select pg_terminate_backend($1)", pid)
    await other.close()


async def test_every_connection_is_set_up_alike(database_url: str, pool: asyncpg.Pool) -> None:
    single = await connect(database_url, statement_timeout=5, lock_timeout=2.5, application_name="one")
    async with acquire(pool) as pooled:
        for connection in (single, pooled):
            assert await connection.fetchval("show timezone") == "UTC"
            assert await connection.fetchval("show jit") == "off"
            assert await connection.fetchval("show idle_in_transaction_session_timeout") == "1min"
            assert await connection.fetchval("select $1::jsonb", {"a": [1, None, "ü"]}) == {"a": [1, None, "ü"]}
        assert await pooled.fetchval("show statement_timeout") == "30s"
        assert await pooled.fetchval("show lock_timeout") == "10s"
    assert await single.fetchval("show statement_timeout") == "5s"
    assert await single.fetchval("show lock_timeout") == "2500ms"
    assert await single.fetchval("show application_name") == "one"
    await single.close()


async def test_a_long_statement_is_ended(database_url: str) -> None:
    async def sleep() -> None:
        # Its time may be over for a statement that belongs to the opening, where the machine is slow.
        connection = await connect(database_url, statement_timeout=0.5)
        try:
            await connection.execute("select pg_sleep(20)")
        finally:
            await connection.close()

    with pytest.raises(asyncpg.QueryCanceledError):
        await sleep()


async def test_nobody_listens(unused_port: int) -> None:
    url = f"postgresql://someone:hush@127.0.0.1:{unused_port}/shop"
    for opening in (connect, create_pool):
        with pytest.raises(DatabaseUnavailableError, match=f"PostgreSQL at 127.0.0.1:{unused_port}/shop") as caught:
            await opening(url)
        assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://localhost/shop",
        "postgresql://localhost:port/shop",
        "postgresql://localhost/shop?broken",
        "postgresql://localhost/shop?schema=tenant",
        "postgresql://localhost/shop?sslmode=nonsense",
        "",
    ],
)
async def test_a_url_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        await connect(url)


@pytest.mark.parametrize("password", ["ab/cd", "12/cd", "ab?cd", "ab@cd", "ab[cd"])
async def test_no_part_of_a_password_is_told(password: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL is not a URL: percent-encode") as caught:
        await connect(f"postgresql://u:{password}@localhost/shop")
    assert not {password[:2], password[-2:]} & set(re.findall(r"\w+", str(caught.value)))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_a_connection_that_is_lost_while_lent(database_url: str, pool: asyncpg.Pool) -> None:
    with pytest.raises(DatabaseUnavailableError):  # noqa: PT012 - the block is what is tested
        async with acquire(pool) as connection:
            await end_backend(database_url, connection.get_server_pid())
            await connection.fetchval("select 1")
    # Used again although it is closed: the driver calls that misuse, and it still is the database's absence.
    lost = asyncio.Event()
    with pytest.raises(DatabaseUnavailableError):  # noqa: PT012 - the block is what is tested
        async with acquire(pool) as connection:
            connection.add_termination_listener(lambda _: lost.set())
            await end_backend(database_url, connection.get_server_pid())
            await asyncio.wait_for(lost.wait(), 20)
            await connection.fetchval("select 1")
    async with acquire(pool) as connection:
        assert await connection.fetchval("select 1") == 1


async def test_a_connection_that_is_lost_while_it_is_set_up(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opens = asyncpg.connect

    async def loses(*args: Any, **options: Any) -> asyncpg.Connection:
        connection = await opens(*args, **options)
        connection.terminate()
        return connection

    # The database is taken away by this driver, too.
    with monkeypatch.context() as patching:
        patching.setattr(asyncpg, "connect", loses)
        with pytest.raises(DatabaseUnavailableError):
            await connect(database_url)


async def test_errors_of_a_statement_and_of_the_caller_pass_as_they_are(pool: asyncpg.Pool) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        async with acquire(pool) as connection:
            await connection.execute("select * from public.nowhere")
    with pytest.raises(TimeoutError):
        async with acquire(pool):
            raise TimeoutError("the caller's own")
    with pytest.raises(asyncpg.InterfaceError):
        async with acquire(pool) as connection:
            await connection.fetchval("select $1::int")


async def test_all_are_lent(database_url: str) -> None:
    async with await create_pool(database_url, max_size=1) as pool, acquire(pool):
        with pytest.raises(DatabaseBusyError, match=r"All 1 connections .* none became free within 0\.05 s"):
            async with acquire(pool, timeout=0.05):
                pytest.fail("lent twice")
