"""Runs the benchmarks and prints what they found.

`--write` puts it into RESULTS.md, each section between its two marks, and draws the chart of the README if peers were
measured. A section of which nothing was measured stays as it is.
"""

import argparse
import os
import platform
import time
from pathlib import Path

from benches import chart
from benches.load import pin_client
from benches.measures import MEASURES, SECTIONS, Figure, Run
from benches.results import between_marks

_RESULTS = Path(__file__).parent / "RESULTS.md"
_CHART = Path(__file__).parent.parent / "docs" / "images" / "benchmarks.svg"
_HEAD = ("| measure | figure | goal | in numbers | doubts |", "|---|---|---|---|---|")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("measures", nargs="*", metavar="measure", help=f"which: {', '.join(MEASURES)}; all if none")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; medians count")
    parser.add_argument("--connections", type=int, default=5_000)
    parser.add_argument("--write", action="store_true", help=f"write {_RESULTS.name} and the chart")
    given = parser.parse_args()
    if unknown := [name for name in given.measures if name not in MEASURES]:
        parser.error(f"there is no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("server and client need a core each; this process may use one only")
    pin_client()
    run = Run(given.rounds, given.connections)
    bars: list[chart.Bar] = []
    tables: dict[str, list[str]] = {}
    for section, measures in SECTIONS.items():
        for name in given.measures or measures:
            if name not in measures:
                continue
            if section not in tables:
                tables[section] = [*_HEAD]
                print("\n".join(_HEAD))
            for figure in measures[name](run):
                tables[section].append(_line(figure))
                bars += [figure.bar] if figure.bar else []
                print(tables[section][-1], flush=True)
    if given.write:
        text = _RESULTS.read_text()
        for section, lines in tables.items():
            if len(lines) == len(_HEAD):
                continue
            text = between_marks(text, section, [f"{_when(given.rounds)} Bold: the goal is missed.", "", *lines])
        _RESULTS.write_text(text)
        if bars:
            _draw(bars, given.rounds, given.connections)


def _line(figure: Figure) -> str:
    goal = "" if figure.goal is None else f"≤ {figure.goal:.2f}"
    missed = figure.goal is not None and figure.value > figure.goal
    value = f"{figure.value:,.2f} {figure.unit}"
    cells = (figure.what, f"**{value}**" if missed else value, goal, figure.detail, "; ".join(figure.doubts))
    return f"| {' | '.join(cells)} |"


def _draw(bars: list[chart.Bar], rounds: int, connections: int) -> None:
    method = (
        "256 B to all: above, 8 times a second where nothing else is said; below, ever more until it was too much.",
        "Server and client on a core each. Floor: one write(2) per connection and message, and nothing else.",
        f"Medians of one run: {_when(rounds)}",
    )
    _CHART.write_text(chart.draw(f"One message to {connections:,} connections", bars, method))


def _when(rounds: int) -> str:
    system = f"Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}"
    return f"{time.strftime('%Y-%m-%d')}, {_machine()}, {system}, {rounds} rounds."


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {models[0] if models else platform.machine()}"


if __name__ == "__main__":
    main()
