"""What happens when a project's status changes: who is told, and in which words."""

from collections.abc import Sequence

import asyncpg
import msgspec

from jasaweb_rt.database import projects, users
from jasaweb_rt.database.notifications import NewNotification
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.database.projects import Project
from jasaweb_rt.database.users import User
from jasaweb_rt.domain.events import Emit, ProjectStatusChanged
from jasaweb_rt.domain.notices import Notifier, notification
from jasaweb_rt.domain.transactions import in_transaction
from jasaweb_rt.exceptions import NotFoundError
from jasaweb_rt.messages import AdminAlert, ProjectStatus, ProjectUpdate

__all__ = ["ProjectService", "StatusChange", "change_status"]


class StatusChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change that is to be written, and what it tells."""

    project_id: str
    owner_id: str
    new_status: str
    by: str
    to_owner: ProjectUpdate
    to_admins: AdminAlert

    def notifications(self, admin_ids: Sequence[str]) -> list[NewNotification]:
        """The rows to store: one for the owner, one for each administrator."""
        alert = self.to_admins
        return [
            notification(self.owner_id, "Project updated", self.to_owner.message, self.to_owner),
            *(notification(admin_id, "Project status changed", alert.message, alert) for admin_id in admin_ids),
        ]

    @property
    def event(self) -> ProjectStatusChanged:
        """What is to be emitted once it is committed."""
        return ProjectStatusChanged(
            project_id=self.project_id,
            project_name=self.to_owner.project_name,
            owner_id=self.owner_id,
            old_status=self.to_owner.old_status,
            new_status=self.new_status,
            by=self.by,
        )


def change_status(project: Project, new_status: ProjectStatus, by: str) -> StatusChange | None:
    """What follows when `by`, a name, sets the status of `project`; None where it has that status already."""
    if project.status == new_status:
        return None
    return StatusChange(
        project_id=project.id,
        owner_id=project.user_id,
        new_status=new_status,
        by=by,
        to_owner=ProjectUpdate(
            project_id=project.id,
            project_name=project.name,
            old_status=project.status,
            new_status=new_status,
            message=f'Project "{project.name}" status updated to {new_status}',
        ),
        to_admins=AdminAlert(
            event="project_status_change",
            message=f'Project "{project.name}" status changed to {new_status} by {by}',
            project_id=project.id,
            requires_action=False,
        ),
    )


class ProjectService:
    """Reads and changes projects, each change in one transaction with what it tells."""

    def __init__(self, connect: Connect, notifier: Notifier, emit: Emit) -> None:
        self._connect = connect
        self._notifier = notifier
        self._emit = emit

    async def list_for(self, user: User) -> list[Project]:
        """The projects that `user` may see: an administrator all, others their own."""
        async with self._connect() as connection:
            return await projects.list_for(connection, None if user.role == "admin" else user.id)

    async def change_status(self, project_id: str, new_status: ProjectStatus, actor: User) -> Project:
        """Sets a project's status and tells its owner and the administrators; the project as it then is.

        Raises:
            NotFoundError: there is no such project.
            ConflictError: others kept changing the same rows.
        """

        async def work(connection: asyncpg.Connection) -> tuple[Project, StatusChange | None]:
            project = await projects.get_for_update(connection, project_id)
            if project is None:
                raise NotFoundError("There is no such project")
            change = change_status(project, new_status, actor.name)
            if change is None:
                return project, None
            changed = await projects.set_status(connection, project_id, new_status)
            if changed is None:
                raise NotFoundError("There is no such project")
            admin_ids = await users.list_ids_by_role(connection, "admin")
            # Last before the commit: the counter rows that it locks stay locked until then.
            await self._notifier.notify_many(change.notifications(admin_ids), connection)
            return changed, change

        project, change = await in_transaction(self._connect, work)
        if change is not None:
            self._emit(change.event)
        return project
