"""What will happen in a run, drawn from its seed before anything starts: users, devices, transactions, faults.

The plan is the same for a seed on any machine. What it meets when it is carried out is not: a process is killed at
another instruction each time.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SECONDS: Final = 6.0
"""How long faults are done; writing takes about as long."""

STUB_PAD: Final = 70_000
"""Characters of padding that make a frame longer than a durable frame may be; all other paddings are far below."""

_PADS = (0, 0, 40, 300, 2_000, 12_000)
_DEVICE_COUNTS = (1, 1, 2, 3)
_WRITERS = 4
_TRANSACTIONS = 45
_BURST = (501, 1_500)
_LISTENED, _UNHEARD = 6, 4


class Say(StrEnum):
    """A statement of a transaction."""

    NOTIFY = "notify"
    """`Realtime.notify`."""
    NOTIFY_MANY = "notify_many"
    """`Realtime.notify_many`."""
    NOTIFY_ROLE = "notify_role"
    """`Realtime.notify_role`: everybody."""
    INSERT = "INSERT"
    """One row, by plain SQL."""
    INSERT_SELECT = "INSERT … SELECT"
    COPY = "COPY"
    READ = "UPDATE"
    """Some of a user's rows are marked as read, or as unread."""
    DELETE = "DELETE"
    """Some rows of a user whose rows may go."""


class Harm(StrEnum):
    """A kind of fault."""

    SERVER_KILLED = "server killed (SIGKILL)"
    SERVER_STOPPED = "server stopped (SIGTERM)"
    SERVER_ASLEEP = "server asleep (SIGSTOP, SIGCONT)"
    DATABASE_KILLED = "PostgreSQL killed (SIGKILL)"
    DATABASE_STOPPED_FAST = "PostgreSQL stopped fast and started"
    DATABASE_STOPPED_AT_ONCE = "PostgreSQL stopped at once and started"
    BACKEND_KILLED = "a backend of PostgreSQL killed (SIGKILL)"
    WRITERS_ENDED = "writers' backends terminated"
    GATEWAY_ENDED = "gateway's backends terminated"
    RELAY_ENDED = "relay's backend terminated"
    RELAY_ENDED_INSIDE = "relay's backend terminated between its reading and its removal"
    RELAY_HELD_INSIDE = "relay's backend held before its removal, then terminated"
    SERVER_CLOCK = "server's clock set"
    DATABASE_CLOCK = "PostgreSQL's clock set"
    LINK_CUT = "connection cut"
    LINK_CUT_DOWN = "connection cut within what the server sends"
    LINK_CUT_UP = "connection cut within what the client sends"
    LINK_STALLED = "connection stalled"
    LINK_SLOW = "connection slow"
    LINK_AWAY = "client away"
    CLIENT_NOT_READING = "client not reading"
    CLIENT_RESTARTED = "client killed and started with its position"


@dataclass(frozen=True)
class Statement:
    """One statement."""

    say: Say
    users: tuple[str, ...]
    """Whom its rows are for, row by row."""
    pad: int
    """Characters that are added to each row's data."""


@dataclass(frozen=True)
class Transaction:
    """What a writer does at one go."""

    pause: float
    """Seconds before it."""
    statements: tuple[Statement, ...]
    think: float
    """Seconds between two statements, and before the end."""
    undone: bool
    """Ends by ROLLBACK."""


@dataclass(frozen=True)
class Writer:
    """One program that writes, on a connection of its own."""

    name: str
    is_service: bool
    """Writes through `Realtime`, rather than by plain SQL."""
    transactions: tuple[Transaction, ...]


@dataclass(frozen=True)
class Device:
    """One client of a user."""

    number: int
    user: str
    marks_every: int
    """After so many notifications it sends `ack` and `read`; 0: never."""


@dataclass(frozen=True)
class Fault:
    """One fault."""

    pause: float
    """Seconds after the one before it, of the same script."""
    harm: Harm
    seconds: float
    """How long it lasts, where that can be chosen."""
    size: int
    """How many bytes still pass before a cut; how many seconds a clock is set forward."""
    abrupt: bool
    """A cut is a reset, rather than an end of the stream; the server's clock is set right."""


@dataclass(frozen=True)
class Plan:
    """A run."""

    seed: int
    users: tuple[str, ...]
    mortal: frozenset[str]
    """Users whose notifications may be deleted."""
    devices: tuple[Device, ...]
    writers: tuple[Writer, ...]
    scripts: tuple[tuple[Fault, ...], ...]
    """Faults of the server, the database and the relay: each script by itself, side by side."""
    device_scripts: tuple[tuple[Fault, ...], ...]
    """The same for each device."""


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    dice = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
    # Came later: what a seed draws otherwise is what it drew before.
    clock_dice = random.Random(f"clocks of {seed}")  # noqa: S311
    heard = tuple(f"user-{number}" for number in range(_LISTENED))
    users = heard + tuple(f"unheard-{number}" for number in range(_UNHEARD))
    mortal = frozenset(dice.sample(heard, 2))
    owners = [user for user in heard for _ in range(dice.choice(_DEVICE_COUNTS))]
    devices = tuple(Device(number, user, dice.choice((0, 0, 10, 50))) for number, user in enumerate(owners))
    return Plan(
        seed=seed,
        users=users,
        mortal=mortal,
        devices=devices,
        writers=tuple(_writer(dice, number, users, heard, sorted(mortal)) for number in range(_WRITERS)),
        scripts=(
            _script(dice, 0.9, {Harm.SERVER_KILLED: 6, Harm.SERVER_ASLEEP: 2, Harm.SERVER_STOPPED: 1}),
            _script(
                dice,
                2.0,
                {
                    Harm.DATABASE_KILLED: 2,
                    Harm.DATABASE_STOPPED_FAST: 1,
                    Harm.DATABASE_STOPPED_AT_ONCE: 1,
                    Harm.BACKEND_KILLED: 1,
                    Harm.GATEWAY_ENDED: 3,
                    Harm.WRITERS_ENDED: 3,
                },
            ),
            _script(dice, 0.4, {Harm.RELAY_ENDED: 1, Harm.RELAY_ENDED_INSIDE: 2, Harm.RELAY_HELD_INSIDE: 2}),
            _script(clock_dice, 0.8, {Harm.SERVER_CLOCK: 2, Harm.DATABASE_CLOCK: 1}),
        ),
        device_scripts=tuple(_script(dice, 0.5, _HARMS_OF_DEVICES) for _ in devices),
    )


_HARMS_OF_DEVICES = {
    Harm.LINK_CUT: 3,
    Harm.LINK_CUT_DOWN: 6,
    Harm.LINK_CUT_UP: 2,
    Harm.LINK_STALLED: 2,
    Harm.LINK_SLOW: 1,
    Harm.LINK_AWAY: 1,
    Harm.CLIENT_NOT_READING: 2,
    Harm.CLIENT_RESTARTED: 2,
}


def _script(dice: random.Random, mean: float, weights: dict[Harm, int]) -> tuple[Fault, ...]:
    faults = []
    left = SECONDS
    while (pause := dice.expovariate(1 / mean)) < left:
        harm = dice.choices(list(weights), list(weights.values()))[0]
        seconds = min(dice.expovariate(1 / 0.5), 2.5)
        faults.append(Fault(pause, harm, seconds, dice.choice((1, 3, 30, 500, 4_000)), dice.random() < 0.5))
        left -= pause + (seconds if harm in _LASTING else 0)
    return tuple(faults)


_LASTING = {Harm.SERVER_ASLEEP, Harm.LINK_STALLED, Harm.LINK_SLOW, Harm.LINK_AWAY, Harm.CLIENT_NOT_READING}


def _writer(
    dice: random.Random, number: int, users: tuple[str, ...], heard: tuple[str, ...], mortal: list[str]
) -> Writer:
    is_service = number % 2 == 0
    statement = _service_statement if is_service else _sql_statement
    burst = dice.randrange(_TRANSACTIONS)
    transactions = []
    for at in range(_TRANSACTIONS):
        count = dice.choice((1, 1, 1, 2, 3))
        statements = [statement(dice, users, mortal) for _ in range(count)]
        if at == burst and not is_service:
            statements.append(
                Statement(dice.choice((Say.INSERT_SELECT, Say.COPY)), (dice.choice(heard),) * dice.randint(*_BURST), 0)
            )
        transactions.append(
            Transaction(
                pause=dice.expovariate(_TRANSACTIONS / SECONDS),
                statements=tuple(statements),
                think=dice.choice((0, 0, 0, 0.005, 0.05)),
                undone=dice.random() < 0.12,
            )
        )
    return Writer(f"{'service' if is_service else 'program'}-{number}", is_service, tuple(transactions))


def _service_statement(dice: random.Random, users: tuple[str, ...], mortal: list[str]) -> Statement:
    say = dice.choices((Say.NOTIFY, Say.NOTIFY_MANY, Say.NOTIFY_ROLE), (4, 4, 1))[0]
    sizes: dict[Say, Callable[[], tuple[str, ...]]] = {
        Say.NOTIFY: lambda: (dice.choice(users),),
        Say.NOTIFY_MANY: lambda: tuple(dice.choices(users, k=dice.randint(2, 20))),
        Say.NOTIFY_ROLE: lambda: users,
    }
    return Statement(say, sizes[say](), _pad(dice))


def _sql_statement(dice: random.Random, users: tuple[str, ...], mortal: list[str]) -> Statement:
    say = dice.choices((Say.INSERT, Say.INSERT_SELECT, Say.COPY, Say.READ, Say.DELETE), (4, 3, 3, 2, 1))[0]
    if say is Say.DELETE:
        return Statement(say, (dice.choice(mortal),), 0)
    if say in {Say.INSERT, Say.READ}:
        return Statement(say, (dice.choice(users),), _pad(dice))
    return Statement(say, tuple(dice.choices(users, k=dice.randint(2, 60))), _pad(dice))


def _pad(dice: random.Random) -> int:
    return STUB_PAD if dice.random() < 0.02 else dice.choice(_PADS)
