"""What is said to many at once: announcements, and alerts to the administrators. Who may say it is asked before."""

from typing import Any, Protocol

import asyncpg
import msgspec

from jasaweb_rt.database import projects
from jasaweb_rt.database.notifications import NotificationType
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.database.users import Role, User
from jasaweb_rt.domain.events import AdminsAlerted, AnnouncementMade, Emit
from jasaweb_rt.domain.transactions import in_transaction
from jasaweb_rt.exceptions import NotFoundError
from jasaweb_rt.messages import AdminAlert, Audience, SystemAnnouncement

__all__ = ["ROLES", "AnnouncementService", "RoleNotifier"]

ROLES: dict[Audience, Role | None] = {"admins": "admin", "clients": "client", "all": None}
"""The role that an audience has; None: any."""


class RoleNotifier(Protocol):
    """Stores a notification for many inside the caller's transaction."""

    async def notify_role(
        self,
        role: Role | None,
        type: NotificationType,  # noqa: A002  # the word of the table and of the frame
        *,
        title: str,
        message: str,
        data: Any = None,  # noqa: ANN401  # whatever msgspec encodes as a JSON object
        connection: asyncpg.Connection,
    ) -> list[str]:
        """Inserts it for all who have `role`, by one statement, and returns the ids."""


class AnnouncementService:
    """Announces and alerts, durably: who is away finds it later."""

    def __init__(self, connect: Connect, notifier: RoleNotifier, emit: Emit) -> None:
        self._connect = connect
        self._notifier = notifier
        self._emit = emit

    async def announce(self, announcement: SystemAnnouncement, audience: Audience, actor: User) -> int:
        """Tells everyone in `audience` in the name of `actor`, and returns how many there are.

        Raises:
            ConflictError: others kept changing the same rows.
        """

        async def work(connection: asyncpg.Connection) -> list[str]:
            return await self._notifier.notify_role(
                ROLES[audience],
                announcement.message_type,
                title=announcement.title,
                message=announcement.message,
                data=msgspec.to_builtins(announcement),
                connection=connection,
            )

        count = len(await in_transaction(self._connect, work))
        self._emit(AnnouncementMade(announcement=announcement, audience=audience, recipients=count, by=actor.name))
        return count

    async def alert_admins(self, alert: AdminAlert, actor: User) -> int:
        """Tells every administrator in the name of `actor`, and returns how many there are.

        Raises:
            NotFoundError: the alert names a project that does not exist.
            ConflictError: others kept changing the same rows.
        """

        async def work(connection: asyncpg.Connection) -> list[str]:
            if isinstance(alert.project_id, str) and await projects.get(connection, alert.project_id) is None:
                raise NotFoundError("There is no such project")
            return await self._notifier.notify_role(
                "admin",
                alert.message_type,
                title=alert.event,
                message=alert.message,
                data=msgspec.to_builtins(alert),
                connection=connection,
            )

        count = len(await in_transaction(self._connect, work))
        self._emit(AdminsAlerted(alert=alert, recipients=count, by=actor.name))
        return count
