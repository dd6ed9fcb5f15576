"""Does what a plan's faults say; each says whether it met anything, and only then it counts."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable

import asyncpg

from tests.simulator.devices import Receiver
from tests.simulator.links import Link, Way
from tests.simulator.plan import Fault, Harm, Script
from tests.simulator.servers import Server
from tests.simulator.world import Database, World
from tests.simulator.writers import WRITERS

_RELAY, _GATEWAY = "jasaweb-rt relay", "jasaweb-rt gateway"
_LONGEST_LOOK = 0.5
_STATEMENT_SECONDS = 5.0
_HOLD = 0.1

_END = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = $1"

# Looks without a pause, for the relay is there for a millisecond or so: rows are read and published, and not removed.
_FIND_INSIDE = """
create or replace function pg_temp.relay_inside(and_end boolean, seconds float) returns int language plpgsql as $$
declare
  found_pid int;
  waiting bigint;
  seen_at timestamptz;
  until timestamptz := clock_timestamp() + make_interval(secs => seconds);
begin
  loop
    if waiting is null or not exists (select from jasaweb_rt.outbox where id = waiting) then
      select min(id) into waiting from jasaweb_rt.outbox;
      seen_at := clock_timestamp();
    end if;
    -- It has read since that row was there, and the row is there still.
    select pid into found_pid from pg_stat_activity
    where application_name = 'jasaweb-rt relay' and state = 'idle' and query like '%with removed as%'
      and query_start > seen_at and exists (select from jasaweb_rt.outbox where id = waiting);
    if found_pid is not null and and_end then
      perform pg_terminate_backend(found_pid);
    end if;
    exit when found_pid is not null or clock_timestamp() > until;
    perform pg_stat_clear_snapshot();
  end loop;
  return found_pid;
end $$
"""


async def follow(script: Script, do: Callable[[Fault], Awaitable[bool]], done: Counter[Harm]) -> None:
    """Carries out a script, fault by fault, and counts what met something."""
    for fault in script:
        await asyncio.sleep(fault.pause)
        if await do(fault):
            done[fault.harm] += 1


async def harm_world(world: World, fault: Fault) -> bool:
    """A fault of the only server, the database or the relay."""
    database = world.database
    match fault.harm:
        case Harm.DATABASE_KILLED:
            return database.send_signal(signal.SIGKILL)
        case Harm.DATABASE_STOPPED_FAST:
            return database.send_signal(signal.SIGINT)
        case Harm.DATABASE_STOPPED_AT_ONCE:
            return database.send_signal(signal.SIGQUIT)
        case Harm.DATABASE_CLOCK:
            # Never back: its timers go by this clock, and a deadlock would not be found for as long.
            return database.clock.set_ahead(database.clock.ahead + fault.size)
        case Harm.SERVER_KILLED | Harm.SERVER_STOPPED | Harm.SERVER_ASLEEP | Harm.SERVER_CLOCK:
            return await harm_server(world.servers[0], fault)
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        # Where the database is away, there is nothing to be harmed.
        async with asyncio.timeout(_STATEMENT_SECONDS), database.connection() as connection:
            return await _harm_backends(database, connection, fault)
    return False


async def harm_server(server: Server, fault: Fault) -> bool:
    """A fault of a server."""
    match fault.harm:
        case Harm.SERVER_KILLED:
            return server.send_signal(signal.SIGKILL)
        case Harm.SERVER_STOPPED:
            return server.send_signal(signal.SIGTERM)
        case Harm.SERVER_ASLEEP:
            return await server.sleep(fault.seconds)
        case Harm.SERVER_CLOCK:
            return server.clock.set_ahead(0 if fault.abrupt else fault.size)
    raise ValueError(f"no fault of a server: {fault.harm}")


async def harm_device(receiver: Receiver, fault: Fault) -> bool:
    """A fault of a device or of its way to the server."""
    match fault.harm:
        case Harm.CLIENT_NOT_READING:
            return await receiver.stop_reading(fault.seconds)
        case Harm.CLIENT_RESTARTED:
            return await receiver.restart()
    return await harm_link(receiver.link, fault)


async def harm_link(link: Link, fault: Fault) -> bool:
    """A fault of a link, whoever is at its ends."""
    match fault.harm:
        case Harm.LINK_CUT | Harm.NATS_LINK_CUT | Harm.DATABASE_LINK_CUT:
            return link.cut(abrupt=fault.abrupt)
        case Harm.LINK_CUT_DOWN | Harm.NATS_LINK_CUT_DOWN:
            return await link.cut_within(Way.DOWN, fault.size, abrupt=fault.abrupt, seconds=fault.seconds)
        case Harm.LINK_CUT_UP | Harm.NATS_LINK_CUT_UP:
            return await link.cut_within(Way.UP, fault.size, abrupt=fault.abrupt, seconds=fault.seconds)
        case Harm.LINK_STALLED | Harm.NATS_LINK_STALLED | Harm.DATABASE_LINK_STALLED:
            return await link.stall(fault.seconds)
        case Harm.LINK_SLOW | Harm.NATS_LINK_SLOW:
            return await link.slow(fault.seconds / 10, fault.seconds)
        case Harm.LINK_AWAY | Harm.NATS_LINK_AWAY | Harm.DATABASE_LINK_AWAY:
            return await link.away(fault.seconds * 2)
    raise ValueError(f"no fault of a link: {fault.harm}")


async def _harm_backends(database: Database, connection: asyncpg.Connection, fault: Fault) -> bool:
    match fault.harm:
        case Harm.WRITERS_ENDED:
            return bool(await connection.fetchval(_END, WRITERS))
        case Harm.GATEWAY_ENDED:
            return bool(await connection.fetchval(_END, _GATEWAY))
        case Harm.RELAY_ENDED:
            return bool(await connection.fetchval(_END, _RELAY))
        case Harm.RELAY_ENDED_INSIDE:
            return await _relay_inside(connection, and_end=True) is not None
        case Harm.RELAY_HELD_INSIDE:
            return await _hold_relay(database, connection)
        case Harm.BACKEND_KILLED:
            pid = await connection.fetchval(
                "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() "
                "order by random() limit 1"
            )
            return pid is not None and database.signal_backend(pid, signal.SIGKILL)
    raise ValueError(f"no fault of a backend: {fault.harm}")


async def _relay_inside(connection: asyncpg.Connection, *, and_end: bool) -> int | None:
    """The relay's backend, between its reading of the outbox and the removal; None: it was not met there in time."""
    await connection.execute(_FIND_INSIDE)
    pid: int | None = await connection.fetchval("select pg_temp.relay_inside($1, $2)", and_end, _LONGEST_LOOK)
    return pid


async def _hold_relay(database: Database, connection: asyncpg.Connection) -> bool:
    """Its backend stops before it hears of the removal, by which time all was published; and then it never hears."""
    pid = await _relay_inside(connection, and_end=False)
    if pid is None or not database.signal_backend(pid, signal.SIGSTOP):
        return False
    try:
        await asyncio.sleep(_HOLD)
        await connection.execute("select pg_terminate_backend($1)", pid)
    finally:
        # Whoever is its parent by now: a stopped process that PostgreSQL left behind would keep the next from starting.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return True
