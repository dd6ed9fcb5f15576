"""Draws a plan from a seed; the parts that every kind of plan has, and the one for one server."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tests.simulator.plan import (
    SECONDS,
    STUB_PAD,
    Device,
    Fault,
    Harm,
    Plan,
    Say,
    Script,
    Statement,
    Transaction,
    Writer,
)

_PADS = (0, 0, 40, 300, 2_000, 12_000)
_DEVICE_COUNTS = (1, 1, 2, 3)
_WRITERS = 4
_TRANSACTIONS = 45
_BURST = (501, 1_500)
_LISTENED, _UNHEARD = 6, 4
_SIZES = (1, 3, 30, 500, 4_000)


class People(NamedTuple):
    """For whom all is written."""

    users: tuple[str, ...]
    heard: tuple[str, ...]
    """Those of `users` who have devices."""
    mortal: frozenset[str]
    """Those of `heard` whose notifications may be deleted."""
    devices: tuple[Device, ...]


def draw(seed: int) -> Plan:
    """The plan of a seed, with one server."""
    dice = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
    # Came later: what a seed draws otherwise is what it drew before.
    clock_dice = random.Random(f"clocks of {seed}")  # noqa: S311
    people = draw_people(dice)
    return Plan(
        seed=seed,
        users=people.users,
        mortal=people.mortal,
        devices=people.devices,
        writers=draw_writers(dice, people),
        scripts=(
            draw_script(dice, 0.9, {Harm.SERVER_KILLED: 6, Harm.SERVER_ASLEEP: 2, Harm.SERVER_STOPPED: 1}),
            draw_script(dice, 2.0, HARMS_OF_DATABASE),
            draw_script(dice, 0.4, HARMS_OF_RELAY),
            draw_script(clock_dice, 0.8, {Harm.SERVER_CLOCK: 2, Harm.DATABASE_CLOCK: 1}),
        ),
        device_scripts=draw_device_scripts(dice, people),
    )


HARMS_OF_DATABASE = {
    Harm.DATABASE_KILLED: 2,
    Harm.DATABASE_STOPPED_FAST: 1,
    Harm.DATABASE_STOPPED_AT_ONCE: 1,
    Harm.BACKEND_KILLED: 1,
    Harm.GATEWAY_ENDED: 3,
    Harm.WRITERS_ENDED: 3,
}
HARMS_OF_RELAY = {Harm.RELAY_ENDED: 1, Harm.RELAY_ENDED_INSIDE: 2, Harm.RELAY_HELD_INSIDE: 2}
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

# Those that take time of their script's.
_LASTING = {
    Harm.SERVER_ASLEEP,
    Harm.NATS_KILLED,
    Harm.NATS_STOPPED,
    Harm.NATS_ASLEEP,
    Harm.NATS_LINK_STALLED,
    Harm.NATS_LINK_SLOW,
    Harm.NATS_LINK_AWAY,
    Harm.DATABASE_LINK_STALLED,
    Harm.DATABASE_LINK_AWAY,
    Harm.NODE_CUT_OFF,
    Harm.ROUTE_CUT,
    Harm.ROUTE_CUT_ONE_WAY,
    Harm.ROUTES_SLOW,
    Harm.LINK_STALLED,
    Harm.LINK_SLOW,
    Harm.LINK_AWAY,
    Harm.CLIENT_NOT_READING,
}


def draw_people(dice: random.Random) -> People:
    """Users and their devices."""
    heard = tuple(f"user-{number}" for number in range(_LISTENED))
    users = heard + tuple(f"unheard-{number}" for number in range(_UNHEARD))
    mortal = frozenset(dice.sample(heard, 2))
    owners = [user for user in heard for _ in range(dice.choice(_DEVICE_COUNTS))]
    devices = tuple(Device(number, user, dice.choice((0, 0, 10, 50))) for number, user in enumerate(owners))
    return People(users, heard, mortal, devices)


def draw_writers(dice: random.Random, people: People) -> tuple[Writer, ...]:
    """Those who write, and what."""
    return tuple(_writer(dice, number, people.users, people.heard, sorted(people.mortal)) for number in range(_WRITERS))


def draw_device_scripts(dice: random.Random, people: People) -> tuple[Script, ...]:
    """What each device meets."""
    return tuple(draw_script(dice, 0.5, _HARMS_OF_DEVICES) for _ in people.devices)


def draw_script(
    dice: random.Random,
    mean: float,
    weights: Mapping[Harm, int],
    *,
    sizes: Sequence[int] = _SIZES,
    longer: float = 1.0,
) -> Script:
    """Faults of these kinds, `mean` seconds apart, for as long as a run does harm.

    One lasts half a second on average, or `longer` times as much.
    """
    faults = []
    left = SECONDS
    while (pause := dice.expovariate(1 / mean)) < left:
        harm = dice.choices(list(weights), list(weights.values()))[0]
        seconds = min(dice.expovariate(1 / 0.5), 2.5) * longer
        faults.append(Fault(pause, harm, seconds, dice.choice(sizes), dice.random() < 0.5))
        left -= pause + (seconds if harm in _LASTING else 0)
    return tuple(faults)


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
