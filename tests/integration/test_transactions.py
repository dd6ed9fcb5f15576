"""Work that collides with other transactions is done again."""

import asyncio

import asyncpg
import pytest

from jasaweb_rt.database.pool import acquire
from jasaweb_rt.domain.transactions import in_transaction
from jasaweb_rt.exceptions import ConflictError, NotFoundError


async def test_a_deadlock_is_survived_by_both(pool: asyncpg.Pool, connection: asyncpg.Connection) -> None:
    await connection.execute("create table public.accounts (id int primary key, amount int not null)")
    await connection.execute("insert into public.accounts values (1, 0), (2, 0)")
    met = asyncio.Barrier(2)
    attempts = 0

    async def work(connection: asyncpg.Connection, first: int, second: int) -> int:
        nonlocal attempts
        attempts += 1
        await connection.execute("update public.accounts set amount = amount + 1 where id = $1", first)
        if attempts <= 2:
            await met.wait()
        await connection.execute("update public.accounts set amount = amount + 1 where id = $1", second)
        return first

    done = await asyncio.gather(
        in_transaction(lambda: acquire(pool), lambda connection: work(connection, 1, 2)),
        in_transaction(lambda: acquire(pool), lambda connection: work(connection, 2, 1)),
    )
    assert list(done) == [1, 2]
    assert attempts == 3
    assert [row["amount"] for row in await connection.fetch("select amount from public.accounts")] == [2, 2]


async def test_what_collides_every_time_is_a_conflict(pool: asyncpg.Pool) -> None:
    attempts = 0

    async def work(_: asyncpg.Connection) -> None:
        nonlocal attempts
        attempts += 1
        raise asyncpg.SerializationError("could not serialize access")

    with pytest.raises(ConflictError):
        await in_transaction(lambda: acquire(pool), work)
    assert attempts == 5


async def test_another_error_is_not_repeated_and_leaves_nothing(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    await connection.execute("create table public.accounts (id int primary key)")
    attempts = 0

    async def work(connection: asyncpg.Connection) -> None:
        nonlocal attempts
        attempts += 1
        await connection.execute("insert into public.accounts values (1)")
        raise NotFoundError("no")

    with pytest.raises(NotFoundError):
        await in_transaction(lambda: acquire(pool), work)
    assert attempts == 1
    assert await connection.fetchval("select count(*) from public.accounts") == 0
