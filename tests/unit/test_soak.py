"""What the soak takes for growth."""

from collections.abc import Callable

import pytest
from benches.soak import Look, complaints

ROUNDS = 30


def looks(kib: Callable[[int], float] = lambda _: 0, descriptors: int = 0, threads: int = 0) -> list[Look]:
    """A server round by round: memory beyond 50 MiB, and what it has more of from the middle on."""
    later = [number >= ROUNDS // 2 for number in range(ROUNDS)]
    return [
        Look(50 * 1024 + kib(number), 220 + descriptors * late, 8 + threads * late, {})
        for number, late in enumerate(later)
    ]


@pytest.mark.parametrize("kib", [lambda _: 0, lambda number: 2_000 * (number % 2), lambda number: 9_000 * (number > 2)])
def test_what_moves_to_and_fro_or_warms_up_has_not_grown(kib: Callable[[int], float]) -> None:
    assert complaints(looks(kib)) == []


def test_what_grows_is_named() -> None:
    assert complaints(looks(lambda number: 300 * number)) == ["resident memory grew from 52.8 to 57.5 MiB"]
    assert complaints(looks(descriptors=1)) == ["descriptors grew from 220 to 221"]
    assert complaints(looks(threads=2)) == ["threads grew from 8 to 10"]
