"""The command `jasaweb-rt` as a process of its own, in a folder of its own."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from tests.support.people import SECRET

START_SECONDS = 45.0
END_SECONDS = 45.0
TOKEN_SECRET = "the-token-secret-of-the-tests-is-long-too"

_LISTENING = re.compile(r"listening on (https?://\S+)")


class Program:
    """A running command. Its output is read as it comes, so that no pipe fills."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lines: list[str] = []
        self._changed = asyncio.Event()
        self._readers = [
            asyncio.ensure_future(self._read(stream)) for stream in (process.stdout, process.stderr) if stream
        ]

    @property
    def output(self) -> str:
        """What it wrote until now, to both streams."""
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    async def line(self, pattern: str | re.Pattern[str], seconds: float = START_SECONDS) -> re.Match[str]:
        """The first line in which `pattern` is found, as soon as it is written."""
        try:
            async with asyncio.timeout(seconds):
                looked = 0
                while True:
                    self._changed.clear()
                    for line in self._lines[looked:]:
                        looked += 1
                        if match := re.search(pattern, line):
                            return match
                    if all(reader.done() for reader in self._readers):
                        raise AssertionError(f"it ended without {pattern!r}:\n{self.output}")
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} in time:\n{self.output}") from None

    async def url(self) -> str:
        """Where it listens, once it does."""
        return (await self.line(_LISTENING))[1]

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal, unless it has ended."""
        # Not by the process object: it would take the exit code from asyncio, if the process has ended just now.
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def end(self, number: signal.Signals | None = None, seconds: float = END_SECONDS) -> int:
        """Sends a signal if there is one, and waits for the exit code."""
        if number is not None:
            self.send_signal(number)
        async with asyncio.timeout(seconds):
            code = await self._process.wait()
            await asyncio.gather(*self._readers)
        return code

    async def clear_away(self) -> None:
        """Kills it if it still runs."""
        await self.end(signal.SIGKILL)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self._lines.append(line.decode())
            self._changed.set()
        self._changed.set()


def environment(database_url: str | None = None, **settings: str) -> dict[str, str]:
    """An environment without foreign settings: `settings` without their prefix, a free port, secrets of the tests.

    A stop may take long on a slow machine, and a server ends hard where it takes longer than it may.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("JASAWEB_RT_") and name != "DATABASE_URL"
    }
    given = {"PORT": "0", "DRAIN_SECONDS": "30", "JWT_SECRET": SECRET, "TOKEN_SECRET": TOKEN_SECRET} | settings
    kept |= {f"JASAWEB_RT_{name}": value for name, value in given.items()}
    return kept if database_url is None else kept | {"DATABASE_URL": database_url}


@asynccontextmanager
async def _started(folder: Path, environ: Mapping[str, str], *command: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=dict(environ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Who runs the tests in the background may have Ctrl-C ignored, and a program inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # no thread runs in it yet
    )
    running = Program(process)
    try:
        yield running
    finally:
        await running.clear_away()


def program(
    folder: Path, environ: Mapping[str, str], *arguments: str, through: Sequence[str] = ()
) -> AbstractAsyncContextManager[Program]:
    """Starts `jasaweb-rt` with `arguments`, in `folder`; it is gone at the end.

    `through`: a command line that becomes the one that stands behind it, as `nice` does.
    """
    return _started(folder, environ, *through, str(Path(sys.executable).parent / "jasaweb-rt"), *arguments)


def python(folder: Path, environ: Mapping[str, str], *arguments: str) -> AbstractAsyncContextManager[Program]:
    """Starts Python with `arguments`, in `folder`; it is gone at the end."""
    return _started(folder, environ, sys.executable, *arguments)


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


async def run(
    folder: Path, environ: Mapping[str, str], *arguments: str, through: Sequence[str] = ()
) -> tuple[int, str]:
    """Runs `jasaweb-rt` to its end: exit code and everything it wrote; `through` as of `program`."""
    async with program(folder, environ, *arguments, through=through) as running:
        code = await running.end(seconds=START_SECONDS)
        return code, running.output
