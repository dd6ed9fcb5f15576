"""What the web application asks of its process: of a gateway in it, or of what stands for those that are elsewhere."""

from collections.abc import Sequence
from typing import Protocol

import msgspec
from prometheus_client.registry import Collector

from jasaweb_rt.auth.keys import KeyRing
from jasaweb_rt.config import Keys
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.disk_watch import DiskWatch
from jasaweb_rt.hooks import Hooks
from jasaweb_rt.overview import Overview
from jasaweb_rt.probe_watch import ProbeWatch
from jasaweb_rt.realtime import Realtime

__all__ = ["Conditions", "Node"]


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """How a process is, beside its database. None: it has no such thing."""

    relay: bool | None = None
    """A commit would be noticed."""
    listener: bool | None = None
    """New connections are let in."""
    nats: bool | None = None
    """It is linked to the other nodes."""
    draining: bool
    """It is being stopped."""


class Node(Protocol):
    """A process. Whoever started it stops it."""

    @property
    def hooks(self) -> Hooks:
        """Who is told of what happens."""

    @property
    def hook_events_dropped(self) -> int:
        """Events that were not told to a hook, or not handed on to those who have hooks."""

    @property
    def keys(self) -> KeyRing:
        """By which sessions and tokens are signed."""

    @property
    def realtime(self) -> Realtime:
        """What services speak to users by."""

    @property
    def disk(self) -> DiskWatch:
        """Whether PostgreSQL has room."""

    @property
    def probes(self) -> ProbeWatch:
        """Who watches whether it is ready."""

    @property
    def conditions(self) -> Conditions:
        """How it is now."""

    def replace_keys(self, keys: Keys) -> None:
        """Issues and accepts tokens by other keys from now on, from any thread.

        Raises:
            ServerStoppedError: it is not running.
        """

    def overview(self, connect: Connect) -> Overview:
        """Who is connected, here or at the gateways; `connect` lends connections on the caller's event loop."""

    def measures(self) -> Sequence[Collector]:
        """What it measures about itself."""
