"""What several commands need: the database in use, and logging."""

import asyncio
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import rich_click as click

from jasaweb_rt.config import Settings
from jasaweb_rt.database.embedded import EmbeddedPostgres, running_url
from jasaweb_rt.exceptions import DatabaseUnavailableError

__all__ = ["EXIT_CODE_OF_ERRORS", "database_in_use", "log_to_stderr", "plain", "reachable_database"]

EXIT_CODE_OF_ERRORS = "jasaweb_rt.exit_code_of_errors"
"""Key of `click.Context.meta`: with what a command exits on an error, where 1 has a meaning of its own."""


def database_in_use(settings: Settings) -> str:
    """URL of the configured database, or of the embedded one that runs.

    Raises:
        DatabaseUnavailableError: there is neither.
    """
    url = settings.database_url or running_url(settings.data_dir)
    if url is None:
        raise DatabaseUnavailableError(
            "DATABASE_URL is not set and no embedded PostgreSQL runs in this folder; "
            "set it, or start `jasaweb-rt serve` here"
        )
    return url


@contextmanager
def reachable_database(settings: Settings) -> Iterator[str]:
    """URL of a database where tables may be created; the embedded one is started for the time being if need be."""
    url = settings.migrate_url or settings.database_url or running_url(settings.data_dir)
    if url is not None:
        yield url
        return
    postgres = EmbeddedPostgres(settings.data_dir)
    url = postgres.start()
    try:
        asyncio.run(postgres.wait_ready())
        yield url
    finally:
        postgres.stop()


def log_to_stderr(context: click.Context) -> None:
    """Logs to standard error, a line a record."""
    level = logging.DEBUG if context.find_root().params["debug"] else logging.INFO
    logging.basicConfig(
        stream=sys.stderr, level=level, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    # Libraries say what is worth an operator's time from warnings on; below that they say headers, which hold tokens.
    for name in ("uvicorn", "websockets", "asyncio", "litestar"):
        logging.getLogger(name).setLevel(logging.WARNING)


def plain(words: str) -> str:
    """`words` without what a terminal would obey: titles and user agents are anybody's."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)
