"""Programs under measurement: started on cores of their own, told what to do by lines, and watched from outside."""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["FLOOR", "Program", "durable", "fan_out", "spinning"]

_ROOT = Path(__file__).parent.parent
_STOP_SECONDS = 20.0
# Longer than any order takes.
_ANSWER_SECONDS = 180.0
_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") / 1024

FLOOR = (str(_ROOT / "target" / "release" / "jasaweb_rt_floor"),)
"""The floor program, as `make bench` builds it."""


def fan_out(*, workers: int = 1, **options: object) -> tuple[str, ...]:
    """The command of our server; `options` as `FanoutServer` takes them."""
    return (sys.executable, "-m", "benches.servers.fan_out", json.dumps({"workers": workers, **options}))


def durable(database_url: str, **settings: object) -> tuple[str, ...]:
    """The command of our gateway on a database; `settings` as `jasaweb_rt.config.Settings` takes them."""
    given = json.dumps({"database_url": database_url, **settings})
    return (sys.executable, "-m", "benches.servers.durable", given)


@contextlib.contextmanager
def spinning(cores: set[int]) -> Iterator[None]:
    """Keeps a Python program of its own busy on `cores` with nothing, for as long as the block."""
    command = (sys.executable, "-m", "benches.servers.spinner")
    process = subprocess.Popen(  # noqa: S603  # our own program
        command, cwd=_ROOT, stdin=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    try:
        yield
    finally:
        process.kill()
        process.communicate()


class Program:
    """A running program; leaving the `with` block ends it."""

    def __init__(self, command: Sequence[str], cores: set[int]) -> None:
        """Starts `command`, on `cores` only, and reads the port that it listens on.

        Raises:
            RuntimeError: it has not said where that is.
        """
        self._command = " ".join(command)
        self._process = subprocess.Popen(  # noqa: S603  # our own programs
            command,
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Before the program has threads, so that all of them inherit it.
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        try:
            self.address = ("127.0.0.1", int(self.answer("port")))
        except BaseException:
            self._end(0.0)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(_STOP_SECONDS)

    def tell(self, line: str) -> None:
        """Gives an order; `answer` waits for its end."""
        self._process.stdin.write(line + "\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]

    def answer(self, word: str) -> str:
        """Waits for the line that begins with `word`, and returns the rest of it.

        Raises:
            RuntimeError: the program has ended, says something else, or nothing for too long.
        """
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101  # it has pipes
        # And not `select`, which takes no descriptor beyond 1023: a benchmark may have thousands of connections.
        answers = select.poll()
        answers.register(stdout, select.POLLIN)
        line = stdout.readline() if answers.poll(_ANSWER_SECONDS * 1e3) else ""
        said, _, rest = line.strip().partition(" ")
        if said != word:
            raise RuntimeError(f"{self._command} should have said {word!r} and said {line!r}")
        return rest

    def stats(self) -> dict[str, int]:
        """The counters of a server of ours."""
        self.tell("stats")
        return dict(json.loads(self.answer("stats")))

    def cpu_seconds(self) -> float:
        """Processor time that it has used, of all threads, in user space and in the kernel."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK

    def resident_kib(self) -> float:
        """Resident memory in KiB."""
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * _PAGE_KIB

    def descriptors(self) -> int:
        """Descriptors that it has open."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def threads(self) -> int:
        """Threads that it has."""
        return len(list(Path(f"/proc/{self._process.pid}/task").iterdir()))

    def _end(self, patience: float) -> None:
        """Ends its input, and it, if it has not gone by then."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]  # it has pipes
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]
