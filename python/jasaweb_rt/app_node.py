"""The web application's process where it runs apart from its gateways: it has no sockets, and no relay."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from prometheus_client.registry import Collector

from jasaweb_rt.app_cluster import AppCluster
from jasaweb_rt.auth.keys import KeyRing
from jasaweb_rt.config import Keys, Settings
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.disk_watch import DiskWatch
from jasaweb_rt.exceptions import ServerStoppedError
from jasaweb_rt.hooks import Hooks
from jasaweb_rt.metrics import NodeMeasures
from jasaweb_rt.node import Conditions
from jasaweb_rt.overview import StoredOverview
from jasaweb_rt.probe_watch import ProbeWatch
from jasaweb_rt.realtime import Realtime

__all__ = ["AppNode", "open_app_node"]

_NO_CLUSTER = (
    "This application runs apart from its gateways (role 'app') and has no way to their sockets; set "
    "JASAWEB_RT_NATS_URL, for the gateways too. What is stored is pushed without"
)


@contextlib.asynccontextmanager
async def open_app_node(
    settings: Settings, hooks: Hooks | None = None, time_to_end: Callable[[], float] | None = None
) -> AsyncIterator["AppNode"]:
    """Runs what an application needs beside itself, and its hooks on this event loop, as long as the block.

    Hooks that are under way have `time_to_end()` seconds then; None: `settings.drain_seconds`.
    """
    node = AppNode(settings, hooks)
    node.hooks.start()
    watching = asyncio.ensure_future(node.disk.run())
    try:
        if node.cluster is not None:
            # Who has no hooks takes no events away from those who have.
            await node.cluster.start(None if node.hooks.is_empty else node.hooks.emit)
        yield node
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        if node.cluster is not None:
            await node.cluster.close()
        await node.hooks.stop(settings.drain_seconds if time_to_end is None else time_to_end())


class AppNode:
    """A process of role `app`. See `Node`, and `open_app_node`, which runs it."""

    def __init__(self, settings: Settings, hooks: Hooks | None = None) -> None:
        """`hooks` are told of what the application does and, where there is NATS, of what happens at the gateways.

        Raises:
            ConfigurationError: a setting for NATS cannot be used.
        """
        self.hooks = Hooks() if hooks is None else hooks
        self.keys = KeyRing(settings.keys)
        self.cluster = AppCluster(settings) if settings.nats_url else None
        """The way to the gateways; None: there is none but the database."""
        self.realtime = Realtime(None if self.cluster is None else self.cluster.client, absent=_NO_CLUSTER)
        # The embedded server's own disk is watched by the gateway that runs it.
        self.disk = DiskWatch(None)
        self.probes = ProbeWatch()
        self.is_draining = False

    @property
    def conditions(self) -> Conditions:
        """How it is now; see `Node`."""
        return Conditions(nats=None if self.cluster is None else self.cluster.is_up, draining=self.is_draining)

    @property
    def hook_events_dropped(self) -> int:
        """Events that no hook was told, since too many waited for it."""
        return self.hooks.dropped

    def replace_keys(self, keys: Keys) -> None:
        """Issues tokens by other keys from now on."""
        self.keys.current = keys

    def overview(self, connect: Connect) -> StoredOverview:
        """Of all gateways."""
        return StoredOverview(connect, self.disconnect, lambda: self.is_draining)

    def measures(self) -> Sequence[Collector]:
        """Those of every process, and of its link."""
        return [NodeMeasures(self)] if self.cluster is None else [NodeMeasures(self), self.cluster]

    def disconnect(self, connection_id: str, code: int) -> bool:
        """Has the gateway of a connection close it. ServerStoppedError: there is no way to it."""
        if self.cluster is None:
            raise ServerStoppedError(_NO_CLUSTER)
        return self.cluster.disconnect(connection_id, code)
