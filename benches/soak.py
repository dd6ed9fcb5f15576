"""A soak: joins, floods, leaves and all that peers do wrong, again and again, and nothing may grow.

`make soak` runs it for ten minutes, or for `SOAK_MINUTES`. A server process gets rounds of some ten seconds: hundreds
of clients join and leave under a flood, some do not read, some vanish without a word, some break the protocol in every
way that has a close code, some are cut off by a reset. Between two rounds everybody has left but a few who stay all the
time; then the server's memory, descriptors, threads and counters are looked at. The first rounds warm up what is
allocated once (stacks, tables, pages that the allocator keeps). Of the rest, the last third is compared with the first.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benches.hostile import HOSTILE, Stranger
from benches.messages import requests
from benches.programs import Program
from jasaweb_rt._core import LoadClient

__all__ = ["Look", "complaints"]

_SERVER = (sys.executable, "-m", "benches.servers.soaked")
_DEFAULT_MINUTES = 10.0
_STEADY = 200
_JOINING, _JOINS = 100, 8
_SLOW = 10
_HALF_OPEN = 10
_OF_EACH_KIND = 3
_FLOOD_RATE, _FLOOD_COUNT, _FLOOD_BYTES = 50, 400, 1_000
_QUIET_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_SETTLE_SECONDS = 2.0
_WARM_UP = 5
"""The warm-up is one round in so many."""
_PARTS = 3
_MORE_KIB = 3 * 1024
"""Resident memory may end this much higher: from round to round it moves, for the allocator gives pages back when it
likes. Some 60,000 connections come and go in ten minutes: a hundred bytes that each left behind are more than this."""


@dataclass(frozen=True)
class Look:
    """The server between two rounds."""

    resident_kib: float
    descriptors: int
    threads: int
    stats: dict[str, int]


class SoakError(Exception):
    """What went wrong, as a sentence."""


def main() -> None:
    """The command."""
    seconds = float(os.environ.get("SOAK_MINUTES", _DEFAULT_MINUTES)) * 60
    looks: list[Look] = []
    steady, passing, slow = LoadClient(), LoadClient(), LoadClient()
    try:
        with Program(_SERVER, os.sched_getaffinity(0)) as server:
            _connect(steady, server, "steady", _STEADY)
            end = time.monotonic() + seconds
            while time.monotonic() < end or len(looks) < _PARTS + 1:
                _round(server, passing, slow)
                looks.append(_look(server))
                _tell(len(looks), looks[-1])
            if gone := [*steady.report().closed, *steady.report().refused]:
                raise SoakError(f"clients that did nothing wrong were closed: {gone}")
    except SoakError as failure:
        raise SystemExit(f"The soak failed: {failure}.") from None
    finally:
        for client in (steady, passing, slow):
            client.stop()
    if grown := complaints(looks):
        raise SystemExit("\n".join(f"The soak failed: {sentence}." for sentence in grown))
    opened = looks[-1].stats["connections_opened"]
    print(f"Nothing grew: {len(looks)} rounds, {opened:,} connections, {looks[-1].stats['deliveries']:,} deliveries.")


def complaints(looks: Sequence[Look]) -> list[str]:
    """What has grown from the first part of the looks to the last, each as a sentence."""
    warm = looks[max(1, len(looks) // _WARM_UP) :] or looks
    size = max(1, len(warm) // _PARTS)
    early, late = warm[:size], warm[-size:]
    found = []
    before, after = (statistics.median(look.resident_kib for look in part) for part in (early, late))
    if after > before + _MORE_KIB:
        found.append(f"resident memory grew from {before / 1024:.1f} to {after / 1024:.1f} MiB")
    counted: dict[str, Callable[[Look], int]] = {
        "descriptors": lambda look: look.descriptors,
        "threads": lambda look: look.threads,
    }
    for name, number in counted.items():
        fewer, more = max(map(number, early)), max(map(number, late))
        if more > fewer:
            found.append(f"{name} grew from {fewer} to {more}")
    return found


def _round(server: Program, passing: LoadClient, slow: LoadClient) -> None:
    server.tell(f"publish {_FLOOD_RATE} {_FLOOD_COUNT} {_FLOOD_BYTES}")
    silent = [Stranger.upgraded(server.address) for _ in range(_HALF_OPEN)]
    silent += [Stranger.halfway(server.address) for _ in range(_HALF_OPEN)]
    for _ in range(_JOINS):
        _connect(passing, server, "passing", _JOINING)
        passing.close(_JOINING // 2)
        for act in HOSTILE:
            for _ in range(_OF_EACH_KIND):
                act(server.address)
        passing.close(_JOINING)
    server.answer("published")
    _connect(slow, server, "slow", _SLOW)
    slow.pause(_SLOW, True)
    server.tell(f"drown {_SLOW}")
    server.answer("drowned")
    slow.pause(_SLOW, False)
    # Those who only fell silent are the server's to find: nobody ends them from here before it has.
    _until(lambda: server.stats()["connections"] == _STEADY, server, "connections are left after their clients went")
    for stranger in silent:
        stranger.leave()
    slow.close(_SLOW)


def _connect(client: LoadClient, server: Program, name: str, count: int) -> None:
    opened, _ = client.connect(server.address, requests(f"{name}-{number}" for number in range(count)))
    if opened != count:
        raise SoakError(f"{opened} of {count} connections were opened: {client.report().refused}")


def _look(server: Program) -> Look:
    def is_quiet() -> bool:
        stats = server.stats()
        return stats["backlog_bytes"] + stats["waiting_bytes"] == 0

    _until(is_quiet, server, "bytes wait for clients who read all they get")
    time.sleep(_SETTLE_SECONDS)
    stats = server.stats()
    for name in ("panics", "events_dropped"):
        if stats[name]:
            raise SoakError(f"{stats[name]} {name.replace('_', ' ')} were counted")
    if stats["connections_opened"] - stats["connections_closed"] != _STEADY or stats["users"] != _STEADY:
        raise SoakError(f"the counters do not agree with {_STEADY} open connections: {stats}")
    return Look(server.resident_kib(), server.descriptors(), server.threads(), stats)


def _until(condition: Callable[[], bool], server: Program, failure: str) -> None:
    deadline = time.monotonic() + _QUIET_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SoakError(f"{failure}: {server.stats()}")
        time.sleep(_LOOK_SECONDS)


def _tell(number: int, look: Look) -> None:
    stats = look.stats
    print(
        f"round {number}: {look.resident_kib / 1024:.1f} MiB, {look.descriptors} descriptors, {look.threads} threads; "
        f"so far {stats['connections_opened']:,} connections, {stats['deliveries']:,} deliveries, "
        f"{stats['slow_consumers']} too slow, {stats['heard']} messages of clients",
        flush=True,
    )


if __name__ == "__main__":
    main()
