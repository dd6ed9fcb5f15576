"""The relay by itself, where its connection ends in ways that a server on this machine does not show by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import asyncpg
import pytest

from jasaweb_rt._core import FanoutServer
from jasaweb_rt.cluster import ClusterLink
from jasaweb_rt.database.pool import connect
from jasaweb_rt.exceptions import DatabaseUnavailableError
from jasaweb_rt.relay import Relay
from tests.support.sockets import until
from tests.support.tokens import SECRET

ASLEEP = """
select exists (
  select from pg_stat_activity a join pg_locks l using (pid)
  where pid = $1 and state = 'idle' and query like '%with removed as%' and locktype = 'advisory'
  having count(*) = 2
)
"""
"""Whether the backend of a relay has both locks, and has told it that there is nothing."""


async def test_a_server_that_said_goodbye_is_away_before_the_connection_ends(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with endless(database_url) as (url, goodbye):
        relays: list[asyncpg.Connection] = []

        async def connect_relay() -> asyncpg.Connection:
            relays.append(await connect(url))
            return relays[0]

        server = FanoutServer(host="127.0.0.1", port=0, token_secret=SECRET)
        relay = Relay(connect_relay, server, ClusterLink(server, is_configured=False))
        running = asyncio.create_task(relay.run())
        await until(lambda: relay.is_ready)
        async with asyncio.timeout(20):
            while not await connection.fetchval(ASLEEP, relays[0].get_server_pid()):
                await asyncio.sleep(0.005)
        await connection.execute("select pg_terminate_backend($1)", relays[0].get_server_pid())
        await asyncio.wait_for(goodbye.wait(), 20)
        with pytest.raises(DatabaseUnavailableError):
            await asyncio.wait_for(running, 20)


@asynccontextmanager
async def endless(database_url: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A URL for one connection, which does not hear of its end from the server; the event tells of it."""
    parts = urlsplit(database_url)
    folder = dict(parse_qsl(parts.query)).get("host")
    goodbye, done = asyncio.Event(), asyncio.Event()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ended: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        ended.set()

    async def serve(near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if folder is None:
            far_reader, far = await asyncio.open_connection(parts.hostname, parts.port or 5432)
        else:
            far_reader, far = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")
        await asyncio.gather(pass_on(far_reader, near, goodbye), pass_on(near_reader, far, asyncio.Event()))
        near.close()
        far.close()
        done.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        user = parts.netloc.rpartition("@")[0]
        netloc = f"{user}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield urlunsplit(parts._replace(netloc=netloc, query="sslmode=disable")), goodbye
        await asyncio.wait_for(done.wait(), 20)
