"""Connections themselves: to open them, to keep them, to let them come and go."""

import statistics
import time
from collections.abc import Iterator

from benches.load import SERVER_CORES, Connections, Load, connected
from benches.measures.figures import FLOOR_SUBJECT, OURS, RATIO, Figure, Run, Subject, paced, ratio
from benches.messages import requests
from benches.programs import fan_out

__all__ = ["churn", "memory", "storm"]

_MANY = 10_000
_CHURN_RATE = 1_000
_STEP_SECONDS = 0.05
_RATE, _COUNT = 8, 60


def storm(run: Run) -> Iterator[Figure]:
    """Ten thousand that connect at once, by the clock and by the processor time that they cost."""
    many = run.share(_MANY)
    seconds: dict[str, list[float]] = {"floor": [], "server": []}
    cpu: dict[str, list[float]] = {"floor": [], "server": []}
    doubts: list[str] = []
    for _ in range(run.rounds):
        for subject in (FLOOR_SUBJECT, OURS):
            with connected(subject.command, many, SERVER_CORES) as users:
                seconds[subject.name].append(users.seconds)
                cpu[subject.name].append(users.cpu_seconds)
                doubts += [f"{subject.name}: {doubt}" for doubt in users.connect_doubts()]
    base, ours = (many / statistics.median(found) for found in seconds.values())
    yield Figure(
        f"connect storm of {many:,} with token check: the floor's accept rate against ours",
        base / ours,
        RATIO,
        1 / 0.7,
        f"{base:,.0f} a second against {ours:,.0f}",
        tuple(doubts),
    )
    base, ours = (statistics.median(found) / many * 1e6 for found in cpu.values())
    detail = f"{ours:.0f} µs against {base:.0f} µs"
    yield Figure("server CPU per handshake in that storm", ours / base, RATIO, None, detail)


def memory(run: Run) -> Iterator[Figure]:
    """Resident memory of connections that do nothing."""
    many = run.share(_MANY)
    sizes = []
    for _ in range(run.rounds):
        with connected(fan_out(), 0, SERVER_CORES) as users:
            empty = users.program.resident_kib()
        with connected(fan_out(), many, SERVER_CORES) as users:
            sizes.append((users.program.resident_kib() - empty) / many)
    yield Figure(
        f"resident memory per idle connection, {many:,} connections",
        statistics.median(sizes),
        "KiB",
        2.0,
        f"{run.rounds} runs from {min(sizes):.2f} to {max(sizes):.2f}",
    )


def churn(run: Run) -> Iterator[Figure]:
    """Joins and leaves while messages go out, against the same without."""
    churned = Subject("with joins and leaves", OURS.command)
    rate = run.share(_CHURN_RATE)
    seen: list[tuple[float, int]] = []

    def work(users: Connections) -> Load:
        users.publish(rate=_RATE, count=2)
        steps = round(_COUNT / _RATE / _STEP_SECONDS)
        each = max(1, round(rate * _STEP_SECONDS))
        batches = [requests(f"guest-{step}-{number}" for number in range(each)) for step in range(steps)]
        return users.load(f"publish {_RATE} {_COUNT} 256", None, lambda: seen.append(_come_and_go(users, batches)))

    rounds = run.loads({OURS: paced(rate=_RATE, count=_COUNT), churned: work})
    late, refused = (max(column) for column in zip(*seen, strict=True))
    if late > _STEP_SECONDS:
        rounds.doubts.append(f"joins and leaves fell behind by {late:.2f} s")
    if refused:
        rounds.doubts.append(f"{refused:,} could not join")
    what = f"p99 with {rate:,} joins and leaves a second during the paced load, against none"
    yield ratio(rounds, what, "p99", of=churned, to=OURS, goal=1.20)


def _come_and_go(users: Connections, batches: list[list[bytes]]) -> tuple[float, int]:
    """Lets so many leave as come, batch by batch.

    Returns how many seconds it was late at the end, and how many could not come.
    """
    began, refused = time.monotonic(), 0
    for number, batch in enumerate(batches):
        time.sleep(max(0.0, began + number * _STEP_SECONDS - time.monotonic()))
        users.client.close(len(batch))
        opened, _ = users.client.connect(users.program.address, batch)
        refused += len(batch) - opened
    return time.monotonic() - began - len(batches) * _STEP_SECONDS, refused
