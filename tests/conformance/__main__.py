"""Runs Autobahn cases, writes kosoku's reports, and prints what came of each group.

Exit code 1: a case ended in another way than `docs/conformance.md` says.
"""

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from kosoku._kosoku import CaseResult
from kosoku._report import write_reports

from tests.conformance.cases import accept_plain_answers, is_wrong, run, verdict
from tests.conformance.echo_server import echo_server, socket_address


def table(results: Sequence[CaseResult]) -> str:
    """Verdicts by group, in Markdown."""
    groups: dict[str, Counter[str]] = {}
    for result in results:
        behavior, close = verdict(result)
        kind = behavior if close in ("OK", behavior) else f"{behavior}, close {close}"
        groups.setdefault(result.case_id.split(".")[0], Counter())[kind] += 1
    kinds = sorted(set().union(*groups.values()), key=lambda kind: (kind != "OK", kind))
    lines = [["group", "cases", *kinds], ["---", *["---:"] * (len(kinds) + 1)]]
    counts = [*groups.items(), ("all", sum(groups.values(), Counter()))]
    lines += [[group, str(count.total()), *[str(count[kind]) for kind in kinds]] for group, count in counts]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("cases", nargs="*", default=["*"], help="ids of cases, such as 1.1.1 or 9.* (default: all)")
    parser.add_argument("--server", metavar="HOST:PORT", help="another server that takes the tests' tokens")
    parser.add_argument("--reports", type=Path, help="folder for kosoku's reports, in JSON and HTML")
    options = parser.parse_args()
    accept_plain_answers()
    with nullcontext(options.server) if options.server else echo_server() as server:
        results = asyncio.run(run(socket_address(server), options.cases))
    if options.reports:
        write_reports(results, str(options.reports))
    print(table(results))
    wrong = [result for result in results if is_wrong(result)]
    for result in wrong:
        print(result.case_id, *verdict(result), result.result, result.result_close, sep="; ", file=sys.stderr)
    return 1 if wrong or not results else 0


if __name__ == "__main__":
    sys.exit(main())
