"""What will happen in a run: users, devices, transactions, faults.

It is drawn from its seed before anything starts (`drawing.py`, `cluster_drawing.py`), and the same on any machine. What
it meets when it is carried out is not: a process is killed at another instruction each time.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SECONDS: Final = 6.0
"""How long faults are done; writing takes about as long."""

STUB_PAD: Final = 70_000
"""Characters of padding that make a frame longer than a durable frame may be; all other paddings are far below."""


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
    NATS_KILLED = "NATS server killed (SIGKILL)"
    NATS_STOPPED = "NATS server stopped (SIGTERM)"
    NATS_ASLEEP = "NATS server asleep (SIGSTOP, SIGCONT)"
    NATS_LINK_CUT = "node's link to NATS cut"
    NATS_LINK_CUT_DOWN = "node's link to NATS cut within what NATS sends"
    NATS_LINK_CUT_UP = "node's link to NATS cut within what the node sends"
    NATS_LINK_STALLED = "node's link to NATS stalled"
    NATS_LINK_SLOW = "node's link to NATS slow"
    NATS_LINK_AWAY = "no way from a node to NATS"
    DATABASE_LINK_CUT = "node's connections to PostgreSQL cut"
    DATABASE_LINK_STALLED = "node's connections to PostgreSQL stalled"
    DATABASE_LINK_AWAY = "no way from a node to PostgreSQL"
    NODE_CUT_OFF = "node cut off from all others"
    ROUTE_CUT = "two nodes cut off from each other"
    ROUTE_CUT_ONE_WAY = "nothing arrives at one node from another"
    ROUTES_SLOW = "what a node sends and gets is slow and lossy"
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
    """How many bytes still pass before a cut; how many seconds a clock is set forward; which of the other nodes."""
    abrupt: bool
    """A cut is a reset, rather than an end of the stream; the server's clock is set right."""


Script = tuple[Fault, ...]
"""Faults one after another."""


@dataclass(frozen=True)
class Plan:
    """A run."""

    seed: int
    users: tuple[str, ...]
    mortal: frozenset[str]
    """Users whose notifications may be deleted."""
    devices: tuple[Device, ...]
    writers: tuple[Writer, ...]
    scripts: tuple[Script, ...]
    """Faults of the database, the relay, and a server that is the only one: each script by itself, side by side."""
    device_scripts: tuple[Script, ...]
    """The same for each device, one script for each."""
    node_scripts: tuple[tuple[Script, ...], ...] = ()
    """The same for each node of a cluster, some scripts for each; none: there is one server, without a cluster."""
    last_faults: tuple[Fault, ...] = ()
    """What each node meets when all that is above is over, and something is written meanwhile."""
    knows_all_nats: bool = False
    """Nodes know the NATS servers of the others, too, and go there where their own is away."""

    @property
    def is_cluster(self) -> bool:
        """Whether it is for several nodes."""
        return bool(self.node_scripts)
