"""The site's table `projects`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import asyncpg
import msgspec

from jasaweb_rt.exceptions import NotFoundError
from jasaweb_rt.messages import ProjectStatus

ProjectType = Literal["sekolah", "berita", "company"]

_COLUMNS = """id, user_id, name, type::text, status::text, url,
  created_at at time zone 'UTC' as created_at, updated_at at time zone 'UTC' as updated_at,
  (select u.name from public.users u where u.id = user_id) as owner_name"""


class Project(msgspec.Struct, frozen=True):
    """A project. Times are aware, in UTC."""

    id: str
    user_id: str
    """Its owner."""
    name: str
    type: ProjectType
    status: ProjectStatus
    url: str | None
    created_at: datetime
    updated_at: datetime
    owner_name: str | None = None


class NewProject(msgspec.Struct, frozen=True):
    """A project to be inserted."""

    id: str
    user_id: str
    name: str
    type: ProjectType
    status: ProjectStatus = "pending_payment"
    url: str | None = None


async def get(connection: asyncpg.Connection, project_id: str) -> Project | None:
    """The project with this id, or None."""
    row = await connection.fetchrow(f"select {_COLUMNS} from public.projects where id = $1", project_id)  # noqa: S608
    return None if row is None else _project(row)


async def get_for_update(connection: asyncpg.Connection, project_id: str) -> Project | None:
    """The project with this id, locked against other writers until the transaction ends; or None."""
    row = await connection.fetchrow(
        f"select {_COLUMNS} from public.projects where id = $1 for no key update",  # noqa: S608
        project_id,
    )
    return None if row is None else _project(row)


async def list_for(connection: asyncpg.Connection, user_id: str | None) -> list[Project]:
    """The projects of a user, or everyone's where `user_id` is None; the newest first."""
    rows = await connection.fetch(
        f"""
        select {_COLUMNS} from public.projects p
        where {"$1::text is null" if user_id is None else "user_id = $1"} order by p.created_at desc, id
        """,  # noqa: S608
        user_id,
    )
    return [_project(row) for row in rows]


async def set_status(connection: asyncpg.Connection, project_id: str, status: ProjectStatus) -> Project:
    """Sets status and `updated_at`; returns the project as it is then. NotFoundError: there is none with this id."""
    row = await connection.fetchrow(
        f"""
        update public.projects set status = $2::text::public."ProjectStatus", updated_at = now() at time zone 'UTC'
        where id = $1 returning {_COLUMNS}
        """,  # noqa: S608
        project_id,
        status,
    )
    if row is None:
        raise NotFoundError(f"There is no project {project_id}")
    return _project(row)


async def insert_missing(connection: asyncpg.Connection, projects: Sequence[NewProject]) -> list[str]:
    """Inserts those of `projects` whose id is free; returns their ids."""
    rows = await connection.fetch(
        """
        insert into public.projects (id, user_id, name, type, status, url, created_at, updated_at)
        select id, user_id, name, type::public."ProjectType", status::public."ProjectStatus", url,
               now() at time zone 'UTC', now() at time zone 'UTC'
        from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
          as new (id, user_id, name, type, status, url)
        on conflict (id) do nothing returning id
        """,
        [project.id for project in projects],
        [project.user_id for project in projects],
        [project.name for project in projects],
        [project.type for project in projects],
        [project.status for project in projects],
        [project.url for project in projects],
    )
    return [row["id"] for row in rows]


def _project(row: asyncpg.Record) -> Project:
    return Project(**dict(row.items()))
