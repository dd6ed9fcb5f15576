"""The demo's people and what they own. Written once; a database with other users in it is refused."""

from decimal import Decimal

import asyncpg

from jasaweb_rt.auth.passwords import hash_password
from jasaweb_rt.database import invoices, notifications, projects, users
from jasaweb_rt.database.invoices import NewInvoice
from jasaweb_rt.database.notifications import NewNotification
from jasaweb_rt.database.projects import NewProject
from jasaweb_rt.database.users import NewUser
from jasaweb_rt.exceptions import ConfigurationError

__all__ = ["EMAILS", "PASSWORD", "seed"]

PASSWORD = "demo-password"  # noqa: S105  # printed at start, loopback only
EMAILS = ("admin@jasaweb.test", "client@jasaweb.test", "other@jasaweb.test")

_NAMES = ("Ayu Admin", "Citra Client", "Omar Other")


async def seed(connection: asyncpg.Connection) -> None:
    """Inserts what is missing of the demo; whatever was changed since stays as it is.

    Raises:
        ConfigurationError: the database holds users who are not the demo's.
    """
    if others := await users.count_except(connection, EMAILS):
        raise ConfigurationError(
            f"--demo refuses this database, since it holds other users ({others}); "
            "leave --demo out, or set DATABASE_URL to an empty database."
        )
    if all([await users.find_by_email(connection, email) for email in EMAILS]):
        return
    password = hash_password(PASSWORD)
    people = [
        NewUser(f"demo-{email.partition('@')[0]}", email, password, name, "admin" if email == EMAILS[0] else "client")
        for email, name in zip(EMAILS, _NAMES, strict=True)
    ]
    async with connection.transaction():
        arrived = set(await users.insert_missing(connection, people))
        await projects.insert_missing(connection, [item for item in _projects() if item.user_id in arrived])
        await invoices.insert_missing(connection, [item for owner, item in _invoices() if owner in arrived])
        await notifications.insert_many(connection, [item for item in _notifications() if item.user_id in arrived])


def _projects() -> list[NewProject]:
    return [
        NewProject(
            "demo-school", "demo-client", "SMA Harapan website", "sekolah", "in_progress", "https://sma.example"
        ),
        NewProject("demo-news", "demo-client", "Kabar Kota portal", "berita", "pending_payment"),
        NewProject("demo-company", "demo-client", "PT Maju company profile", "company", "review"),
        NewProject("demo-shop", "demo-other", "Toko Sejahtera website", "company", "completed", "https://toko.example"),
    ]


def _invoices() -> list[tuple[str, NewInvoice]]:
    return [
        ("demo-client", NewInvoice("demo-invoice-1", "demo-school", Decimal("3500000.00"), "paid", "demo-order-1")),
        ("demo-client", NewInvoice("demo-invoice-2", "demo-news", Decimal("5000000.00"), "unpaid", "demo-order-2")),
        ("demo-client", NewInvoice("demo-invoice-3", "demo-company", Decimal("2750000.00"), "pending", "demo-order-3")),
        ("demo-other", NewInvoice("demo-invoice-4", "demo-shop", Decimal("4200000.00"), "paid", "demo-order-4")),
    ]


def _notifications() -> list[NewNotification]:
    return [
        NewNotification(
            user_id="demo-client",
            type="system_announcement",
            title="Welcome",
            message="Whatever is committed to the database shows up here, live",
            data={"priority": "low"},
        ),
        NewNotification(
            user_id="demo-client",
            type="project_update",
            title="Project updated",
            message='Project "SMA Harapan website" status updated to in_progress',
            data={
                "projectId": "demo-school",
                "projectName": "SMA Harapan website",
                "oldStatus": "pending_payment",
                "newStatus": "in_progress",
            },
        ),
        NewNotification(
            user_id="demo-other",
            type="system_announcement",
            title="Welcome",
            message="Nobody else sees what is yours",
            data={"priority": "low"},
        ),
    ]
