"""What probes and Prometheus are told of a process, whatever its part in a server is."""

import asyncio
from typing import Literal

import msgspec

from jasaweb_rt.config import Settings
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.exceptions import DatabaseUnavailableError
from jasaweb_rt.metrics import Metrics
from jasaweb_rt.node import Node

__all__ = ["Checks", "Vitals"]

_DATABASE_SECONDS = 2.0

Condition = Literal["ok", "failed"]


class Checks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What readiness is made of; what this process does not have is left out."""

    database: Condition
    """It answers, within 2 s."""
    relay: Condition | None = None
    """A commit would be noticed."""
    listener: Condition | None = None
    """New connections are let in: there are file descriptors for them."""
    disk: Condition
    """PostgreSQL has room to write."""
    draining: bool
    """The server is stopping."""
    nats: Condition | None = None
    """Frames of other nodes come in, as an echo has shown. Only where there is a cluster."""

    @property
    def ready(self) -> bool:
        """Whether all of it is as it should be."""
        return not self.draining and all(
            condition in ("ok", None) for condition in (self.database, self.relay, self.listener, self.disk, self.nats)
        )


class Vitals:
    """How one process is. It owns nothing."""

    def __init__(self, settings: Settings, node: Node, connect: Connect) -> None:
        """`connect` lends connections on the event loop that asks."""
        self.settings = settings
        self.metrics = Metrics(*node.measures())
        self._node = node
        self._connect = connect

    async def checks(self) -> Checks:
        """How it is now; asks the database, for 2 s at most."""
        self._node.probes.asked()
        database = await self._database_answers()
        conditions = self._node.conditions
        return Checks(
            database=_condition(database),
            relay=_condition_of(conditions.relay),
            listener=_condition_of(conditions.listener),
            disk=_condition(not self._node.disk.is_full),
            draining=conditions.draining,
            nats=_condition_of(conditions.nats),
        )

    async def _database_answers(self) -> bool:
        try:
            async with asyncio.timeout(_DATABASE_SECONDS), self._connect() as connection:
                await connection.fetchval("SELECT 1")
        except (DatabaseUnavailableError, TimeoutError):
            return False
        return True


def _condition(is_well: bool) -> Condition:
    return "ok" if is_well else "failed"


def _condition_of(is_well: bool | None) -> Condition | None:
    return None if is_well is None else _condition(is_well)
