"""Whether PostgreSQL has room on its disk, as far as this server can tell.

Two things tell: a statement that PostgreSQL failed for want of room, wherever the database is; and the free space under
the embedded server's data, before it comes to that.
"""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jasaweb_rt.exceptions import DatabaseFullError

__all__ = ["DiskWatch"]

logger = logging.getLogger(__name__)

LEAST_FREE_BYTES = 32 * 1024 * 1024
"""Below it the embedded server's disk counts as full: two segments of its write-ahead log, without a new one of which
it ends."""

_LOOK_SECONDS = 1.0
# What failed for want of room is tried again every 5 s at the latest, so as long as there is none it fails within this.
_MEMORY_SECONDS = 15.0


class DiskWatch:
    """Remembers for 15 s that PostgreSQL had no room, and looks at the embedded server's disk every second."""

    def __init__(self, folder: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`folder`: where the embedded server's data lie; None: the database is another's."""
        self._folder = folder
        self._clock = clock
        self._failed_at: float | None = None
        self._reason = ""
        self._free: int | None = None
        self._told = False

    @property
    def is_full(self) -> bool:
        """Whether PostgreSQL cannot write, or soon will not be able to."""
        failed_at = self._failed_at
        return self._is_low or (failed_at is not None and self._clock() - failed_at < _MEMORY_SECONDS)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Takes note of what fails inside the block for want of room; the error passes on. From any thread."""
        try:
            yield
        except DatabaseFullError as error:
            self._reason = str(error)
            self._failed_at = self._clock()
            raise

    async def run(self) -> None:
        """Looks, and logs when it has changed, until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Looks once."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                # A disk that hangs must not hold up this loop.
                self._free = (await asyncio.to_thread(shutil.disk_usage, self._folder)).free
        if self.is_full == self._told:
            return
        self._told = not self._told
        if not self._told:
            logger.info("PostgreSQL's disk has room again")
        elif self._is_low:
            logger.error(
                "The disk of %s has %d MiB left; free some, or PostgreSQL stops writing", self._folder, self._free_mib
            )
        else:
            logger.error("%s", self._reason)

    @property
    def _is_low(self) -> bool:
        return self._free is not None and self._free < LEAST_FREE_BYTES

    @property
    def _free_mib(self) -> int:
        return (self._free or 0) // (1024 * 1024)
