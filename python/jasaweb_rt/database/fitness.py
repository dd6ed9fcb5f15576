"""What a PostgreSQL is like as a place to serve from: room for connections, clock, whether it can be written to."""

from datetime import datetime

import asyncpg
import msgspec

__all__ = ["Fitness", "fitness_of"]


class Fitness(msgspec.Struct, frozen=True):
    """A server and a database of it, as they are now."""

    clock: datetime
    """Its time in the middle of the question."""
    room: int
    """Connections that a role such as this one may have in all: of the server, of this database, of the role."""
    others: int
    """Connections of other programs to this server, autovacuum among them."""
    is_read_only: bool
    """A standby, or a database or role that may only read."""
    keeps_commit_times: bool


async def fitness_of(connection: asyncpg.Connection) -> Fitness:
    """Looks, by one statement that reads no table of the application. Ours are known by their `application_name`."""
    row = await connection.fetchrow(
        """
        select clock_timestamp() as clock,
          (
            select min(n) from unnest(array[
              current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                - coalesce(current_setting('reserved_connections', true)::int, 0),
              (select nullif(datconnlimit, -1) from pg_database where datname = current_database()),
              (select nullif(rolconnlimit, -1) from pg_roles where rolname = session_user)
            ]) as n
          ) as room,
          (
            select coalesce(sum(numbackends), 0) from pg_stat_database
          ) - (
            select count(*) from pg_stat_activity where application_name like 'jasaweb-rt%'
          ) as others,
          pg_is_in_recovery() or current_setting('transaction_read_only')::bool as is_read_only,
          current_setting('track_commit_timestamp')::bool as keeps_commit_times
        """
    )
    return Fitness(row["clock"], row["room"], row["others"], row["is_read_only"], row["keeps_commit_times"])
