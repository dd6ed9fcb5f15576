"""Every error that this package raises on purpose: one base, `RealtimeError`, and messages fit to be shown.

The core's own errors (`ServerStoppedError`, `OverloadedError`) come from the extension and share the base.
"""

from jasaweb_rt._core import OverloadedError, RealtimeError, ServerStoppedError

__all__ = [
    "ConfigurationError",
    "ConflictError",
    "DatabaseBusyError",
    "DatabaseError",
    "DatabaseFullError",
    "DatabaseUnavailableError",
    "EmbeddedPostgresError",
    "ForbiddenError",
    "InvalidFrameError",
    "InvalidInputError",
    "MigrationError",
    "NotConfiguredError",
    "NotFoundError",
    "OverloadedError",
    "RealtimeError",
    "ServerStoppedError",
    "TooManyRequestsError",
    "UnauthenticatedError",
]


class ConfigurationError(RealtimeError):
    """A setting is missing, unknown or wrong; the message names the variable and the mend."""


class DatabaseError(RealtimeError):
    """Something is wrong with the database or with what it holds."""


class DatabaseUnavailableError(DatabaseError):
    """The database does not answer, or refuses us; the same call may work later."""


class DatabaseBusyError(DatabaseUnavailableError):
    """Every connection that we may have is in use and stays so, or too many wait for one."""


class DatabaseFullError(DatabaseUnavailableError):
    """PostgreSQL has no room left on its disk; what was committed is safe."""


class EmbeddedPostgresError(DatabaseError):
    """The embedded PostgreSQL cannot be started or has ended."""


class MigrationError(DatabaseError):
    """The schema cannot be brought to, or is not at, the version that this package needs."""


class NotConfiguredError(RealtimeError):
    """What was asked for needs a setting that this server was started without; the message names it."""


class UnauthenticatedError(RealtimeError):
    """Nobody is signed in, or what proves it is not valid (any more)."""


class ForbiddenError(RealtimeError):
    """The caller is known and may not do this."""


class NotFoundError(RealtimeError):
    """What the caller named does not exist, or not for this caller."""


class InvalidInputError(RealtimeError):
    """The caller's input breaks a rule; the message names it."""


class ConflictError(RealtimeError):
    """The request does not fit the present state; read it again and decide anew."""


class TooManyRequestsError(RealtimeError):
    """The caller, or all callers together, ask more than is allowed at a time."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which another try makes sense."""


class InvalidFrameError(RealtimeError):
    """A client's frame was refused; nothing was changed by it."""

    def __init__(self, code: str, message: str, ref: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        """What is wrong, for programs: the `code` of the `error` frame."""
        self.message = message
        """What is wrong, for people."""
        self.ref = ref
        """`id` of the frame that was refused, where it had one."""
