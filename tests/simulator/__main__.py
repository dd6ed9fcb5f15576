"""The long run: `make simulate`, or one seed of it again.

SIMULATE_MINUTES (10) says how long seeds are drawn; every one is told, and what failed is told again at the end.
"""

import argparse
import asyncio
import logging
import os
import random
import time

from tests.simulator.namespaces import NamespacesMissingError
from tests.simulator.run import Report, SimulationError, simulate

_DEFAULT_MINUTES = 10.0
_MANY = 10**9


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    options.add_argument("--seed", type=int, action="append", help="runs this seed only; may be given more than once")
    options.add_argument("--times", type=int, default=1, help="how often each given seed is run")
    options.add_argument("--cluster", action="store_true", help="three nodes with three NATS servers, rather than one")
    given = options.parse_args()
    # PostgreSQL's owner tells of each end of it; here that is what happens all the time.
    logging.getLogger("jasaweb_rt").addHandler(logging.NullHandler())
    seeds = (given.seed or []) * given.times
    minutes = float(os.environ.get("SIMULATE_MINUTES", _DEFAULT_MINUTES))
    try:
        failed = asyncio.run(_runs(seeds, minutes, in_cluster=given.cluster))
    except NamespacesMissingError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(1 if failed else 0)


async def _runs(seeds: list[int], minutes: float, *, in_cluster: bool) -> list[int]:
    total, failed, runs = Report(), list[int](), 0
    end = time.monotonic() + minutes * 60
    dice = random.Random()  # noqa: S311  # any seed will do
    while runs < len(seeds) if seeds else time.monotonic() < end:
        seed = seeds[runs] if seeds else dice.randrange(_MANY)
        runs += 1
        began = time.monotonic()
        try:
            report = await simulate(seed, in_cluster=in_cluster)
        except SimulationError as failure:
            failed.append(seed)
            total.add(failure.report)
            print(failure, flush=True)
            continue
        total.add(report)
        print(
            f"seed {seed:>9}: {report.faults.total():>3} faults, {report.notifications:>6,} notifications, "
            f"{report.seen:>7,} seen, {time.monotonic() - began:.0f} s, {report.settled_seconds:.0f} of them to settle",
            flush=True,
        )
    _tell(total, runs, failed)
    return failed


def _tell(total: Report, runs: int, failed: list[int]) -> None:
    print()
    for harm, count in total.faults.most_common():
        print(f"{count:>7,}  {harm}")
    print(
        f"{total.faults.total():>7,}  faults in {runs} runs.\n"
        f"{total.transactions:,} transactions committed, {total.lost_transactions:,} ended by a fault; "
        f"{total.notifications:,} notifications, seen {total.seen:,} times ({total.paged:,} by HTTP); "
        f"{total.syncs:,} resumes, {total.resyncs:,} resyncs."
    )
    if failed:
        print(f"FAILED: {' '.join(map(str, failed))}; each says above what was wrong.")
    else:
        print("Every device saw exactly what the table has, in its order.")


if __name__ == "__main__":
    main()
