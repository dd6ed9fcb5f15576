"""Programs of a cluster: each is started again when it has ended, and ends with the process that started it."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from jasaweb_rt.database.embedded_binaries import Identity
from tests.support.nats_server import NatsServer

__all__ = ["AGAIN_SECONDS", "Node", "keep_nats"]

AGAIN_SECONDS: Final = 3.0
"""How long what has ended stays away."""
_NO_USE: Final = 2
"""Exit code for settings that cannot be used, which do not get better."""


class Node:
    """A `jasaweb-rt serve`, from the first start to `stop`. `tell` is given each line that it writes."""

    def __init__(
        self, name: str, port: int, folder: Path, environ: Mapping[str, str], tell: Callable[[str], None]
    ) -> None:
        self.name = name
        self.port = port
        self._folder = folder
        self._environ = dict(environ)
        self._tell = tell
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int:
        """Process id, 0 while there is none."""
        return 0 if self._process is None else self._process.pid

    async def run(self) -> None:
        """Runs it, and again whenever it ends; returns after `stop`, or where its settings cannot be used."""
        program = [str(Path(sys.executable).with_name("jasaweb-rt")), "serve"]
        # The kernel tells it to drain where this process dies. From the main thread: it goes by threads.
        command = Identity().command(program, death_signal=signal.SIGTERM)
        while not self._stopping:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self._folder,
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us
            )
            if self._stopping:
                self._process.terminate()  # while it was made
            self._tell(f"is process {self.pid}")
            assert self._process.stdout is not None
            async for line in self._process.stdout:
                self._tell(line.decode(errors="replace").rstrip())
            code = await self._process.wait()
            self._process = None
            if code == _NO_USE:
                return
            if not self._stopping:
                self._tell(f"ended with {code}; it is started again in {AGAIN_SECONDS:g} s")
                await asyncio.sleep(AGAIN_SECONDS)

    def stop(self) -> None:
        """Has it drain and end; `run` returns then."""
        self._stopping = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()


async def keep_nats(server: NatsServer, tell: Callable[[str], None]) -> None:
    """Starts a NATS server again whenever it has ended, until it is cancelled."""
    while True:
        await asyncio.sleep(0.25)
        if not server.running:
            tell(f"ended; it is started again in {AGAIN_SECONDS:g} s")
            await asyncio.sleep(AGAIN_SECONDS)
            server.start()
            tell(f"is process {server.pid}")
