"""Clocks that are set while programs run: each program's own, and never the machine's."""

import asyncio
import struct
from pathlib import Path

__all__ = ["MovedClock", "build_library"]

_SOURCE = Path(__file__).with_name("moved_clock.c")
_COMPILE_SECONDS = 60.0


class MovedClock:
    """The clock of one program and of those that it starts."""

    def __init__(self, library: Path, file: Path) -> None:
        """`library` is what `build_library` made; `file` is made here, and is to stay as long as the programs run."""
        self._file = file
        self._library = library
        self.ahead = 0
        """Seconds."""
        file.write_bytes(_seconds(0))

    @property
    def environ(self) -> dict[str, str]:
        """What a program's environment must have."""
        return {"LD_PRELOAD": str(self._library), "MOVED_CLOCK": str(self._file)}

    def set_ahead(self, seconds: int) -> bool:
        """From now on the program's clock is so far ahead of the machine's; false where it was already."""
        # Programs have it in their memory: it must neither end nor be empty for a moment.
        with self._file.open("r+b") as file:
            file.write(_seconds(seconds))
        before, self.ahead = self.ahead, seconds
        return before != seconds


async def build_library(folder: Path) -> Path:
    """Compiles what is loaded into programs, and returns where it is.

    Raises:
        RuntimeError: there is no C compiler, which Rust's linker needs, too; or this is not Linux.
    """
    library = folder / "moved_clock.so"
    compiler = await asyncio.create_subprocess_exec(
        *("cc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", library, _SOURCE),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_COMPILE_SECONDS):
        _, said = await compiler.communicate()
    if compiler.returncode != 0:
        raise RuntimeError(f"{_SOURCE.name} cannot be compiled: {said.decode()}")
    return library


def _seconds(ahead: int) -> bytes:
    return struct.pack("=q", ahead)
