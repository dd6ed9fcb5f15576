"""The database: whether it can be reached, is of the right version and shape, and lets us do what a server does."""

import time
from collections.abc import AsyncIterator
from typing import Final

import asyncpg

from jasaweb_rt.config import PREFIX, Settings
from jasaweb_rt.database import embedded_binaries, fitness, grants, migrations, nodes, pool
from jasaweb_rt.database.embedded import running_url
from jasaweb_rt.doctor.findings import Finding, Verdict
from jasaweb_rt.exceptions import ConfigurationError, DatabaseError, EmbeddedPostgresError, MigrationError

__all__ = ["CONNECTIONS", "look"]

CONNECTIONS: Final = 22
"""What a server may open: 10 for requests, 11 for the gateway, 1 for the relay."""

# A token is refused that was issued in the future; and who sees times of two machines side by side is misled earlier.
_CLOCK_WRONG: Final = 30.0
_CLOCK_ADVICE: Final = 1.0


async def look(settings: Settings) -> AsyncIterator[Finding]:
    """Says what is to be said of the database of `settings`; changes nothing in it."""
    url = settings.database_url or running_url(settings.data_dir)
    if settings.database_url is None:
        yield _embedded(is_running=url is not None)
    if url is None:
        return
    try:
        where = pool.describe(url)
        connection = await pool.connect(url, application_name="jasaweb-rt doctor")
    except (ConfigurationError, DatabaseError) as error:
        yield _finding("wrong", _sentence(error))
        return
    try:
        version = connection.get_server_version()
        if version.major < migrations.OLDEST_POSTGRES:
            yield _finding(
                "wrong",
                f"{where} is version {version.major}; PostgreSQL {migrations.OLDEST_POSTGRES} or newer is needed",
            )
            return
        yield _finding("ok", f"{where} answers, version {version.major}.{version.minor}")
        before = time.time()
        found = await fitness.fitness_of(connection)
        yield _clock(found.clock.timestamp(), before, time.time())
        if found.is_read_only:
            yield _finding("wrong", f"{where} can only be read (a standby?); name the primary in DATABASE_URL")
        yield _commit_times(found)
        is_migrated = True
        async for finding in _shape(settings, url):
            is_migrated = is_migrated and finding.verdict != "wrong"
            yield finding
        if is_migrated:
            yield await _rights(connection)
        servers = await nodes.count(connection) if is_migrated else 0
        if servers > 1 and not settings.nats_url:
            yield _finding(
                "advice",
                f"{servers} servers share {where}, and {PREFIX}NATS_URL is not set: what one sends reaches the others' "
                "connections by comparison alone, seconds later; set it, unless one is just taking over from another",
            )
        yield _room(found, servers)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        yield _finding("wrong", f"{where} does not answer all questions ({error or type(error).__name__}); see its log")
    finally:
        await connection.close(timeout=5)


def _embedded(*, is_running: bool) -> Finding:
    try:
        embedded_binaries.find_binaries()
    except EmbeddedPostgresError as error:
        return _finding("wrong", _sentence(error))
    runs = "runs" if is_running else "will be started"
    return _finding(
        "advice",
        f"DATABASE_URL is not set, so the embedded PostgreSQL {runs}; fit for a trial and a small site on one machine, "
        "else set DATABASE_URL",
    )


async def _shape(settings: Settings, url: str) -> AsyncIterator[Finding]:
    """Migrations and triggers; and whether the role that migrates, if it has a URL of its own, can come in."""
    try:
        lacking = await migrations.pending(url)
        if settings.migrate_url is not None:
            await migrations.pending(settings.migrate_url)
    except (ConfigurationError, DatabaseError) as error:
        yield _finding("wrong", _sentence(error))
        return
    if lacking:
        yield _finding("wrong", f"migrations are missing ({', '.join(lacking)}); run `jasaweb-rt migrate`")
    else:
        yield _finding("ok", "no migration is missing, and the triggers are there")


async def _rights(connection: asyncpg.Connection) -> Finding:
    try:
        await grants.require(connection)
    except MigrationError as error:
        return _finding("wrong", _sentence(error))
    return _finding("ok", f"the role {await grants.role_of(connection)} has the rights that a server needs")


def _room(found: fitness.Fitness, servers: int) -> Finding:
    left = max(0, found.room - max(0, found.others))
    wanted = CONNECTIONS * max(1, servers)
    many = f"{servers} servers" if servers > 1 else "a server"
    if left < wanted:
        return _finding(
            "wrong",
            f"{found.room} connections are allowed and {found.others} are others', which leaves {left} where {many} "
            f"may open {wanted}; raise max_connections (or the limit of the role or database)",
        )
    return _finding("ok", f"{left} connections are left for {many}, which may open {wanted}")


def _clock(theirs: float, before: float, after: float) -> Finding:
    # Where in between the question was answered is not known, so only what lies outside is a difference.
    difference = before - theirs if theirs < before else max(0.0, theirs - after)
    text = f"the clocks of this machine and of PostgreSQL differ by {difference:.1f} s"
    if difference >= _CLOCK_WRONG:
        return _finding("wrong", f"{text}; keep both by NTP (timedatectl)")
    if difference >= _CLOCK_ADVICE:
        return _finding("advice", f"{text}; keep both by NTP (timedatectl)")
    return _finding("ok", text)


def _commit_times(found: fitness.Fitness) -> Finding:
    if found.keeps_commit_times:
        return _finding("ok", "commit times are kept, so a trace can say when")
    return _finding(
        "advice",
        "track_commit_timestamp is off, so `jasaweb-rt trace` cannot say when something was committed; "
        "ALTER SYSTEM SET track_commit_timestamp = on, then restart PostgreSQL",
    )


def _finding(verdict: Verdict, text: str) -> Finding:
    return Finding(verdict, "database", text)


def _sentence(error: Exception) -> str:
    return str(error).rstrip(".")
