"""One load on one program, and what it cost."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benches.messages import requests
from benches.programs import Program
from jasaweb_rt._core import LoadClient, LoadReport

__all__ = [
    "ALL_CORES",
    "BUSY",
    "CLIENT_CORES",
    "SERVER_CORES",
    "Connections",
    "Load",
    "busy_client",
    "connected",
    "on_cores",
    "own_cpu",
    "pin_client",
]

# The first and the last that this process may use: two threads of one core seldom stand so far apart.
_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES, CLIENT_CORES = {_CORES[0]}, {_CORES[-1]}
ALL_CORES = SERVER_CORES | CLIENT_CORES
_CONNECT_SECONDS = 120.0
_RECEIVE_SECONDS = 30.0
_QUIET_SECONDS = 0.5
_LOOK_SECONDS = 0.05
_SETTLE_SECONDS = 1.0
BUSY = 0.9
"""Beyond this share of its core a client may have been what was measured."""


@dataclass(frozen=True)
class Load:
    """What a load did to the program under it."""

    deliveries: int
    expected: int | None
    """Receipts that there should be; None where that depends on who came and went."""
    compressed: int
    """Deliveries that came deflated."""
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
    """Share of its core that the client used, of the whole time or of that in which messages were under way, whichever
    is more. Near 1, the client is what was measured."""

    def doubts(self) -> Iterator[str]:
        """Why the load should not be believed."""
        if self.expected not in (None, self.deliveries) or self.closed:
            yield f"{self.deliveries:,} of {self.expected or 0:,} arrived, {self.closed} closed"
        yield from busy_client(self.client_busy)


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
    client_busy: float
    """Share of its core that the client used meanwhile."""

    def connect_doubts(self) -> Iterator[str]:
        """Why `seconds` should not be believed."""
        yield from busy_client(self.client_busy)

    def publish(self, *, rate: float, count: int, size: int = 256) -> Load:
        """Sends `count` messages of `size` bytes to everyone, `rate` a second, and waits for all receipts."""
        return self.load(f"publish {rate} {count} {size}", count * self.count)

    def load(self, order: str, expected: int | None, meanwhile: Callable[[], None] = lambda: None) -> Load:
        """Gives the program an `order` to publish, and waits for `expected` receipts, or until no more come.

        `meanwhile` runs here while the program publishes.
        """
        self.client.clear()
        cpu, own, began = self.program.cpu_seconds(), own_cpu(), time.monotonic()
        self.program.tell(order)
        meanwhile()
        self.program.answer("published")
        report = self.receipts(expected)
        elapsed = time.monotonic() - began
        used, used_here = (now - before for now, before in zip(own_cpu(), own, strict=True))
        lasts = sorted(last - stamp for stamp, _, last in report.publications)
        # Less than `elapsed` only where the client rests between messages, and then they do not overlap. What goes to
        # few is under way for so short that most of the client's work comes behind it.
        to_all = all(receivers == self.count for _, receivers, _ in report.publications)
        under_way = sum(lasts) / 1e9 if to_all else 0.0
        return Load(
            deliveries=report.messages,
            expected=expected,
            compressed=report.compressed,
            elapsed=elapsed,
            cpu_per_delivery=(self.program.cpu_seconds() - cpu) / max(1, report.messages) * 1e6,
            p99=report.delay(0.99) or 0.0,
            last=lasts[len(lasts) // 2] / 1e9 if lasts else 0.0,
            closed=sum(number for _, number in report.closed),
            client_busy=max(used / elapsed, (used - used_here) / under_way if under_way else 0.0),
        )

    def receipts(self, expected: int | None) -> LoadReport:
        """What arrived, once `expected` messages have, or where nobody knows how many, once no more come."""
        report = self.client.report()
        changed = time.monotonic()
        deadline = changed + _RECEIVE_SECONDS
        while report.open and time.monotonic() < deadline:
            if expected is None and time.monotonic() - changed > _QUIET_SECONDS:
                break
            if expected is not None and report.messages >= expected:
                break
            time.sleep(_LOOK_SECONDS)
            before, report = report.messages, self.client.report()
            if report.messages != before:
                changed = time.monotonic()
        return report


@contextlib.contextmanager
def connected(
    command: Sequence[str], count: int, cores: set[int], *, per_user: int = 1, deflate: bool = False
) -> Iterator[Connections]:
    """Runs `command` on `cores` and opens `count` connections to it, `per_user` a user, for as long as the block.

    `deflate`: they offer permessage-deflate.
    """
    client = LoadClient()
    try:
        with Program(command, cores) as program:
            asked = requests((f"user-{number // per_user}" for number in range(count)), deflate=deflate)
            cpu, (own, _) = program.cpu_seconds(), own_cpu()
            program.tell(f"open {count}")
            opened, seconds = client.connect(program.address, asked, wait=_CONNECT_SECONDS)
            busy = (own_cpu()[0] - own) / seconds if count else 0.0
            if opened != count:
                raise RuntimeError(f"{opened} of {count} connections are open: {client.report().refused}")
            program.answer("opened")
            cpu = program.cpu_seconds() - cpu
            time.sleep(_SETTLE_SECONDS)
            yield Connections(program, client, count, seconds, cpu, busy)
    finally:
        client.stop()


def pin_client() -> None:
    """Keeps this process, and the load client's threads to come, to their cores."""
    os.sched_setaffinity(0, CLIENT_CORES)


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Keeps this thread, and the threads and programs that it starts, to `cores` for as long as the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def own_cpu() -> tuple[float, float]:
    """Processor time that this process has used, and this thread of it, which looks on while the clients read."""
    return time.process_time(), time.thread_time()


def busy_client(share: float) -> Iterator[str]:
    """The doubt that the load client was the limit, where it used such a `share` of its core that it may have been."""
    if share > BUSY:
        yield f"the client was busy for {share:.0%} of the time"
