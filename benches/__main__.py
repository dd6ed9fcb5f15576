"""Runs the benchmarks and prints what they found; `--write` puts it into RESULTS.md, between its two marks."""

import argparse
import os
import platform
import time
from pathlib import Path

from benches.load import pin_client
from benches.measures import MEASURES, Figure, Run

_RESULTS = Path(__file__).parent / "RESULTS.md"
_BEGIN, _END = "<!-- figures -->", "<!-- end of figures -->"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("measures", nargs="*", metavar="measure", help=f"which: {', '.join(MEASURES)}; all if none")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; medians count")
    parser.add_argument("--connections", type=int, default=5_000)
    parser.add_argument("--write", action="store_true", help="write the figures into benches/RESULTS.md")
    given = parser.parse_args()
    if unknown := [name for name in given.measures if name not in MEASURES]:
        parser.error(f"there is no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("server and client need a core each; this process may use one only")
    pin_client()
    lines = ["| measure | figure | goal | in numbers | doubts |", "|---|---|---|---|---|"]
    print("\n".join(lines))
    for name in given.measures or MEASURES:
        for figure in MEASURES[name](Run(given.rounds, given.connections)):
            lines.append(_line(figure))
            print(lines[-1], flush=True)
    if given.write:
        _write(lines, given.rounds)


def _line(figure: Figure) -> str:
    goal = "" if figure.goal is None else f"≤ {figure.goal:.2f}"
    missed = figure.goal is not None and figure.value > figure.goal
    value = f"{figure.value:.2f} {figure.unit}"
    cells = (figure.what, f"**{value}**" if missed else value, goal, figure.detail, "; ".join(figure.doubts))
    return f"| {' | '.join(cells)} |"


def _write(lines: list[str], rounds: int) -> None:
    text = _RESULTS.read_text()
    head, tail = text.partition(_BEGIN)[0], text.partition(_END)[2]
    when = f"{time.strftime('%Y-%m-%d')}, {platform.release()}, {rounds} rounds. Bold: the goal is missed."
    _RESULTS.write_text("\n".join([head + _BEGIN, when, "", *lines, _END + tail]))


if __name__ == "__main__":
    main()
