"""A paced load: what a delivery costs, and how soon it is there."""

from collections.abc import Iterator

from benches.measures.figures import FLOOR_SUBJECT, OURS, RATIO, Figure, Run, paced, ratio

__all__ = ["cost", "last", "scale"]

_SIZES = (1_000, 5_000, 10_000, 19_000)
_PER_SECOND = 40_000
_DELIVERIES = 200_000


def cost(run: Run) -> Iterator[Figure]:
    """Processor time a delivery."""
    rounds = run.against_floor(paced(rate=8, count=60))
    what = f"server CPU per delivery, {run.connections:,} connections, 256 B, 8 messages/s, one worker"
    yield ratio(rounds, what, "cpu_per_delivery", goal=1.10)


def last(run: Run) -> Iterator[Figure]:
    """From publication to the last receipt, nothing else going on."""
    rounds = run.against_floor(paced(rate=2, count=20))
    yield ratio(rounds, f"publish to the last of {run.connections:,} receivers, one worker", "last", goal=1.10)


def scale(run: Run) -> Iterator[Figure]:
    """The same number of deliveries a second to a thousand connections, and to as many as a process may open here."""
    ours, floor, ratios, doubts = [], [], [], []
    sizes = [run.share(size) for size in _SIZES]
    for size in sizes:
        rate = _PER_SECOND / size
        work = paced(rate=rate, count=max(1, _DELIVERIES // size))
        rounds = run.against_floor(work, connections=size)
        floor.append(rounds.median(FLOOR_SUBJECT, "cpu_per_delivery"))
        ours.append(rounds.median(OURS, "cpu_per_delivery"))
        ratios.append(ours[-1] / floor[-1])
        doubts += [f"{size:,}: {doubt}" for doubt in rounds.doubts]
    what = f"{sizes[0]:,} to {sizes[-1]:,} connections, {_PER_SECOND:,} deliveries/s"
    steps = ", ".join(f"{size:,}: {ratio:.2f} {RATIO}" for size, ratio in zip(sizes, ratios, strict=True))
    yield Figure(f"{what}: server CPU per delivery, worst size", max(ratios), RATIO, 1.10, steps, tuple(doubts))
    steps = ", ".join(
        f"{size:,}: {own:.2f} µs (floor {base:.2f})" for size, own, base in zip(sizes, ours, floor, strict=True)
    )
    spread, floor_spread = max(ours) / min(ours), max(floor) / min(floor)
    yield Figure(
        f"{what}: dearest size against cheapest, as far as the floor's own differ less",
        spread / floor_spread,
        RATIO,
        1.10,
        f"{spread:.2f} against {floor_spread:.2f}; {steps}",
        tuple(doubts),
    )
