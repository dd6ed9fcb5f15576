"""Runs a piece of work in one transaction, and again where PostgreSQL asks for that."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from jasaweb_rt.database.pool import Connect
from jasaweb_rt.exceptions import ConflictError

__all__ = ["in_transaction"]

T = TypeVar("T")

_ATTEMPTS = 5
_PAUSE_SECONDS = 0.02


async def in_transaction(connect: Connect, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    """What `work` returns, once its transaction is committed.

    Counter rows of many users are locked until the commit, so two transactions may collide (40P01, 40001): the one that
    PostgreSQL ends is begun anew, a few times. `work` may therefore run more than once and must do nothing that a
    rollback does not undo.

    Raises:
        ConflictError: it collided every time, or waited too long for a lock.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            await asyncio.sleep(random.uniform(0, _PAUSE_SECONDS * 2**attempt))  # noqa: S311  # spread, not secret
        try:
            async with connect() as connection, connection.transaction():
                return await work(connection)
        except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
            continue
        except asyncpg.LockNotAvailableError:
            break
    raise ConflictError("Others are changing the same rows; try again")
