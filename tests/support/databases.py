"""Databases and roles for single tests."""

import asyncio
import contextlib
import urllib.parse
import uuid
from collections.abc import AsyncIterator

import asyncpg


def with_database(url: str, name: str) -> str:
    """`url`, with another database."""
    return urllib.parse.urlunsplit(urllib.parse.urlsplit(url)._replace(path=f"/{name}"))


async def create_database(url: str, name: str, *, template: str = "template0") -> None:
    """Creates a database on the server of `url`, as a copy of `template`."""
    connection = await asyncpg.connect(url)
    try:
        await _once_all_have_left(connection, f'create database "{name}" template "{template}"')
    finally:
        await connection.close()


async def drop_database(url: str, name: str) -> None:
    """Drops a database, also where connections to it are open."""
    connection = await asyncpg.connect(url)
    try:
        await _once_all_have_left(connection, f'drop database if exists "{name}" with (force)')
    finally:
        await connection.close()


async def _once_all_have_left(connection: asyncpg.Connection, *statements: str) -> None:
    """Executes statements of which PostgreSQL refuses the last one while others are connected to its database.

    It waits for them itself, but for 5 s only: one that ends, or that comes in this moment, may need longer.
    """
    async with asyncio.timeout(20):
        while True:
            try:
                for statement in statements:
                    await connection.execute(statement)
            except asyncpg.ObjectInUseError:
                continue
            return


async def add_users(connection: asyncpg.Connection, *users: tuple[str, str]) -> None:
    """Inserts users, each `(id, role)`; the e-mail address is `<id>@jasaweb.test`."""
    await connection.executemany(
        """
        insert into public.users (id, email, password, name, role)
        values ($1, $1 || '@jasaweb.test', '', 'User ' || $1, $2::text::public."Role")
        """,
        users,
    )


@contextlib.asynccontextmanager
async def away(url: str, database_url: str) -> AsyncIterator[None]:
    """Inside the block there is no such database; connections to it are ended."""
    name = urllib.parse.urlsplit(database_url).path.removeprefix("/")
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'alter database "{name}" allow_connections false')
        await _once_all_have_left(
            connection,
            f"select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '{name}'",
            f'alter database "{name}" rename to "{name}_away"',
        )
        yield
        await connection.execute(f'alter database "{name}_away" rename to "{name}"')
        await connection.execute(f'alter database "{name}" allow_connections true')
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def add_role(url: str, *grants: str) -> AsyncIterator[str]:
    """A role that may do nothing but what `grants` say, each like `select on public.users`; gone with the block."""
    role = f"role_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"create role {role}")
        for grant in grants:
            await connection.execute(f"grant {grant} to {role}")
        yield role
        await connection.execute(f"drop owned by {role}")
        await connection.execute(f"drop role {role}")
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def acting_as(connection: asyncpg.Connection, role: str) -> AsyncIterator[None]:
    """Inside the block, `connection` has the rights of `role` and no others."""
    await connection.execute(f"set session authorization {role}")
    try:
        yield
    finally:
        await connection.execute("reset session authorization")
