"""The rights of a role that only runs: what a server needs, on which columns, and nothing else.

Whoever migrates owns the tables and functions of the schema `jasaweb_rt` and may change tables; that role need not be
at hand while a server runs. The triggers act as their owner, so writing notifications takes no right on our tables.
"""

from typing import Final

import asyncpg
import msgspec

from jasaweb_rt.exceptions import MigrationError

__all__ = ["RIGHTS", "Right", "grant", "require", "role_of"]


class Right(msgspec.Struct, frozen=True):
    """What may be done to a table."""

    table: str
    privileges: tuple[str, ...]
    columns: tuple[str, ...] = ()
    """Only these of it; empty: all."""


_ALL: Final = ("select", "insert", "update", "delete")
# Of what a role lacks, so much is said: a role that has got nothing lacks some twenty rights.
_NAMED: Final = 3

RIGHTS: Final = (
    # The site's own: no phone number, no credentials of a project, and nothing to be changed but two states.
    Right("public.users", ("select",), ("id", "email", "password", "name", "role")),
    Right(
        "public.projects",
        ("select",),
        ("id", "user_id", "name", "type", "status", "url", "created_at", "updated_at"),
    ),
    Right("public.projects", ("update",), ("status", "updated_at")),
    Right(
        "public.invoices",
        ("select",),
        ("id", "project_id", "amount", "status", "midtrans_order_id", "qris_url", "paid_at", "created_at"),
    ),
    Right("public.invoices", ("update",), ("status", "paid_at")),
    # The guide's.
    Right("public.real_time_notifications", ("select", "insert")),
    Right("public.real_time_notifications", ("update",), ("read_at",)),
    Right("public.websocket_connections", _ALL),
    Right("public.websocket_messages", _ALL),
    # Ours; counters and feed are the triggers' to write.
    Right("jasaweb_rt.counters", ("select",)),
    Right("jasaweb_rt.ended_sessions", _ALL),
    Right("jasaweb_rt.epoch", ("select",)),
    Right("jasaweb_rt.feed", ("select",)),
    Right("jasaweb_rt.migrations", ("select",)),
    Right("jasaweb_rt.nodes", _ALL),
    Right("jasaweb_rt.outbox", ("select", "delete")),
)

# One row a statement that is still needed: what the role has already, be it as a member of another, is left out.
_MISSING = """
with wanted as (
  select w.n, w.relation, p.privilege, p.ordinal, nullif(w.columns, '') as columns
  from unnest($2::text[], $3::text[], $4::text[]) with ordinality as w (relation, privileges, columns, n)
  cross join lateral string_to_table(w.privileges, ',') with ordinality as p (privilege, ordinal)
), missing as (
  select w.n, w.relation, string_agg(w.privilege, ', ' order by w.ordinal) as privileges, w.columns
  from wanted w
  where case when w.columns is null then not has_table_privilege($1, w.relation, w.privilege)
        else exists (
          select from string_to_table(w.columns, ',') as c (name)
          where not has_column_privilege($1, w.relation, c.name, w.privilege)
        ) end
  group by w.n, w.relation, w.columns
)
select format('grant usage on schema %I to %I', name, $1::text) as statement
from unnest(array['public', 'jasaweb_rt']) with ordinality as s (name, n)
where not has_schema_privilege($1, name, 'usage')
union all
select format('grant %s on %s to %I', case when columns is null then privileges
  else privileges || ' (' || (select string_agg(format('%I', name), ', ' order by n)
                              from string_to_table(columns, ',') with ordinality as c (name, n)) || ')' end,
  relation, $1::text)
from (select * from missing order by n) m
"""


async def role_of(connection: asyncpg.Connection) -> str:
    """The role as which `connection` acts."""
    return str(await connection.fetchval("select current_user"))


async def grant(connection: asyncpg.Connection, role: str) -> list[str]:
    """Gives `role` what of `RIGHTS` it has not yet; returns the statements that did so.

    Raises:
        MigrationError: there is no such role, or `connection` may not give a right away; nothing was granted.
    """
    async with connection.transaction():
        statements = await _missing(connection, role)
        for statement in statements:
            try:
                await connection.execute(statement)
            except asyncpg.InsufficientPrivilegeError as error:
                raise MigrationError(f"{error.message}; have whoever owns it run: {statement}") from error
        # Who has a right but may not pass it on gets a warning from GRANT, and no error.
        if lacking := await _missing(connection, role):
            raise MigrationError(f"Not all rights were granted; have whoever owns it run: {'; '.join(lacking)}")
    return statements


async def require(connection: asyncpg.Connection) -> None:
    """Raises MigrationError where the role of `connection` lacks one of `RIGHTS`."""
    role = await role_of(connection)
    statements = await _missing(connection, role)
    lacking = [statement.removeprefix("grant ").rpartition(" to ")[0] for statement in statements]
    if lacking:
        more = f", and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
        raise MigrationError(
            f"The role {role} lacks rights that a server needs ({'; '.join(lacking[:_NAMED])}{more}); as the role that "
            f"migrates, run `jasaweb-rt migrate --grant-to {role}`"
        )


async def _missing(connection: asyncpg.Connection, role: str) -> list[str]:
    """The statements that `role` still needs."""
    try:
        rows = await connection.fetch(
            _MISSING,
            role,
            [right.table for right in RIGHTS],
            [",".join(right.privileges) for right in RIGHTS],
            [",".join(right.columns) for right in RIGHTS],
        )
    except asyncpg.UndefinedObjectError as error:
        raise MigrationError(f"{error.message}; create it first, for instance by CREATE ROLE … LOGIN") from error
    return [row["statement"] for row in rows]
