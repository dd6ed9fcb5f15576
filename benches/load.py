"""One load on one program, and what it cost."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benches.messages import requests
from benches.programs import Program
from jasaweb_rt._core import LoadClient

__all__ = ["CLIENT_CORES", "SERVER_CORES", "Connections", "Load", "connected", "pin_client"]

SERVER_CORES, CLIENT_CORES = {0}, {1}
_CONNECT_SECONDS = 120.0
_RECEIVE_SECONDS = 30.0
_LOOK_SECONDS = 0.05
_SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class Load:
    """What a load did to the program under it."""

    deliveries: int
    expected: int
    elapsed: float
    """Seconds from the first message to the last receipt."""
    cpu_per_delivery: float
    """Microseconds of the program's processor time."""
    p99: float
    """Seconds from publication to receipt that 99 % of the deliveries kept to."""
    last: float
    """Seconds from publication to the last receipt; the median over the messages."""
    closed: int
    client_busy: float
    """Share of its core that the client used. Near 1, the client is what was measured."""

    @property
    def complete(self) -> bool:
        """Whether every message reached every connection."""
        return self.deliveries == self.expected and self.closed == 0


@dataclass(frozen=True)
class Connections:
    """A program, and users who are connected to it."""

    program: Program
    client: LoadClient
    count: int
    seconds: float
    """From the first `connect(2)` to the last upgrade."""
    cpu_seconds: float
    """Processor time that the program used for that."""

    def publish(self, *, rate: float, count: int, size: int) -> Load:
        """Sends `count` messages of `size` bytes to everyone, `rate` a second, and waits for all receipts."""
        self.client.clear()
        expected = count * self.count
        cpu, own_cpu, began = self.program.cpu_seconds(), time.process_time(), time.monotonic()
        self.program.tell(f"publish {rate} {count} {size}")
        self.program.answer("published")
        report = self.client.report()
        deadline = time.monotonic() + _RECEIVE_SECONDS
        while report.messages < expected and report.open and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            report = self.client.report()
        elapsed = time.monotonic() - began
        lasts = sorted(last - stamp for stamp, _, last in report.publications)
        return Load(
            deliveries=report.messages,
            expected=expected,
            elapsed=elapsed,
            cpu_per_delivery=(self.program.cpu_seconds() - cpu) / max(1, report.messages) * 1e6,
            p99=report.delay(0.99) or 0.0,
            last=lasts[len(lasts) // 2] / 1e9 if lasts else 0.0,
            closed=sum(number for _, number in report.closed),
            client_busy=(time.process_time() - own_cpu) / elapsed,
        )


@contextlib.contextmanager
def connected(command: Sequence[str], count: int, cores: set[int]) -> Iterator[Connections]:
    """Runs `command` on `cores` and connects `count` users to it, for as long as the block."""
    client = LoadClient()
    try:
        with Program(command, cores) as program:
            users = requests(f"user-{number}" for number in range(count))
            cpu = program.cpu_seconds()
            program.tell(f"open {count}")
            opened, seconds = client.connect(program.address, users, wait=_CONNECT_SECONDS)
            if opened != count:
                raise RuntimeError(f"{opened} of {count} connections are open: {client.report().refused}")
            program.answer("opened")
            cpu = program.cpu_seconds() - cpu
            time.sleep(_SETTLE_SECONDS)
            yield Connections(program, client, count, seconds, cpu)
    finally:
        client.stop()


def pin_client() -> None:
    """Keeps this process, and the load client's threads to come, to their cores."""
    os.sched_setaffinity(0, CLIENT_CORES)
