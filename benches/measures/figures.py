"""What a measure yields, and how its rounds are run.

A figure is the ratio of two medians; what is compared runs in turn, round after round, so that what the machine does
beside falls on both.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benches.chart import Bar
from benches.load import SERVER_CORES, Connections, Load, connected
from benches.programs import FLOOR, fan_out

__all__ = ["FLOOR_SUBJECT", "OURS", "RATIO", "Figure", "Rounds", "Run", "Subject", "Work", "paced", "ratio"]

RATIO = "×"  # noqa: RUF001  # the sign for times, not a letter


Work = Callable[[Connections], Load]
"""Puts a load on a program; the last one counts."""


@dataclass(frozen=True)
class Figure:
    """One line of the results."""

    what: str
    value: float
    unit: str
    """`RATIO`, or that of the value."""
    goal: float | None
    """The value may be this at most; None: it is told, and no goal."""
    detail: str
    doubts: Sequence[str] = ()
    """Why it should not be believed: a load that did not arrive whole, a client that was the limit."""
    bar: Bar | None = None
    """How it is drawn in the chart; None: not at all."""


@dataclass(frozen=True)
class Subject:
    """A program under measurement, and how it is called in the results."""

    name: str
    command: tuple[str, ...]
    deflate: bool = False
    """Whether its clients offer permessage-deflate."""


FLOOR_SUBJECT = Subject("floor", FLOOR)
OURS = Subject("server", fan_out())
"""With one worker thread."""


@dataclass
class Rounds:
    """What the same load did to several subjects, round after round."""

    loads: dict[str, list[Load]]
    """By the subject's name."""
    doubts: list[str] = field(default_factory=list)

    def median(self, subject: Subject, name: str) -> float:
        """The field `name` of the loads on `subject`."""
        return float(statistics.median(getattr(load, name) for load in self.loads[subject.name]))


@dataclass(frozen=True)
class Run:
    """How often, and how large."""

    rounds: int = 3
    connections: int = 5_000
    """Of most measures; those that have more or fewer have them in the same proportion."""

    def share(self, of_5_000: int) -> int:
        """How many connections a measure has that has `of_5_000` of them where most have 5,000."""
        return of_5_000 * self.connections // 5_000

    def loads(
        self,
        work: Mapping[Subject, Work],
        *,
        cores: set[int] = SERVER_CORES,
        connections: int | None = None,
        per_user: int = 1,
    ) -> Rounds:
        """Does to each of the subjects its work, in turn, once a round; `connections` as most measures by default."""
        found = Rounds({subject.name: [] for subject in work})
        count = self.connections if connections is None else connections
        for _ in range(self.rounds):
            for subject, act in work.items():
                with connected(subject.command, count, cores, per_user=per_user, deflate=subject.deflate) as users:
                    load = act(users)
                found.loads[subject.name].append(load)
                found.doubts += [f"{subject.name}: {doubt}" for doubt in load.doubts()]
        return found

    def against_floor(self, work: Work, *, connections: int | None = None, per_user: int = 1) -> Rounds:
        """The same work done to the floor program and to our server, a core each."""
        return self.loads({FLOOR_SUBJECT: work, OURS: work}, connections=connections, per_user=per_user)


def paced(*, rate: float, count: int, size: int = 256) -> Work:
    """`count` messages to everyone, `rate` a second."""

    def work(users: Connections) -> Load:
        # The first messages warm caches up, and memory that grows only once.
        users.publish(rate=rate, count=2, size=size)
        return users.publish(rate=rate, count=count, size=size)

    return work


def ratio(
    rounds: Rounds,
    what: str,
    name: str,
    *,
    of: Subject = OURS,
    to: Subject = FLOOR_SUBJECT,
    goal: float | None,
    detail: str = "",
) -> Figure:
    """The medians of the field `name` of two subjects against each other; times are told in µs or ms."""
    unit, scale = ("µs", 1.0) if name == "cpu_per_delivery" else ("ms", 1e3)
    value, base = rounds.median(of, name), rounds.median(to, name)
    numbers = f"{value * scale:.2f} {unit} against {base * scale:.2f} {unit}"
    return Figure(what, value / base, RATIO, goal, f"{numbers}{detail}", tuple(rounds.doubts))
