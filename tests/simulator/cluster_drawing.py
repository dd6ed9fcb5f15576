"""Draws the plan of a cluster from a seed: what one server meets, and NATS and the network besides."""

import random

from tests.simulator.drawing import (
    HARMS_OF_DATABASE,
    HARMS_OF_RELAY,
    draw_device_scripts,
    draw_people,
    draw_script,
    draw_writers,
)
from tests.simulator.plan import Fault, Harm, Plan, Script

_NODES = 3
# After which a link to NATS is cut: not so many that they do not come in time.
_NATS_BYTES = (1, 3, 30, 200)
# Which of the other nodes, counted from one.
_OTHERS = (1, 2)
# Seconds. Nodes believe each other's tokens as long as their clocks are a minute apart at most.
_CLOCKS_APART = (1, 3, 30, 50)


def draw_cluster(seed: int) -> Plan:
    """The plan of a seed, with three nodes."""
    dice = random.Random(f"cluster of {seed}")  # noqa: S311  # to be repeated, not to be secret
    people = draw_people(dice)
    return Plan(
        seed=seed,
        users=people.users,
        mortal=people.mortal,
        devices=people.devices,
        writers=draw_writers(dice, people),
        scripts=(
            draw_script(dice, 2.5, HARMS_OF_DATABASE),
            draw_script(dice, 0.6, HARMS_OF_RELAY),
            draw_script(dice, 2.0, {Harm.DATABASE_CLOCK: 1}),
        ),
        device_scripts=draw_device_scripts(dice, people),
        node_scripts=tuple(_node_scripts(dice) for _ in range(_NODES)),
        last_faults=tuple(_last_fault(dice) for _ in range(_NODES)),
        knows_all_nats=dice.random() < 0.5,
    )


def _node_scripts(dice: random.Random) -> tuple[Script, ...]:
    return (
        draw_script(dice, 2.5, {Harm.SERVER_KILLED: 4, Harm.SERVER_ASLEEP: 3, Harm.SERVER_STOPPED: 1}),
        draw_script(dice, 2.5, {Harm.NATS_KILLED: 3, Harm.NATS_ASLEEP: 3, Harm.NATS_STOPPED: 1}),
        draw_script(
            dice,
            1.0,
            {
                Harm.NATS_LINK_CUT: 2,
                Harm.NATS_LINK_CUT_DOWN: 4,
                Harm.NATS_LINK_CUT_UP: 4,
                Harm.NATS_LINK_STALLED: 2,
                Harm.NATS_LINK_SLOW: 1,
                Harm.NATS_LINK_AWAY: 2,
            },
            sizes=_NATS_BYTES,
        ),
        draw_script(
            dice,
            2.0,
            {Harm.DATABASE_LINK_CUT: 2, Harm.DATABASE_LINK_STALLED: 2, Harm.DATABASE_LINK_AWAY: 2},
        ),
        # Long enough for NATS servers to give each other up, and short enough not to.
        draw_script(
            dice,
            1.5,
            {Harm.NODE_CUT_OFF: 3, Harm.ROUTE_CUT: 2, Harm.ROUTE_CUT_ONE_WAY: 2, Harm.ROUTES_SLOW: 2},
            sizes=_OTHERS,
            longer=2.0,
        ),
        draw_script(dice, 1.5, {Harm.SERVER_CLOCK: 1}, sizes=_CLOCKS_APART),
    )


_LAST = (
    Harm.NATS_KILLED,
    Harm.NATS_ASLEEP,
    Harm.NATS_LINK_STALLED,
    Harm.NATS_LINK_AWAY,
    Harm.NODE_CUT_OFF,
    Harm.ROUTE_CUT,
    Harm.ROUTE_CUT_ONE_WAY,
    Harm.DATABASE_LINK_AWAY,
)


def _last_fault(dice: random.Random) -> Fault:
    return Fault(0.0, dice.choice(_LAST), dice.uniform(1.0, 4.0), dice.choice(_OTHERS), dice.random() < 0.5)
