"""Writing in batches of which no row spoils the others."""

import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import asyncpg

from jasaweb_rt.database.errors import is_fault_of_rows

__all__ = ["BATCH", "in_batches", "write_all"]

logger = logging.getLogger(__name__)

BATCH = 1000
"""Rows in one statement, at most."""

Row = TypeVar("Row")
Left = TypeVar("Left")


def in_batches(rows: Iterable[Row], size: int = BATCH) -> Iterator[list[Row]]:
    """`rows` in lists of `size`, the last one shorter."""
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


async def write_all(
    rows: Sequence[Row], write: Callable[[Sequence[Row]], Awaitable[Sequence[Left] | None]]
) -> list[Left]:
    """Writes `rows` by one call of `write`, or by several smaller ones where it finds fault with some of them.

    A row that cannot be written alone is logged and left out. Returns what the calls returned; raises what has nothing
    to do with the rows.
    """
    try:
        return list(await write(rows) or ())
    except asyncpg.PostgresError as error:
        if not is_fault_of_rows(error):
            raise
        if len(rows) == 1:
            logger.warning("a row cannot be written and is left out (%s)", error.args[0] if error.args else error)
            return []
    middle = len(rows) // 2
    return [*await write_all(rows[:middle], write), *await write_all(rows[middle:], write)]
