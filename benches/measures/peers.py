"""Other servers, the floor and ours side by side, where `make bench-peers` has installed the others."""

import json
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benches.chart import Bar
from benches.load import Connections, Load
from benches.measures.figures import FLOOR_SUBJECT, OURS, RATIO, Figure, Rounds, Run, Subject, paced, ratio

__all__ = ["peers"]

_ROOT = Path(__file__).parent.parent.parent
_PROGRAMS = _ROOT / "benches" / "peers"
_VENV = _ROOT / "build" / "peers" / "venv"
_NODE_MODULES = _PROGRAMS / "node_modules"
# Written last by `make bench-peers`.
_INSTALLED = ".installed"

_PYTHON_PEERS = {"picows": "picows", "websockets": "websockets", "litestar": "Litestar channels"}
_NODE_PEERS = {"ws": "ws", "socket.io": "Socket.IO"}
"""What people call them, by the names of their packages."""

_US = replace(OURS, name="jasaweb_rt")

_COST = f"Server CPU per delivery, {RATIO} the floor's: less is better"
_MOST = f"Most deliveries a second on one core, {RATIO} the floor's: more is better"

_RATE = 8.0
"""Messages a second to everyone, as in `cost`."""
_MESSAGES = 60
_TRIALS, _TRIAL_MESSAGES = 2, 12
"""Whether a rate is kept; the second try is for a machine that did something else during the first."""
_SLOWEST_RATE = 0.5

_FIRST_OFFER = 100_000
"""Deliveries a second with which a flood begins; each step offers twice as many."""
_LAST_OFFER = 12_800_000
_STEP_SECONDS = 2
"""How long a step offers its messages. What a server does not send at once it has to keep, so it is not long."""
_HELD = 0.9
"""A step of which so much got through was held."""


def peers(run: Run) -> Iterator[Figure]:
    """The paced load of `cost`, and a flood that grows until it is too much, on each."""
    subjects = [_US, *_python_peers(), *_node_peers()]
    if len(subjects) < 1 + len(_PYTHON_PEERS) + len(_NODE_PEERS):
        print("peers: those that are not installed are left out; `make bench-peers` installs them", file=sys.stderr)
    if len(subjects) > 1:
        yield from _costs(run, subjects)
        yield from _floods(run, subjects)


def _python_peers() -> Iterator[Subject]:
    if (_VENV / _INSTALLED).exists():
        pins = (_PROGRAMS / "requirements.in").read_text()
        versions = dict(re.findall(r"^(\S+)==(\S+)$", pins, re.MULTILINE))
        for package, name in _PYTHON_PEERS.items():
            command = (str(_VENV / "bin" / "python"), "-m", f"benches.peers.with_{package}")
            yield Subject(f"{name} {versions[package]}", command)


def _node_peers() -> Iterator[Subject]:
    if (_NODE_MODULES / _INSTALLED).exists():
        versions = json.loads((_PROGRAMS / "package.json").read_text())["dependencies"]
        for package, name in _NODE_PEERS.items():
            program = _PROGRAMS / f"with_{package.replace('.', '_')}.mjs"
            yield Subject(f"{name} {versions[package]}", ("node", str(program)))


def _costs(run: Run, subjects: Sequence[Subject]) -> Iterator[Figure]:
    by_rate: dict[float, list[Subject]] = {}
    for subject in subjects:
        by_rate.setdefault(_kept_rate(run, subject), []).append(subject)
    for rate, group in sorted(by_rate.items(), reverse=True):
        work = paced(rate=rate, count=round(_MESSAGES * rate / _RATE))
        rounds = run.loads(dict.fromkeys((FLOOR_SUBJECT, *group), work))
        for subject in group:
            slower = rate < _RATE
            what = (
                f"{subject.name}: server CPU per delivery, {run.connections:,} connections, 256 B, {rate:g} messages/s"
            )
            p99, base = (rounds.median(each, "p99") * 1e3 for each in (subject, FLOOR_SUBJECT))
            figure = ratio(
                _only(rounds, subject),
                f"{what}, the rate that it keeps up with" if slower else what,
                "cpu_per_delivery",
                of=subject,
                goal=None,
                detail=f"; p99 {p99:.0f} ms against {base:.0f} ms",
            )
            note = f"{rounds.median(subject, 'cpu_per_delivery'):.1f} µs" + (f", at {rate:g}/s" if slower else "")
            yield replace(figure, bar=_bar(_COST, subject, figure.value, note))


def _kept_rate(run: Run, subject: Subject) -> float:
    """The usual rate, or the first slower one that `subject` keeps up with."""
    rate = _RATE
    while rate > _SLOWEST_RATE and not any(_keeps_up(run, subject, rate) for _ in range(_TRIALS)):
        rate /= 2
    return rate


def _keeps_up(run: Run, subject: Subject, rate: float) -> bool:
    """Whether a message has reached everyone before the next is due."""
    trial = replace(run, rounds=1).loads({subject: paced(rate=rate, count=_TRIAL_MESSAGES)})
    (load,) = trial.loads[subject.name]
    return _is_whole(load) and load.last < 1 / rate


def _floods(run: Run, subjects: Sequence[Subject]) -> Iterator[Figure]:
    rounds = run.loads(dict.fromkeys((FLOOR_SUBJECT, *subjects), _climb))
    most = {name: statistics.median(map(_speed, loads)) for name, loads in rounds.loads.items()}
    base = most[FLOOR_SUBJECT.name]
    for subject in subjects:
        found, cpu = most[subject.name], rounds.median(subject, "cpu_per_delivery")
        yield Figure(
            f"{subject.name}: most deliveries/s on one core, {run.connections:,} connections, 256 B",
            found / base,
            RATIO,
            None,
            f"{found:,.0f} against {base:,.0f}; {cpu:.2f} µs each",
            _only(rounds, subject).doubts,
            _bar(_MOST, subject, found / base, f"{found:,.0f}/s"),
        )


def _climb(users: Connections) -> Load:
    """Offers twice as much again and again until that is too much, and returns the step that brought the most."""
    users.publish(rate=_RATE, count=2)
    best, offer = None, _FIRST_OFFER
    while True:
        rate = offer / users.count
        load = users.publish(rate=rate, count=max(1, round(rate * _STEP_SECONDS)))
        if best is None or (_is_whole(load) and _speed(load) > _speed(best)):
            best = load
        if not _is_whole(load) or _speed(load) < _HELD * offer or offer >= _LAST_OFFER:
            return best
        offer *= 2


def _is_whole(load: Load) -> bool:
    return load.deliveries == load.expected and not load.closed


def _speed(load: Load) -> float:
    return load.deliveries / load.elapsed


def _only(rounds: Rounds, subject: Subject) -> Rounds:
    """With the doubts that concern `subject` and the floor, of all that ran beside it."""
    names = (f"{subject.name}: ", f"{FLOOR_SUBJECT.name}: ")
    return replace(rounds, doubts=[doubt for doubt in rounds.doubts if doubt.startswith(names)])


def _bar(panel: str, subject: Subject, value: float, note: str) -> Bar:
    return Bar(panel, subject.name, value, note, is_ours=subject == _US)
