"""Passwords as the JasaWeb site stores them: bcrypt. Hashing runs on threads, a bounded number at a time."""

import asyncio
import os
import re

import bcrypt

from jasaweb_rt.exceptions import InvalidInputError, TooManyRequestsError

__all__ = ["MAX_BYTES", "PasswordChecker", "hash_password"]

MAX_BYTES = 72
"""bcrypt looks at no more than this."""

_ROUNDS = 10  # what the site uses
# Each keeps a core busy: a flood of log-ins gets half of them.
_AT_ONCE = max(1, (os.cpu_count() or 1) // 2)
_WAITING = 32
# https://github.com/dcodeIO/bcrypt.js#usage---sync and others write 2a, 2b or 2y; then the cost, salt and hash.
_HASH = re.compile(r"\$2[abxy]\$(\d\d)\$[./A-Za-z0-9]{53}")
_OF_NOBODY = "z.b6uBrUldD8BT3tPazBK.dwOKvUU1v7RLJgeFm.zwFm7OC.v/vC2"


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

    async def matches(self, password: str, password_hash: str | None, another_hash: str | None = None) -> bool:
        """Whether `password` is the one behind `password_hash`.

        None, for a user who does not exist, or what is no bcrypt hash, takes as long as a wrong password of the user
        who has `another_hash`, so that nobody is found out by the clock.

        Raises:
            TooManyRequestsError: too many checks wait already.
        """
        if self._waiting >= _WAITING:
            raise TooManyRequestsError("Too many log-ins at once; try again in a moment.", retry_after=2)
        is_hash = _HASH.fullmatch(password_hash or "") is not None
        compared = password_hash if password_hash and is_hash else _hash_of_nobody(another_hash)
        self._waiting += 1
        try:
            async with self._running:
                same = await asyncio.to_thread(_compare, password, compared)
        finally:
            self._waiting -= 1
        return same and is_hash


def _compare(password: str, password_hash: str) -> bool:
    try:
        # The site's bcrypt cuts a longer password off here, ours would refuse it.
        return bcrypt.checkpw(password.encode()[:MAX_BYTES], password_hash.encode())
    except ValueError:  # a surrogate that has no bytes, or no salt: nobody's password
        return False


def _hash_of_nobody(another_hash: str | None) -> str:
    """A hash that is as much work as another one."""
    another = _HASH.fullmatch(another_hash or "")
    return f"$2b${another[1] if another else _ROUNDS}${_OF_NOBODY}"
