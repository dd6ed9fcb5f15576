"""Where a client stands, kept for its next start."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Protocol

import msgspec

__all__ = ["FilePosition", "Keeper", "Position", "PositionStore"]

_MAX_UNSAVED = 100


class Position(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Everything up to `last_seq` was dealt with."""

    epoch: str
    """Name of the numbering that `last_seq` belongs to, as `sync` told it."""
    last_seq: int


class PositionStore(Protocol):
    """Keeps the position of one user's one client. What it raises ends the iteration."""

    async def load(self) -> Position | None:
        """The position that was saved last; None where none ever was."""

    async def save(self, position: Position) -> None:
        """Replaces it, wholly or not at all; an older one that comes back after a crash does no harm."""


class FilePosition:
    """A `PositionStore` in a file of its own, which is replaced as a whole; a crash leaves the old one or the new."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Touches nothing. Beside `path`, whose folder must exist, `path` with `.new` behind it is used."""
        self._path = Path(path)
        self._new = self._path.with_name(self._path.name + ".new")
        # A save whose caller was cancelled still runs.
        self._writing = threading.Lock()

    async def load(self) -> Position | None:
        """The position in the file; None where there is no file.

        Raises:
            ValueError: what is in the file is not a position.
            OSError: it cannot be read.
        """
        return await asyncio.to_thread(self._load)

    async def save(self, position: Position) -> None:
        """Replaces the file, and returns once it is on the disk. OSError: it cannot be written."""
        await asyncio.to_thread(self._save, position)

    def _load(self) -> Position | None:
        with self._writing:
            try:
                content = self._path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            position = msgspec.json.decode(content, type=Position)
        except ValueError:
            position = None
        if position is None or position.last_seq < 0:
            # To begin at the head instead would pass over what was missed, in silence.
            raise ValueError(f"{self._path} holds no position; remove it to begin with what comes")
        return position

    def _save(self, position: Position) -> None:
        with self._writing:
            with self._new.open("wb") as file:
                file.write(msgspec.json.encode(position))
                file.flush()
                os.fsync(file.fileno())
            self._new.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


class Keeper:
    """Saves a client's position behind what was dealt with: as soon as nothing more is at hand, or 100 frames later."""

    def __init__(self, store: PositionStore) -> None:
        self._store = store
        self._loaded = False
        self._settled: Position | None = None
        self._saved: Position | None = None
        self._unsaved = 0

    async def load(self) -> Position | None:
        """What the store has, at the first call; after that None."""
        if self._loaded:
            return None
        self._settled = self._saved = await self._store.load()
        self._loaded = True
        return self._saved

    def settle(self, epoch: str | None, last_seq: int | None) -> None:
        """Everything up to `last_seq` is dealt with; None of either: there is no position yet."""
        if epoch is None or last_seq is None:
            return
        settled = Position(epoch, last_seq)
        if settled != self._settled:
            self._settled = settled
            self._unsaved += 1

    @property
    def overdue(self) -> bool:
        """Whether to save although there is more at hand."""
        return self._unsaved >= _MAX_UNSAVED

    async def save(self) -> None:
        """Saves what is settled, where that is not saved yet."""
        settled = self._settled
        if settled is not None and settled != self._saved:
            await self._store.save(settled)
            self._saved, self._unsaved = settled, 0
