"""Where a notification is, as an operator is told: by the route and by the command, in the same words."""

from datetime import datetime
from typing import Literal

import asyncpg
import msgspec

from jasaweb_rt.config import Settings
from jasaweb_rt.database import traces
from jasaweb_rt.database.traces import Numbered, SentTo, Trace
from jasaweb_rt.exceptions import NotFoundError
from jasaweb_rt.messages import timestamp

__all__ = ["MAX_CONNECTIONS", "Stage", "TraceBody", "trace"]

MAX_CONNECTIONS = 500
"""Connections in one trace; `total` counts all."""

Stage = Literal["unnumbered", "adopted", "waiting", "relayed", "sent", "delivered", "read"]


class TracedNotification(msgspec.Struct, frozen=True, rename="camel"):
    """What is traced."""

    id: str
    user_id: str
    type: str
    title: str
    created_at: str
    """As its writer has it; by default when the writing transaction began."""


class WaitingBody(msgspec.Struct, frozen=True, rename="camel"):
    """Why it is not relayed yet."""

    since: str | None
    """When it was committed, where PostgreSQL keeps that."""
    ahead: int
    """Events of all users that are to be relayed before it."""
    relay_runs: bool
    """Whether some server on this database relays at all."""


class TracedConnection(msgspec.Struct, frozen=True, rename="camel"):
    """A connection that it was sent to."""

    connection_id: str
    client_ip: str | None
    user_agent: str | None
    connected_at: str
    status: str
    """Of the connection, as it is now: `active`, `disconnected`, `timeout`, `error`."""
    sent_at: str
    """Noted up to a second after it was sent."""
    delivered: bool
    """Whether the client has proven that it arrived, by its answer to a ping behind it or by an `ack`."""
    delivered_before: str | None
    """It had arrived by then, and perhaps earlier; null where it has not, or PostgreSQL keeps no commit times."""

    @classmethod
    def of(cls, sent: SentTo) -> "TracedConnection":
        """As it goes out."""
        return cls(
            connection_id=sent.connection_id,
            client_ip=sent.client_ip,
            user_agent=sent.user_agent,
            connected_at=timestamp(sent.connected_at),
            status=sent.status,
            sent_at=timestamp(sent.sent_at),
            delivered=sent.delivered,
            delivered_before=_timestamp(sent.delivered_before),
        )


class TracedConnections(msgspec.Struct, frozen=True):
    """The connections that it was sent to, in the order of that; at most 500 of them."""

    items: list[TracedConnection]
    total: int
    delivered: int
    """On how many of them all it has arrived."""


class TraceBody(msgspec.Struct, frozen=True, rename="camel"):
    """Where a notification is."""

    notification: TracedNotification
    stage: Stage
    """How far it has come, in a word."""
    seq: int | None
    """Its number in the user's feed; null where it has none."""
    numbered: Numbered
    """`never`: written past the triggers, and so never pushed. `by_migration`: it was there before them."""
    committed_at: str | None
    """Null where PostgreSQL keeps no commit times (`track_commit_timestamp`), or did not then."""
    relayed: bool
    waiting: WaitingBody | None
    """Null where nothing of it waits for the relay."""
    message_log: Literal["durable", "off"]
    """The setting of whoever answers: where it is `off`, no connection is listed and that means nothing."""
    retention_days: int
    """After so many days what was sent is forgotten; 0: never."""
    connections: TracedConnections
    read_at: str | None


async def trace(connection: asyncpg.Connection, notification_id: str, settings: Settings) -> TraceBody:
    """Where a notification is.

    Raises:
        NotFoundError: there is none with that id.
    """
    found = await traces.find(connection, notification_id, MAX_CONNECTIONS)
    if found is None:
        raise NotFoundError(
            f"There is no notification with the id {notification_id!r}: it was deleted, is not committed yet or never "
            "was; see the table real_time_notifications"
        )
    committed_at = _timestamp(found.committed_at)
    waiting = None
    if found.waiting is not None:
        waiting = WaitingBody(since=committed_at, ahead=found.waiting.ahead, relay_runs=found.waiting.relay_runs)
    return TraceBody(
        notification=TracedNotification(
            id=found.id,
            user_id=found.user_id,
            type=found.type,
            title=found.title,
            created_at=timestamp(found.created_at),
        ),
        stage=_stage(found),
        seq=found.seq,
        numbered=found.numbered,
        committed_at=committed_at,
        relayed=_is_relayed(found),
        waiting=waiting,
        message_log=settings.message_log,
        retention_days=settings.retention_days,
        connections=TracedConnections(
            items=[TracedConnection.of(sent) for sent in found.sent_to],
            total=found.sent_total,
            delivered=found.delivered_total,
        ),
        read_at=_timestamp(found.read_at),
    )


def _is_relayed(found: Trace) -> bool:
    return found.numbered == "on_insert" and found.waiting is None


def _stage(found: Trace) -> Stage:
    stages: list[tuple[object, Stage]] = [
        (found.read_at, "read"),
        (found.delivered_total, "delivered"),
        (found.sent_total, "sent"),
        (found.waiting, "waiting"),
        (_is_relayed(found), "relayed"),
        (found.numbered == "by_migration", "adopted"),
    ]
    return next((stage for reached, stage in stages if reached), "unnumbered")


def _timestamp(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)
