"""Programs that write notifications, each in a transaction of its own: pgbench, which comes with the server.

A row's stamp is the moment at which PostgreSQL makes it, so what is timed includes the row's triggers, its commit and
the flush to disk.
"""

import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benches.load import BUSY
from benches.postgres import Database
from jasaweb_rt.database import embedded_binaries

__all__ = ["WRITERS", "Written", "read_answer", "write"]

WRITERS = 16
_EXTRA_SECONDS = 60.0
_SEED = 16
_FULL_RATE = 0.95
# PostgreSQL has no clock that runs evenly: `offset` leads from the time of day to CLOCK_MONOTONIC.
_SCRIPT = """\
\\set user random(0, :users - 1)
insert into public.real_time_notifications (id, user_id, type, title, message, data)
values (gen_random_uuid()::text, 'user-' || :user, 'user_message', 'New message', 'Your invoice is waiting for payment',
        jsonb_build_object('stamp', (extract(epoch from clock_timestamp()) * 1000000)::bigint * 1000 + :offset));
"""
# The clock's steps and corrections, while a load lasts.
_CLOCK_NS = 200_000


@dataclass(frozen=True)
class Written:
    """What was written."""

    count: int
    """Transactions that committed."""
    rate: float
    """Of them a second."""
    latency: float
    """Seconds that one took, on average, as its writer saw it."""
    offered: float | None = None
    """Of them a second that there should have been; None: as many as possible."""
    busy: float = 0.0
    """Share of a core that the writers used."""
    clock_moved: bool = False
    """The time of day was set meanwhile, so stamps are wrong."""
    ended: int = 0
    """When the last one had committed, by `time.monotonic_ns()`."""

    def delivered_rate(self, last: int) -> float:
        """Of them a second until `last`, when the last of them was received, by `time.monotonic_ns()`."""
        return self.count / (self.count / self.rate + max(0, last - self.ended) / 1e9)

    def doubts(self) -> Iterator[str]:
        """Why it should not be believed."""
        if self.busy > BUSY:
            yield f"the writers were busy for {self.busy:.0%} of the time"
        if self.offered is not None and self.rate < _FULL_RATE * self.offered:
            yield f"{self.rate:,.0f} of {self.offered:,.0f} a second were written"
        if self.clock_moved:
            yield "the clock was set meanwhile"


def write(database: Database, *, users: int, seconds: float, rate: float | None = None) -> Written:
    """Has `WRITERS` writers write to `users` users, chosen at random, for as long as that, and returns at the end.

    Args:
        database: where; it has these users.
        users: `user-0` and so on.
        seconds: how long.
        rate: transactions a second of all writers, at random moments (a Poisson process); None: as many as possible.

    Raises:
        RuntimeError: pgbench failed.
    """
    offset = _offset()
    with tempfile.NamedTemporaryFile("w", prefix="bench-", suffix=".sql") as script:
        script.write(_SCRIPT)
        script.flush()
        command = [str(embedded_binaries.find_binaries() / "pgbench"), "--no-vacuum", "--protocol=prepared"]
        command += [f"--client={WRITERS}", "--jobs=1", f"--time={seconds:.0f}", f"--random-seed={_SEED}"]
        command += [f"--define=users={users}", f"--define=offset={offset}", f"--file={script.name}"]
        command += [] if rate is None else [f"--rate={rate}"]
        began, used = time.monotonic(), _children_cpu()
        answer = subprocess.run(  # noqa: S603  # a program of ours
            [*command, database.url],
            capture_output=True,
            text=True,
            env=embedded_binaries.environment(),
            timeout=seconds + _EXTRA_SECONDS,
            check=False,
        )
        ended = time.monotonic_ns()
        took, used = ended / 1e9 - began, _children_cpu() - used
    if answer.returncode != 0:
        raise RuntimeError(f"pgbench failed: {answer.stderr.strip()}")
    count, found, latency = read_answer(answer.stdout)
    return Written(count, found, latency, rate, used / took, abs(_offset() - offset) > _CLOCK_NS, ended)


def read_answer(text: str) -> tuple[int, float, float]:
    """How many transactions pgbench says it made, how many a second, and how many seconds one took on average.

    Raises:
        RuntimeError: it says something else, or that some failed.
    """
    count = re.search(r"^number of transactions actually processed: (\d+)", text, re.MULTILINE)
    failed = re.search(r"^number of failed transactions: (\d+)", text, re.MULTILINE)
    latency = re.search(r"^latency average = ([\d.]+) ms", text, re.MULTILINE)
    lag = re.search(r"^rate limit schedule lag: avg ([\d.]+) ", text, re.MULTILINE)
    rate = re.search(r"^tps = ([\d.]+) ", text, re.MULTILINE)
    if count is None or rate is None or latency is None or (failed and int(failed[1])):
        raise RuntimeError(f"pgbench says: {text}")
    # Its latency counts from the moment at which a transaction was due.
    milliseconds = float(latency[1]) - (float(lag[1]) if lag else 0.0)
    return int(count[1]), float(rate[1]), milliseconds / 1e3


def _offset() -> int:
    """What `time.monotonic_ns()` is ahead of `time.time_ns()`."""
    return time.monotonic_ns() - time.time_ns()


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
