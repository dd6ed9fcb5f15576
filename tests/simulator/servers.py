"""A `jasaweb-rt serve` that is started again whenever it has ended, on the same port and with a clock of its own."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from jasaweb_rt.database.embedded_binaries import Identity
from tests.simulator.clocks import MovedClock
from tests.support.program import Program, environment, program

_LONGEST_LIFE = 3_600.0

# Slow consumers and silent peers shall be found within a run, and one address has all clients.
_SETTINGS = {
    "SEND_QUEUE_BYTES": "65536",
    "PING_INTERVAL": "2",
    "PONG_TIMEOUT": "1",
    "DRAIN_SECONDS": "2",
    "MAX_CONNECTIONS_PER_USER": "0",
    "MAX_CONNECTIONS_PER_IP": "0",
    "CONNECT_RATE_PER_IP": "0",
    "MESSAGE_RATE": "0",
}

# Killed; told to stop before it could listen to that; stopped as it was told; the database was away when it started.
_EXPECTED_ENDS = {-signal.SIGKILL, -signal.SIGTERM, 0, 1}


class Server:
    """One server, through all its lives. `name` begins its logs, a file for each life.

    `through`: a command line that becomes the one that stands behind it. `settings` come without their prefix.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        clock: MovedClock,
        *,
        database_url: str,
        port: int,
        through: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        """Where it listens, every time."""
        self.clock = clock
        self.complaints: list[str] = []
        """What it has done that it should not do, whatever happens to it."""
        self._folder = folder
        self._name = name
        # Whatever becomes of us, it does not stay.
        self._through = Identity().command([*through], death_signal=signal.SIGKILL)
        self._environ = environment(database_url, PORT=str(port), **_SETTINGS, **(settings or {}))
        self._environ |= {"TMPDIR": str(folder)} | clock.environ
        self._running: Program | None = None
        self._starts = 0

    async def serve(self) -> None:
        """Runs it, and the next one when it has ended, until this is cancelled."""
        home = self._folder / self._name
        home.mkdir()
        while True:
            async with program(home, self._environ, "serve", through=self._through) as running:
                self._running = running
                self._starts += 1
                try:
                    code = await running.end(seconds=_LONGEST_LIFE)
                    if code not in _EXPECTED_ENDS:
                        self.complaints.append(f"{self._name} {self._starts} ended with {code}")
                finally:
                    self._running = None
                    (self._folder / f"{self._name}-{self._starts:03}.log").write_text(running.output)
                    if "Traceback" in running.output or "panicked" in running.output:
                        self.complaints.append(f"{self._name} {self._starts} logged a traceback")

    def send_signal(self, number: signal.Signals) -> bool:
        """Sends it a signal; false where it does not run just now."""
        if self._running is None or self._running.ended:
            return False
        # Not by the process object: it would take the exit code from asyncio, if the process has ended just now.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._running.pid, number)
            return True
        return False

    async def sleep(self, seconds: float) -> bool:
        """Stops it for a while, and lets it go on; false where it does not run just now."""
        if not self.send_signal(signal.SIGSTOP):
            return False
        try:
            await asyncio.sleep(seconds)
        finally:
            self.send_signal(signal.SIGCONT)
        return True
