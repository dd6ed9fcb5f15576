"""The site's table `users`: who there is. Written only for the demo."""

from collections.abc import Sequence
from typing import Literal

import asyncpg
import msgspec

Role = Literal["admin", "client"]


class User(msgspec.Struct, frozen=True):
    """A user, without the password."""

    id: str
    email: str
    name: str
    role: Role


class NewUser(msgspec.Struct, frozen=True):
    """A user to be inserted."""

    id: str
    email: str
    password_hash: str
    """bcrypt, as the site stores it."""
    name: str
    role: Role


async def find_by_id(connection: asyncpg.Connection, user_id: str) -> User | None:
    """The user with this id, or None."""
    row = await connection.fetchrow("select id, email, name, role::text from public.users where id = $1", user_id)
    return None if row is None else user_of(row)


async def find_by_email(connection: asyncpg.Connection, email: str) -> tuple[User, str] | None:
    """The user with this e-mail address, as it is written there, with the password hash; or None."""
    row = await connection.fetchrow(
        "select id, email, name, role::text, password from public.users where email = $1", email
    )
    return None if row is None else (user_of(row), row["password"])


class Credentials(msgspec.Struct, frozen=True):
    """What a log-in is checked against."""

    user: User | None
    """None: nobody has that e-mail address."""
    password_hash: str | None
    """Of that user."""
    another_hash: str | None
    """Of any user at all."""


async def find_credentials(connection: asyncpg.Connection, email: str) -> Credentials:
    """Whom an e-mail address, as it is written there, belongs to; the same work whether there is somebody or not."""
    row = await connection.fetchrow(
        """
        select u.id, u.email, u.name, u.role::text, u.password,
               (select password from public.users limit 1) as another
        from (values ($1::text)) as asked (email) left join public.users u on u.email = asked.email
        """,
        email,
    )
    return Credentials(None if row["id"] is None else user_of(row), row["password"], row["another"])


async def list_ids_by_role(connection: asyncpg.Connection, role: Role | None) -> list[str]:
    """Ids of all users with `role`, or of all users where it is None, in order."""
    if role is None:
        rows = await connection.fetch("select id from public.users order by id")
    else:
        rows = await connection.fetch(
            'select id from public.users where role = $1::text::public."Role" order by id', role
        )
    return [row["id"] for row in rows]


async def search(
    connection: asyncpg.Connection,
    *,
    role: Role | None,
    without: str,
    words: str,
    by_email: bool,
    limit: int,
    offset: int,
) -> tuple[list[User], int]:
    """A page of the users with `role` (None: any), but for the one with the id `without`, by name; and how many match.

    Args:
        connection: where to.
        role: of those who are wanted.
        without: the id of one who is not.
        words: what the name holds, in upper or lower case; empty: all names.
        by_email: whether the e-mail address is looked at too.
        limit: users at most.
        offset: users to pass over.
    """
    of_role = "$1::text is null" if role is None else 'role = $1::text::public."Role"'
    matching = f"""
        from public.users where {of_role} and id <> $2
          and (position(lower($3) in lower(name)) > 0 or $4 and position(lower($3) in lower(email)) > 0)
    """
    rows = await connection.fetch(
        f"select id, email, name, role::text {matching} order by lower(name), id limit $5 offset $6",
        *(role, without, words, by_email, limit, offset),
    )
    total = await connection.fetchval(f"select count(*) {matching}", role, without, words, by_email)
    return [user_of(row) for row in rows], total


async def count_except(connection: asyncpg.Connection, emails: Sequence[str]) -> int:
    """How many users there are beside those with one of `emails`."""
    return int(
        await connection.fetchval("select count(*) from public.users where email <> all ($1::text[])", list(emails))
    )


async def insert_missing(connection: asyncpg.Connection, users: Sequence[NewUser]) -> list[str]:
    """Inserts those of `users` whose id and e-mail address are both free; returns their ids."""
    rows = await connection.fetch(
        """
        insert into public.users (id, email, password, name, role, created_at)
        select id, email, password, name, role::public."Role", now() at time zone 'UTC'
        from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) as new (id, email, password, name, role)
        on conflict do nothing returning id
        """,
        [user.id for user in users],
        [user.email for user in users],
        [user.password_hash for user in users],
        [user.name for user in users],
        [user.role for user in users],
    )
    return [row["id"] for row in rows]


def user_of(row: asyncpg.Record) -> User:
    """The user in a row with the columns `id`, `email`, `name`, `role`."""
    return User(id=row["id"], email=row["email"], name=row["name"], role=row["role"])
