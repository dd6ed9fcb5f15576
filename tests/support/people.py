"""Users of the tests, with a password, projects and invoices; and the session tokens of the site."""

from decimal import Decimal
from functools import cache

import asyncpg

from jasaweb_rt.auth import session_jwt
from jasaweb_rt.auth.passwords import hash_password
from jasaweb_rt.database import invoices, projects, users
from jasaweb_rt.database.invoices import NewInvoice
from jasaweb_rt.database.projects import NewProject
from jasaweb_rt.database.users import NewUser, Role

SECRET = "a-secret-of-the-tests-that-is-long-enough"
PASSWORD = "correct horse battery staple"

PEOPLE: dict[str, Role] = {"admin": "admin", "second-admin": "admin", "client": "client", "other": "client"}


@cache
def password_hash() -> str:
    """The bcrypt hash of `PASSWORD`."""
    return hash_password(PASSWORD)


async def insert_people(connection: asyncpg.Connection) -> None:
    """Two administrators and two clients; each client has a project (`p-client`, `p-other`) with an invoice."""
    await users.insert_missing(
        connection,
        [NewUser(name, f"{name}@jasaweb.test", password_hash(), name.title(), role) for name, role in PEOPLE.items()],
    )
    await projects.insert_missing(
        connection,
        [
            NewProject("p-client", "client", "School site", "sekolah", "in_progress", "https://school.example"),
            NewProject("p-other", "other", "News site", "berita"),
        ],
    )
    await invoices.insert_missing(
        connection,
        [NewInvoice("i-client", "p-client", Decimal("1500000.50")), NewInvoice("i-other", "p-other", Decimal(7))],
    )


def session_token(user_id: str, *, role: str = "client", lifetime: int = 86_400, secret: str = SECRET) -> str:
    """A session JWT as the site issues it; `role` is what it claims."""
    return session_jwt.issue(
        user_id=user_id, email=f"{user_id}@jasaweb.test", name=user_id, role=role, secret=secret, lifetime=lifetime
    )


def bearer(user_id: str) -> dict[str, str]:
    """Headers that authenticate as `user_id`."""
    return {"Authorization": f"Bearer {session_token(user_id)}"}
