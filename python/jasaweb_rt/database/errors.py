"""Tells trouble with the connection, which passes, from an error of a statement, which does not."""

import contextlib
from collections.abc import Iterator

import asyncpg

from jasaweb_rt.exceptions import DatabaseFullError, DatabaseUnavailableError

# SQLSTATE classes and codes, https://www.postgresql.org/docs/current/errcodes-appendix.html
_UNAVAILABLE = (
    "08",  # connection exceptions
    "28",  # invalid authorization
    "3D000",  # the database does not exist
    "53",  # insufficient resources: disk full, out of memory, too many connections
    "57P",  # the server shuts down, crashed or starts up; the database was dropped
)


def is_unavailable(error: BaseException, connection: asyncpg.Connection | None = None) -> bool:
    """Whether PostgreSQL cannot be reached, refuses us, went away or lacks room, rather than that a statement is wrong.

    asyncpg reports misuse and a lost connection by one class, `InterfaceError`; it counts where `connection`, on which
    it happened, is closed. So does an `OSError`, which while connecting (`connection` is None) always counts.
    """
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate or "").startswith(_UNAVAILABLE)
    if isinstance(error, OSError):
        return connection is None or _is_closed(connection)
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return connection is not None and _is_closed(connection)
    return False


def is_timeout(error: BaseException) -> bool:
    """Whether a statement was ended because it took too long, or waited too long for a lock that others held."""
    return isinstance(error, asyncpg.QueryCanceledError | asyncpg.LockNotAvailableError)


def is_fault_of_rows(error: asyncpg.PostgresError) -> bool:
    """Whether a row that was to be written is at fault, as others would not be: its values, or a constraint."""
    # Data exceptions, and violations of integrity.
    return str(error.sqlstate or "").startswith(("22", "23"))


def unavailable(error: BaseException, where: str = "PostgreSQL") -> DatabaseUnavailableError:
    """The error that callers see for `error`; `where` names the server, without its password."""
    # PostgreSQL's details and hints stand on lines of their own.
    cause = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    if isinstance(error, asyncpg.DiskFullError):
        return DatabaseFullError(
            f"{where} has no room left on its disk ({cause}); free some, and all goes on by itself"
        )
    return DatabaseUnavailableError(
        f"{where} is not available ({cause}); see that it runs and that DATABASE_URL is right"
    )


@contextlib.contextmanager
def database_errors(where: str = "PostgreSQL", connection: asyncpg.Connection | None = None) -> Iterator[None]:
    """Turns connection trouble inside the block into `DatabaseUnavailableError`; other errors pass as they are."""
    try:
        yield
    except Exception as error:
        if not is_unavailable(error, connection):
            raise
        raise unavailable(error, where) from error


def _is_closed(connection: asyncpg.Connection) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        # The pool takes back a lost connection by itself, and then even this may not be asked of it.
        return True
