"""Passwords as the JasaWeb site stores them: bcrypt. Hashing runs on threads, a bounded number at a time."""

import asyncio
import functools

import bcrypt

from jasaweb_rt.exceptions import InvalidInputError, TooManyRequestsError

__all__ = ["MAX_BYTES", "PasswordChecker", "hash_password"]

MAX_BYTES = 72
"""bcrypt looks at no more than this."""

_ROUNDS = 10  # what the site uses
_AT_ONCE = 2
_WAITING = 32


def hash_password(password: str) -> str:
    """The bcrypt hash of `password`; takes some 50 ms of processor time.

    Raises:
        InvalidInputError: the password is longer than bcrypt looks at, or empty.
    """
    encoded = password.encode()
    if not 0 < len(encoded) <= MAX_BYTES:
        raise InvalidInputError(f"A password has 1 to {MAX_BYTES} bytes.")
    return bcrypt.hashpw(encoded, bcrypt.gensalt(_ROUNDS)).decode()


class PasswordChecker:
    """Compares passwords with hashes without holding up the event loop, or letting a flood of log-ins fill it."""

    def __init__(self) -> None:
        self._running = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether `password` is the one behind `password_hash`.

        None, for a user who does not exist, takes as long as a wrong password, so that addresses cannot be found out by
        the clock.

        Raises:
            TooManyRequestsError: too many checks wait already.
        """
        if self._waiting >= _WAITING:
            raise TooManyRequestsError("Too many log-ins at once; try again in a moment.", retry_after=2)
        self._waiting += 1
        try:
            async with self._running:
                same = await asyncio.to_thread(_compare, password, password_hash or _hash_of_nobody())
        finally:
            self._waiting -= 1
        return same and password_hash is not None


def _compare(password: str, password_hash: str) -> bool:
    try:
        # The site's bcrypt cuts a longer password off here, ours would refuse it.
        return bcrypt.checkpw(password.encode()[:MAX_BYTES], password_hash.encode())
    except ValueError:  # not a bcrypt hash, or a surrogate that has no bytes: nobody's password
        return False


@functools.cache
def _hash_of_nobody() -> str:
    return bcrypt.hashpw(b"nobody", bcrypt.gensalt(_ROUNDS)).decode()
