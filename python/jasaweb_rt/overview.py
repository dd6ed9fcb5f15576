"""Who is connected and how that goes: asked of the core in the same process, or of the database where there is none."""

import asyncio
import time
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from jasaweb_rt._core import ConnectionInfo, FanoutServer
from jasaweb_rt.database import connections
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.rates import RateMeter, Rates

__all__ = [
    "ClusterOverview",
    "ConnectionQuery",
    "ConnectionView",
    "LiveOverview",
    "NodeState",
    "NodeStatus",
    "Overview",
    "StoredOverview",
]


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How a server does now; its counters count from its start.

    None: the web application runs apart from its gateways (role `app`), and each of those tells it by its `/metrics`.
    """

    node_id: str | None = None
    draining: bool
    relay_ready: bool | None = None
    connections: int
    """Of this server; where the application runs apart, of all."""
    users: int
    connections_opened: int | None = None
    connections_closed: int | None = None
    handshakes_refused: int | None = None
    frames_received: int | None = None
    frames_published: int | None = None
    deliveries: int | None = None
    writes: int | None = None
    bytes_written: int | None = None
    coalesced_writes: int | None = None
    slow_consumers: int | None = None
    frames_dropped: int | None = None
    """For a connection that did not keep up, was being closed, or ended; durable ones come when it resumes."""
    sends_refused: int | None = None
    """Direct sends that were refused because a shard was overloaded."""
    events_dropped: int | None = None
    backlog_bytes: int | None = None
    queue_high_water_bytes: int | None = None
    """The most bytes that have waited for one connection."""
    backlog_high_water_bytes: int | None = None
    """The most bytes that have waited for one shard."""
    panics: int | None = None
    rates: Rates | None = None


class ConnectionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which connections are asked for, and which page of them; the oldest come first."""

    user_id: str | None = None
    role: Literal["admin", "client"] | None = None
    search: str = ""
    """What name, user id or address holds, in any case."""
    limit: int
    offset: int


class ConnectionView(msgspec.Struct, frozen=True, kw_only=True):
    """One open connection. Moments are Unix times in seconds."""

    connection_id: str
    user_id: str
    role: str
    name: str
    client_address: str
    user_agent: str | None
    connected_at: float
    last_activity: float
    last_seq: int | None
    """None: the database does not know; so with the next."""
    queued_bytes: int | None


class Overview(Protocol):
    """What an administrator sees, and may do to a connection."""

    async def status(self) -> NodeStatus:
        """How the server does."""

    async def connections(self, query: ConnectionQuery) -> tuple[list[ConnectionView], int]:
        """A page of the connections, and how many match in all, on this page and off it."""

    async def disconnect(self, connection_id: str, code: int) -> bool:
        """Closes a connection with `code`; False where there is no such. ServerStoppedError: it cannot be told."""


class NodeState(Protocol):
    """What a gateway says of itself."""

    @property
    def is_draining(self) -> bool:
        """Whether it is being stopped."""

    @property
    def is_relay_ready(self) -> bool:
        """Whether a commit would be noticed."""


class LiveOverview:
    """Of the core in this process: what it says is so at that moment, of its own connections."""

    def __init__(self, server: FanoutServer, rate_meter: RateMeter, state: NodeState) -> None:
        self._server = server
        self._rate_meter = rate_meter
        self._state = state

    async def status(self) -> NodeStatus:
        """As `Overview.status`."""
        stats = self._server.stats()
        drops = stats.drops
        counters = {name: getattr(stats, name) for name in NodeStatus.__struct_fields__ if hasattr(stats, name)}
        return NodeStatus(
            node_id=self._server.node_id,
            draining=self._state.is_draining,
            relay_ready=self._state.is_relay_ready,
            rates=self._rate_meter.rates(stats, time.monotonic()),
            frames_dropped=drops.slow_consumer + drops.no_pong + drops.closing + drops.disconnected,
            sends_refused=drops.overloaded,
            events_dropped=drops.events,
            **counters,
        )

    async def connections(self, query: ConnectionQuery) -> tuple[list[ConnectionView], int]:
        """As `Overview.connections`."""
        words = query.search.casefold()
        # It waits for every shard, so not on this loop.
        found = [
            connection
            for connection in await asyncio.to_thread(self._server.connections)
            if query.user_id in (None, connection.user_id)
            and query.role in (None, connection.role)
            and (not words or _holds(connection, words))
        ]
        found.sort(key=lambda connection: (connection.connected_at, connection.connection_id))
        page = found[query.offset : query.offset + query.limit]
        return [_view(connection) for connection in page], len(found)

    async def disconnect(self, connection_id: str, code: int) -> bool:
        """As `Overview.disconnect`."""
        return self._server.disconnect(connection_id, code)


class StoredOverview:
    """Of all gateways of a database, by the rows that their recorders write: a second late, activity half a minute."""

    def __init__(
        self, connect: Connect, disconnect: Callable[[str, int], bool], is_draining: Callable[[], bool]
    ) -> None:
        """`disconnect` has a gateway close a connection; ServerStoppedError: there is no way to it."""
        self._connect = connect
        self._disconnect = disconnect
        self._is_draining = is_draining

    async def status(self) -> NodeStatus:
        """As `Overview.status`."""
        async with self._connect() as connection:
            open_now = await connections.count_open(connection)
        return NodeStatus(draining=self._is_draining(), connections=open_now.connections, users=open_now.users)

    async def connections(self, query: ConnectionQuery) -> tuple[list[ConnectionView], int]:
        """As `Overview.connections`."""
        async with self._connect() as connection:
            rows, total = await connections.list_open(
                connection, query.user_id, query.role, query.search, query.limit, query.offset
            )
        return [
            ConnectionView(
                connection_id=row.connection_id,
                user_id=row.user_id,
                role=row.role,
                name=row.name,
                client_address=row.client_ip,
                user_agent=row.user_agent,
                connected_at=row.connected_at,
                last_activity=row.last_activity,
                last_seq=None,
                queued_bytes=None,
            )
            for row in rows
        ], total

    async def disconnect(self, connection_id: str, code: int) -> bool:
        """As `Overview.disconnect`."""
        if "\0" in connection_id:
            # Which PostgreSQL cannot hold.
            return False
        async with self._connect() as connection:
            if not await connections.is_open(connection, connection_id):
                return False
        return self._disconnect(connection_id, code)


class ClusterOverview:
    """Of one node as it is at that moment, and of the connections of all."""

    def __init__(self, live: LiveOverview, stored: StoredOverview, node_id: str) -> None:
        self._live = live
        self._stored = stored
        self._node_id = node_id

    async def status(self) -> NodeStatus:
        """As `Overview.status`, of this node."""
        return await self._live.status()

    async def connections(self, query: ConnectionQuery) -> tuple[list[ConnectionView], int]:
        """As `Overview.connections`, of all nodes."""
        return await self._stored.connections(query)

    async def disconnect(self, connection_id: str, code: int) -> bool:
        """As `Overview.disconnect`, of all nodes."""
        is_here = connection_id.rpartition("-")[0] == self._node_id
        return await (self._live if is_here else self._stored).disconnect(connection_id, code)


def _view(connection: ConnectionInfo) -> ConnectionView:
    return ConnectionView(
        connection_id=connection.connection_id,
        user_id=connection.user_id,
        role=connection.role,
        name=connection.name,
        client_address=connection.client_address,
        user_agent=connection.user_agent,
        connected_at=connection.connected_at,
        last_activity=connection.last_activity,
        last_seq=connection.last_seq,
        queued_bytes=connection.queued_bytes,
    )


def _holds(connection: ConnectionInfo, words: str) -> bool:
    looked_at = (connection.name, connection.user_id, connection.client_address)
    return any(words in text.casefold() for text in looked_at)
