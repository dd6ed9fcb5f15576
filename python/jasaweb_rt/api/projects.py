"""Projects: list, and change of status."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, get, patch
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter

from jasaweb_rt.api.errors import SIGNED_IN, documented
from jasaweb_rt.auth.guards import must_be_admin, must_be_signed_in
from jasaweb_rt.database.projects import Project
from jasaweb_rt.database.users import User
from jasaweb_rt.messages import ProjectStatus, timestamp
from jasaweb_rt.services import Services

__all__ = ["ProjectsController"]

# PostgreSQL keeps no NUL, so no project has one in its id.
ProjectId = Annotated[str, PathParameter(max_length=200, pattern=r"^[^\x00]+$")]


class ProjectBody(msgspec.Struct, frozen=True, rename="camel"):
    """A project."""

    id: str
    user_id: str
    name: str
    type: str
    status: str
    url: str | None
    created_at: str
    updated_at: str
    owner_name: str | msgspec.UnsetType | None = msgspec.UNSET
    """Shown to administrators only."""

    @classmethod
    def of(cls, project: Project, reader: User) -> "ProjectBody":
        """As it goes out to `reader`."""
        return cls(
            id=project.id,
            user_id=project.user_id,
            name=project.name,
            type=project.type,
            status=project.status,
            url=project.url,
            created_at=timestamp(project.created_at),
            updated_at=timestamp(project.updated_at),
            owner_name=project.owner_name if reader.role == "admin" else msgspec.UNSET,
        )


class ProjectList(msgspec.Struct, frozen=True):
    """Projects, newest first."""

    items: list[ProjectBody]
    total: int


class StatusBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The status that a project shall have."""

    status: ProjectStatus


class ProjectsController(Controller):
    """Reads for owners and administrators, changes for administrators."""

    path = "/api/projects"
    tags = ["projects"]  # noqa: RUF012  # Litestar's own way

    @get(guards=[must_be_signed_in], security=SIGNED_IN, responses=documented(400, 401))
    async def list_projects(self, request: Request[User, Any, Any], services: NamedDependency[Services]) -> ProjectList:
        """Lists the caller's projects; for an administrator, all."""
        found = await services.projects.list_for(request.user)
        return ProjectList(items=[ProjectBody.of(project, request.user) for project in found], total=len(found))

    @patch(
        "/{project_id:str}",
        guards=[must_be_admin],
        security=SIGNED_IN,
        responses=documented(400, 401, 403, 404, 409, 413, 415),
    )
    async def change_status(
        self,
        request: Request[User, Any, Any],
        project_id: ProjectId,
        data: JSONBody[StatusBody],
        services: NamedDependency[Services],
    ) -> ProjectBody:
        """Sets a project's status and tells its owner and the administrators."""
        changed = await services.projects.change_status(project_id, data.status, request.user)
        return ProjectBody.of(changed, request.user)
