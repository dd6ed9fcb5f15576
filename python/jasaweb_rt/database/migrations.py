"""Brings a database to the shape that this version needs: numbered files of plain SQL, each applied once.

Any number of nodes may start at once: one applies, the others wait for its advisory lock and find nothing to do. A file
is `NNNN_name.sql`, numbered from 0001 without a gap. It runs in one transaction, together with the row that records it,
under a `lock_timeout` that keeps it from standing in a live site's way; if the lock is not to be had, it is tried again
some times. A file that begins with `-- no-transaction` runs bare: it must hold one statement (CREATE INDEX
CONCURRENTLY) that does no harm when it is run again, since a crash may come between it and its record.
"""

import asyncio
import hashlib
import importlib.resources
import logging
import re
import time
from importlib.resources.abc import Traversable
from typing import Any, Final

import asyncpg
import msgspec

from jasaweb_rt.database import grants
from jasaweb_rt.database.errors import is_unavailable, unavailable
from jasaweb_rt.database.pool import connect, describe
from jasaweb_rt.exceptions import MigrationError

logger = logging.getLogger(__name__)

MIGRATION_LOCK: Final = 0x6A61736177656203
"""Advisory lock of whoever migrates: "jasaweb", 3."""

OLDEST_POSTGRES: Final = 14
"""Its major version."""
# By table: its triggers, and the mend where the table was made anew. The first mend includes the second.
_TRIGGERS: Final = (
    (
        "real_time_notifications",
        frozenset({"jasaweb_rt_inserted", "jasaweb_rt_updated", "jasaweb_rt_deleted", "jasaweb_rt_truncated"}),
        "enable them and run `jasaweb-rt check --mend`, or where the table was made anew, run DROP SCHEMA jasaweb_rt "
        "CASCADE and migrate again, which numbers its rows anew",
    ),
    (
        "users",
        frozenset({"jasaweb_rt_changed", "jasaweb_rt_deleted", "jasaweb_rt_truncated"}),
        "enable them, or where the table was made anew, run the CREATE TRIGGER statements of migration 0008_standing "
        "again",
    ),
)
# Not by to_regclass, which a role without rights on the schema may not ask.
_HAS_RECORD = """
    select exists (
      select from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'jasaweb_rt' and c.relname = 'migrations'
    )
"""
_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_NO_TRANSACTION = "-- no-transaction"
_LOCK_TIMEOUT = "5s"
_LOCK_ATTEMPTS = 6
_TURN_SECONDS = 900.0


class Migration(msgspec.Struct, frozen=True):
    """One file."""

    version: int
    name: str
    """File name without its ending: `0001_site_tables`."""
    sql: str
    checksum: str
    """SHA-256 of the text, line ends as LF, in hexadecimal."""

    @property
    def transactional(self) -> bool:
        """False where the file says that it must run outside of a transaction."""
        return not self.sql.startswith(_NO_TRANSACTION)


def load_migrations(directory: Traversable | None = None) -> list[Migration]:
    """The files in `directory`, by default those of this package, in order. MigrationError: a bad name or number."""
    if directory is None:
        directory = importlib.resources.files("jasaweb_rt") / "migrations"
    migrations = []
    for file in sorted(
        (entry for entry in directory.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name
    ):
        match = _NAME.fullmatch(file.name)
        if match is None:
            raise MigrationError(f"Migration {file.name} must be named like 0001_what_it_does.sql")
        sql = file.read_bytes().decode("utf-8").replace("\r\n", "\n")
        checksum = hashlib.sha256(sql.encode()).hexdigest()
        migrations.append(
            Migration(version=int(match[1]), name=file.name.removesuffix(".sql"), sql=sql, checksum=checksum)
        )
    for expected, migration in enumerate(migrations, start=1):
        if migration.version != expected:
            raise MigrationError(
                f"Migration {migration.name} should have the number {expected:04d}: no gaps, no duplicates"
            )
    return migrations


async def migrate(
    url: str,
    *,
    directory: Traversable | None = None,
    turn_seconds: float = _TURN_SECONDS,
    grant_to: str | None = None,
) -> list[str]:
    """Applies what is missing and returns the names of the files that this call applied.

    Where nothing is missing, nothing is written, so a role that only runs may call it too. `grant_to` is a role that is
    then given the rights of a running server, as far as it has not got them (`database.grants`).

    Waits up to `turn_seconds` for another process that migrates. `MigrationError`: a file failed (and was rolled back),
    was edited after it was applied, or the database is older than PostgreSQL 14 or newer than this version of the
    package. `DatabaseUnavailableError`: no connection.
    """
    migrations = load_migrations(directory)
    connection = await _connect(url)
    try:
        await _take_turn(connection, turn_seconds)
        if not await connection.fetchval(_HAS_RECORD):
            await connection.execute(
                """
                create schema if not exists jasaweb_rt;
                create table jasaweb_rt.migrations (
                  version integer primary key,
                  name text not null,
                  checksum text not null,
                  applied_at timestamptz not null default now(),
                  duration_ms integer not null
                );
                """
            )
        missing = _missing(migrations, await _applied(connection))
        for migration in missing:
            await _apply(connection, migration)
        if directory is None:
            await _check_triggers(connection)
        if grant_to is not None:
            for statement in await grants.grant(connection, grant_to):
                logger.info("%s", statement)
        return [migration.name for migration in missing]
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise _as_ours(error, url, connection) from error
    finally:
        # Closing the session frees the lock, also where the server no longer answers.
        await _close(connection)


async def migrate_for(url: str, migrate_url: str | None) -> list[str]:
    """As `migrate`, as the role of `migrate_url` where there is one; that of `url` is then given its rights to run."""
    if migrate_url is None:
        return await migrate(url)
    connection = await connect(url, application_name="jasaweb-rt migrate")
    try:
        role = await grants.role_of(connection)
    finally:
        await _close(connection)
    return await migrate(migrate_url, grant_to=role)


async def pending(url: str, *, directory: Traversable | None = None) -> list[str]:
    """Names of the files that `migrate` would apply; changes nothing. Raises as `migrate` does."""
    migrations = load_migrations(directory)
    connection = await _connect(url)
    try:
        exists = await connection.fetchval(_HAS_RECORD)
        missing = _missing(migrations, await _applied(connection) if exists else {})
        if directory is None and not missing:
            await _check_triggers(connection)
        return [migration.name for migration in missing]
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise _as_ours(error, url, connection) from error
    finally:
        await _close(connection)


async def check_rights(url: str) -> None:
    """Raises MigrationError where the role of `url` lacks rights of a running server; everything must be migrated."""
    connection = await _connect(url)
    try:
        await grants.require(connection)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise _as_ours(error, url, connection) from error
    finally:
        await _close(connection)


async def _connect(url: str) -> asyncpg.Connection:
    # A connection of its own: the lock lives as long as the session. Files name every schema, so nothing else is on the
    # path.
    connection = await connect(
        url,
        application_name="jasaweb-rt migrate",
        statement_timeout=0,
        lock_timeout=0,
        server_settings={"search_path": "pg_catalog"},
    )
    version = connection.get_server_version()
    if version.major < OLDEST_POSTGRES:
        await _close(connection)
        raise MigrationError(
            f"{describe(url)} is version {version.major}; PostgreSQL {OLDEST_POSTGRES} or newer is needed"
        )
    return connection


async def _close(connection: asyncpg.Connection) -> None:
    try:
        await connection.close(timeout=5)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        connection.terminate()


async def _take_turn(connection: asyncpg.Connection, seconds: float) -> None:
    # Polled: a statement that waits for the lock holds a snapshot, for which CREATE INDEX CONCURRENTLY waits in turn.
    deadline = time.monotonic() + seconds
    while not await connection.fetchval("select pg_try_advisory_lock($1)", MIGRATION_LOCK):
        if time.monotonic() > deadline:
            raise MigrationError(
                f"Another process has been migrating this database for {seconds:g} s; see what holds it up"
            )
        await asyncio.sleep(0.05)


async def _applied(connection: asyncpg.Connection) -> dict[int, Any]:
    rows = await connection.fetch("select version, name, checksum from jasaweb_rt.migrations")
    return {row["version"]: row for row in rows}


def _missing(migrations: list[Migration], applied: dict[int, Any]) -> list[Migration]:
    newer = sorted(row["name"] for version, row in applied.items() if version > len(migrations))
    if newer:
        raise MigrationError(
            f"The database is newer than this version of jasaweb-rt (it has {', '.join(newer)}); install a newer one"
        )
    for migration in migrations:
        row = applied.get(migration.version)
        if row is not None and (row["checksum"] != migration.checksum or row["name"] != migration.name):
            raise MigrationError(
                f"Migration {migration.name} was edited after it was applied (as {row['name']}); restore it, "
                "and put the change into a new file"
            )
    return [migration for migration in migrations if migration.version not in applied]


async def _check_triggers(connection: asyncpg.Connection) -> None:
    """Whoever drops such a table and makes it anew (`prisma migrate reset`) takes our triggers with it."""
    for table, triggers, mend in _TRIGGERS:
        rows = await connection.fetch(
            """
            select tgname from pg_trigger
            where tgrelid = to_regclass($1) and not tgisinternal and tgenabled in ('O', 'A')
            """,
            f"public.{table}",
        )
        absent = sorted(triggers - {row["tgname"] for row in rows})
        if absent:
            raise MigrationError(f"The table {table} has lost its triggers ({', '.join(absent)}): {mend}")


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    for attempt in range(1, _LOCK_ATTEMPTS + 1):
        try:
            if migration.transactional:
                async with connection.transaction():
                    await connection.execute(f"set local lock_timeout = '{_LOCK_TIMEOUT}'")
                    await _run(connection, migration)
            else:
                await connection.execute(f"set lock_timeout = '{_LOCK_TIMEOUT}'")
                await _run(connection, migration)
                await connection.execute("reset lock_timeout")
        except asyncpg.LockNotAvailableError as error:
            if attempt == _LOCK_ATTEMPTS:
                raise MigrationError(
                    f"Migration {migration.name} got no lock ({error.message}) in {attempt} times {_LOCK_TIMEOUT}; "
                    "end the long transaction that holds it, then try again"
                ) from error
            # Those who queued behind our lock request get through before we ask again.
            await asyncio.sleep(0.5)
        except asyncpg.PostgresError as error:
            if is_unavailable(error, connection) or isinstance(error, asyncpg.InsufficientPrivilegeError):
                raise
            hint = f" ({error.hint})" if error.hint else ""
            undone = "was rolled back" if migration.transactional else "failed half-way"
            raise MigrationError(f"Migration {migration.name} {undone}: {error.message}{hint}") from error
        else:
            return


async def _run(connection: asyncpg.Connection, migration: Migration) -> None:
    begun = time.monotonic()
    await connection.execute(migration.sql)
    await connection.execute(
        "insert into jasaweb_rt.migrations (version, name, checksum, duration_ms) values ($1, $2, $3, $4)",
        migration.version,
        migration.name,
        migration.checksum,
        round((time.monotonic() - begun) * 1000),
    )


def _as_ours(error: Exception, url: str, connection: asyncpg.Connection) -> Exception:
    if is_unavailable(error, connection):
        return unavailable(error, describe(url))
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return MigrationError(
            f"{error.message}; migrate as a role that may create (JASAWEB_RT_MIGRATE_URL), and let it give this one "
            "its rights: `jasaweb-rt migrate --grant-to ROLE`"
        )
    return MigrationError(f"The migrations could not be applied: {error}")
