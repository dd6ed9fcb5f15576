"""`jasaweb-rt token`."""

import asyncio
import time

import rich_click as click

from jasaweb_rt.auth import connection_token
from jasaweb_rt.auth.session_jwt import SESSION_SECONDS
from jasaweb_rt.cli.common import database_in_use
from jasaweb_rt.config import Settings, load_settings
from jasaweb_rt.database import pool, users
from jasaweb_rt.database.users import User
from jasaweb_rt.exceptions import NotFoundError

__all__ = ["find_user", "issue_for", "token"]


@click.command("token")
@click.argument("user_id")
@click.option("--role", type=click.Choice(["client", "admin"]), help="Do not look the user up; claim this role.")
@click.option(
    "--ttl",
    type=click.IntRange(1, 86_400),
    default=connection_token.LIFETIME_SECONDS,
    show_default=True,
    help="Seconds for which it opens a socket.",
)
def token(user_id: str, role: str | None, ttl: int) -> None:
    """Prints a connection token for a user.

    Without --role the user's role and name are read from the database.
    """
    settings = load_settings()
    if role is None:
        user = asyncio.run(find_user(database_in_use(settings), user_id))
        click.echo(issue_for(settings, user.id, user.role, user.name, ttl))
    else:
        click.echo(issue_for(settings, user_id, role, user_id, ttl))


async def find_user(url: str, user_id: str) -> User:
    """The user with that id.

    Raises:
        NotFoundError: there is none.
    """
    connection = await pool.connect(url)
    try:
        user = await users.find_by_id(connection, user_id)
    finally:
        await connection.close(timeout=5)
    if user is None:
        raise NotFoundError(f"There is no user with the id {user_id!r}; see the table users")
    return user


def issue_for(
    settings: Settings, user_id: str, role: str, name: str, ttl: int = connection_token.LIFETIME_SECONDS
) -> str:
    """A connection token; the socket that it opens may stay as long as after a log-in."""
    return connection_token.issue(
        user_id=user_id,
        role=role,
        name=name,
        secret=settings.token_secret,
        session_exp=int(time.time()) + SESSION_SECONDS,
        lifetime=ttl,
    ).token
