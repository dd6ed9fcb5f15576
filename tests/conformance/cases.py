"""Runs Autobahn cases by kosoku, and judges what came of them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from kosoku import FailureError, run_fuzzingclient
from kosoku._kosoku import CaseResult
from kosoku.cases import CASES

# How often a case is run that goes wrong: many give the server but a second, and this machine may do other things.
TRIES = 3

OK = ("OK", "OK")
INFORMATIONAL = ("INFORMATIONAL", "INFORMATIONAL")
NON_STRICT = ("NON-STRICT", "OK")
UNIMPLEMENTED = ("UNIMPLEMENTED", "OK")

# What is not OK, and why not: docs/conformance.md. By case, or by the group that it belongs to.
EXPLAINED = {
    "6.4.3": NON_STRICT,
    "6.4.4": NON_STRICT,
    "7.1.6": INFORMATIONAL,
    "7.13.1": INFORMATIONAL,
    "7.13.2": INFORMATIONAL,
    "13.3": UNIMPLEMENTED,
    "13.5": UNIMPLEMENTED,
}


def verdict(result: CaseResult) -> tuple[str, str]:
    """What kosoku says of the messages, and of the close."""
    return result.behavior.value, result.behavior_close.value


def is_wrong(result: CaseResult) -> bool:
    """Whether a case ended in another way than it should."""
    group = result.case_id.rpartition(".")[0]
    expected = EXPLAINED.get(result.case_id) or EXPLAINED.get(group, OK)
    return verdict(result) not in (OK, expected)


def accept_plain_answers() -> None:
    """Lets the cases of compression take messages that come plain, as any may (RFC 7692 section 6).

    kosoku hands them to its cases as `str`, which those of Autobahn, written for Python 2, cannot hash.
    """
    for case_id, case in CASES.items():
        if case_id.startswith(("12.", "13.")):
            case.onMessage = _in_bytes(case.onMessage)  # type: ignore[attr-defined]


def _in_bytes(on_message: Callable[[Any, bytes, bool], None]) -> Callable[[Any, str | bytes, bool], None]:
    @functools.wraps(on_message)
    def on_any_message(case: Any, message: str | bytes, is_binary: bool) -> None:
        if isinstance(message, str):
            message = message.encode("latin-1" if is_binary else "utf-8")
        on_message(case, message, is_binary)

    return on_any_message


async def run(url: str, cases: Sequence[str], excluded: Sequence[str] = ()) -> list[CaseResult]:
    """The results of those cases, `*` allowed, in their order; what goes wrong is run again before it is believed."""
    results = await _run_once(url, cases, excluded)
    for _ in range(TRIES - 1):
        again = [result.case_id for result in results if is_wrong(result)]
        if again:
            anew = {result.case_id: result for result in await _run_once(url, again)}
            results = [anew.get(result.case_id, result) for result in results]
    return results


async def _run_once(url: str, cases: Sequence[str], excluded: Sequence[str] = ()) -> list[CaseResult]:
    try:
        return await run_fuzzingclient(url, cases=cases, exclude_cases=excluded, concurrency=2)
    except FailureError as failure:
        return failure.results
