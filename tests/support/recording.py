"""A core and its recorder without a gateway, step by step; and what they have written down."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg

from jasaweb_rt._core import Connected, Disconnected, FanoutServer
from jasaweb_rt.database.pool import acquire, create_pool
from jasaweb_rt.recorder import Limits, Recorder
from tests.support.sockets import WAIT_SECONDS
from tests.support.tokens import SECRET

AT_ONCE = Limits(reconcile_seconds=0.0)
"""Every `record` compares with the core."""


class Recording(NamedTuple):
    """Events are fed to the recorder as they come; nothing is written but when a test says so."""

    server: FanoutServer
    recorder: Recorder
    pool: asyncpg.Pool


@asynccontextmanager
async def recording(
    database_url: str, *, limits: Limits = AT_ONCE, deaf: bool = False, retention_days: int = 30, **core: Any
) -> AsyncIterator[Recording]:
    """`deaf`: no event reaches the recorder."""
    loop = asyncio.get_running_loop()
    server = FanoutServer(token_secret=SECRET, **{"connect_rate_per_ip": 0, "max_connections_per_ip": 0, **core})
    async with await create_pool(database_url) as pool:
        recorder = Recorder(
            lambda: acquire(pool), server, log_messages=True, retention_days=retention_days, limits=limits
        )

        def take() -> None:
            for event in server.drain_events():
                match event:
                    case Connected() if not deaf:
                        recorder.opened(event)
                    case Disconnected() if not deaf:
                        recorder.closed(event)

        server.start()
        loop.add_reader(server.fileno(), take)
        try:
            yield Recording(server, recorder, pool)
        finally:
            loop.remove_reader(server.fileno())
            await asyncio.to_thread(server.stop, 0)


async def states(connection: asyncpg.Connection) -> list[tuple[str, str]]:
    """User and status of every connection that was written down, in the order of their users."""
    rows = await connection.fetch(
        "select user_id, status::text from public.websocket_connections order by user_id, connected_at"
    )
    return [tuple(row) for row in rows]


async def states_become(connection: asyncpg.Connection, *expected: tuple[str, str]) -> None:
    """Waits until `states` are these."""
    found = None
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while (found := await states(connection)) != list(expected):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{found} is not {list(expected)}") from None


async def leases_become(connection: asyncpg.Connection, count: int) -> None:
    """Waits until so many nodes have a lease, which they take beside what they write."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await connection.fetchval("select count(*) from jasaweb_rt.nodes") != count:
            await asyncio.sleep(0.02)


async def logged(connection: asyncpg.Connection, connection_id: str) -> list[dict[str, Any]]:
    """What was written down as sent to a connection, in order: the frames."""
    rows = await connection.fetch(
        """
        select m.message_type, m.payload from public.websocket_messages m
        join public.websocket_connections c on c.id = m.connection_id where c.connection_id = $1
        order by (m.payload ->> 'seq')::bigint
        """,
        connection_id,
    )
    assert [row["message_type"] for row in rows] == [row["payload"]["type"] for row in rows]
    return [row["payload"] for row in rows]


async def delivered(connection: asyncpg.Connection) -> dict[int, bool]:
    """Whether each seq that was written down as sent is marked as delivered."""
    rows = await connection.fetch("select (payload ->> 'seq')::bigint as seq, delivered from public.websocket_messages")
    return {row["seq"]: row["delivered"] for row in rows}


def as_logged(frames: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
    """Durable frames as a client got them, without the counters, which belong to the moment."""
    return [
        {key: value for key, value in frame.items() if key not in {"unread", "rev"}}
        for frame in frames
        if "seq" in frame
    ]
