"""Connections to PostgreSQL, all opened with the same settings; reads `DATABASE_URL` as Prisma writes it."""

import contextlib
import logging
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from jasaweb_rt import config_source
from jasaweb_rt.database.errors import database_errors, is_unavailable, unavailable
from jasaweb_rt.exceptions import ConfigurationError, DatabaseBusyError

logger = logging.getLogger(__name__)

Connect = Callable[[], contextlib.AbstractAsyncContextManager[asyncpg.Connection]]
"""Lends a connection of a pool, or raises `DatabaseUnavailableError`."""

_CONNECT_SECONDS = 10.0
_STATEMENT_SECONDS = 30.0
_LOCK_SECONDS = 10.0
# We never wait for anybody in a transaction; a process that was stopped in one must not keep its locks.
_IDLE_IN_TRANSACTION_SECONDS = 60

# Moments travel as microseconds since 2000, https://www.postgresql.org/docs/current/datatype-datetime.html
_MOMENT_ZERO = datetime(2000, 1, 1, tzinfo=UTC)
_FIRST_MOMENT = (datetime.min.replace(tzinfo=UTC) - _MOMENT_ZERO) // timedelta(microseconds=1)
_LAST_MOMENT = (datetime.max.replace(tzinfo=UTC) - _MOMENT_ZERO) // timedelta(microseconds=1)

# Parameters of Prisma's engine and of libpq. asyncpg would send them to the server as settings, which refuses the
# connection.
_NOT_SERVER_SETTINGS = frozenset(
    {
        "channel_binding",
        "connect_timeout",
        "connection_limit",
        "fallback_application_name",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "max_connection_lifetime",
        "max_idle_connection_lifetime",
        "pgbouncer",
        "pool_timeout",
        "schema",
        "single_use_connections",
        "socket_timeout",
        "sslaccept",
        "sslidentity",
        "statement_cache_size",
    }
)


class _Target(msgspec.Struct, frozen=True):
    """A `DATABASE_URL`, taken apart."""

    url: str
    where: str
    """Host, port and database, for messages: no user, no password."""
    pgbouncer: bool
    """The URL says that a pooler stands in between, so prepared statements cannot be kept."""


def _parse(url: str) -> _Target:
    parsed = urllib.parse.urlsplit(config_source.database_url("DATABASE_URL", url))
    parameters = urllib.parse.parse_qsl(parsed.query)
    port = parsed.port
    given = dict(parameters)
    schema = given.get("schema", "public")
    if schema != "public":
        raise ConfigurationError(f"DATABASE_URL names the schema {schema!r}; the tables must lie in the schema public")
    host = parsed.hostname or given.get("host") or "localhost"
    database = urllib.parse.unquote(parsed.path.removeprefix("/")) or given.get("dbname", "")
    kept = [(name, value) for name, value in parameters if name not in _NOT_SERVER_SETTINGS]
    # quote_via: a space must stay %20, asyncpg does not take + for one in every field.
    query = urllib.parse.urlencode(kept, quote_via=urllib.parse.quote)
    return _Target(
        url=urllib.parse.urlunsplit(parsed._replace(query=query)),
        where=f"PostgreSQL at {host}{f':{port}' if port else ''}{f'/{database}' if database else ''}",
        pgbouncer=given.get("pgbouncer") == "true",
    )


def _options(
    target: _Target,
    application_name: str,
    statement_seconds: float,
    lock_seconds: float,
    settings: Mapping[str, str] | None,
) -> dict[str, Any]:
    options: dict[str, Any] = {
        "timeout": _CONNECT_SECONDS,
        # Ours ends a statement when the server itself has vanished; a moment later than the server would.
        "command_timeout": statement_seconds + 5 if statement_seconds else None,
        "server_settings": {
            "application_name": application_name,
            "timezone": "UTC",
            # Every statement of ours is short; compiling one that is estimated wrongly takes longer than running it.
            "jit": "off",
            "statement_timeout": str(int(statement_seconds * 1000)),
            "lock_timeout": str(int(lock_seconds * 1000)),
            "idle_in_transaction_session_timeout": f"{_IDLE_IN_TRANSACTION_SECONDS}s",
            # A peer that lost its power is found dead in some 10 s, and its locks with it.
            "tcp_keepalives_idle": "5",
            "tcp_keepalives_interval": "2",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": "10000",
            **(settings or {}),
        },
    }
    if target.pgbouncer:
        options["statement_cache_size"] = 0
    return options


def _encode_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _encode_moment(moment: datetime) -> tuple[int]:
    return ((moment.astimezone(UTC) - _MOMENT_ZERO) // timedelta(microseconds=1),)


def _decode_moment(value: tuple[int]) -> datetime:
    return _MOMENT_ZERO + timedelta(microseconds=min(max(value[0], _FIRST_MOMENT), _LAST_MOMENT))


async def _prepare(connection: asyncpg.Connection) -> None:
    # PostgreSQL's calendar reaches further than Python's, and asyncpg fails there: one odd row must not hold up others.
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=_encode_moment, decoder=_decode_moment, format="tuple"
    )
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, schema="pg_catalog", encoder=_encode_json, decoder=msgspec.json.decode)


def describe(url: str) -> str:
    """Host, port and database of `url`, for messages: no user, no password. ConfigurationError: not PostgreSQL's."""
    return _parse(url).where


async def connect(
    url: str,
    *,
    application_name: str = "jasaweb-rt",
    statement_timeout: float = _STATEMENT_SECONDS,
    lock_timeout: float = _LOCK_SECONDS,
    server_settings: Mapping[str, str] | None = None,
) -> asyncpg.Connection:
    """Opens one connection, set up as the pool's are, for those who must keep it: listeners, holders of advisory locks.

    Time-outs are in seconds, 0 is none. Raises `DatabaseUnavailableError`, or `ConfigurationError` for a URL that
    cannot be used.
    """
    target = _parse(url)
    with database_errors(target.where), _configuration_errors():
        connection = await asyncpg.connect(
            target.url, **_options(target, application_name, statement_timeout, lock_timeout, server_settings)
        )
    try:
        with database_errors(target.where, connection):
            await _prepare(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def create_pool(
    url: str,
    *,
    max_size: int = 10,
    application_name: str = "jasaweb-rt",
    statement_timeout: float = _STATEMENT_SECONDS,
    lock_timeout: float = _LOCK_SECONDS,
) -> asyncpg.Pool:
    """Opens a pool of up to `max_size` connections: time zone UTC, JSON by msgspec, time-outs on the server.

    Time-outs are in seconds. The first connection is made here, so that trouble shows at once:
    `DatabaseUnavailableError`, or `ConfigurationError` for a URL that cannot be used. The caller closes the pool.
    """
    target = _parse(url)
    with database_errors(target.where), _configuration_errors():
        # A pool with a least size logs a traceback for each attempt to keep it while the database is away.
        pool = await asyncpg.create_pool(
            target.url,
            min_size=0,
            max_size=max_size,
            init=_prepare,
            **_options(target, application_name, statement_timeout, lock_timeout, None),
        )
        try:
            await pool.release(await pool.acquire())
        except BaseException:
            pool.terminate()
            raise
        return pool


@contextlib.asynccontextmanager
async def acquire(pool: asyncpg.Pool, *, timeout: float = 10.0) -> AsyncIterator[asyncpg.Connection]:  # noqa: ASYNC109
    """Lends a connection of `pool`, for which it waits `timeout` seconds at most.

    `DatabaseUnavailableError`: none was to be had, or it was lost inside the block; `DatabaseBusyError` where all that
    the pool may have stay in use. Other errors pass as they are.
    """
    try:
        lease = pool.acquire(timeout=timeout)
        connection = await lease
    except Exception as error:
        if isinstance(error, TimeoutError):
            if pool.get_size() >= pool.get_max_size():
                raise DatabaseBusyError(
                    f"All {pool.get_size()} connections to PostgreSQL are in use, and none became free within "
                    f"{timeout:g} s; look in pg_stat_activity for what holds them up"
                ) from error
            raise unavailable(
                TimeoutError(f"no connection within {timeout:g} s, {pool.get_size()} are open")
            ) from error
        # Nothing was asked of it yet, so what asyncpg takes for misuse is a connection that breaks just now.
        if not (is_unavailable(error) or isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError)):
            raise
        raise unavailable(error) from error
    try:
        with database_errors(connection=connection):
            yield connection
    finally:
        await _release(pool, connection)


async def _release(pool: asyncpg.Pool, connection: asyncpg.Connection) -> None:
    # The pool resets what it takes back. A connection that breaks in that moment is thrown away by the pool, and what
    # was done with it stands as it was told.
    try:
        await pool.release(connection)
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresError, OSError) as error:
        logger.debug("a connection broke when it was given back: %s", error)


@contextlib.contextmanager
def _configuration_errors() -> Iterator[None]:
    try:
        yield
    except asyncpg.exceptions.ClientConfigurationError as error:
        raise ConfigurationError(f"DATABASE_URL cannot be used: {error}") from None
