"""Who may act, and under which session: users as they are now, and sessions that were ended before their time."""

from collections.abc import Sequence
from typing import Final

import asyncpg
import msgspec

from jasaweb_rt.database.users import User, user_of

__all__ = ["CHANNEL", "Standing", "delete_over", "end", "find_user", "standings"]

CHANNEL: Final = "jasaweb_rt_users"
"""Name to LISTEN on. The payload is the id of a user whose standing has changed; empty: look at everybody. Anybody may
send one, so it is believed no further than that. The triggers of migration 0008 have the same name."""

_MAX_PAYLOAD_BYTES = 4000


class Standing(msgspec.Struct, frozen=True):
    """What the database says of a user."""

    role: str | None
    """Role of the user now; None where there is no such user (any more)."""
    ended: list[str]
    """Ids of the user's sessions that were ended before their time."""


async def find_user(connection: asyncpg.Connection, user_id: str, session_id: str) -> User | None:
    """The user with this id; None where there is none, or that session was ended."""
    row = await connection.fetchrow(
        """
        select u.id, u.email, u.name, u.role::text from public.users u
        where u.id = $1 and not exists (
          select from jasaweb_rt.ended_sessions e where e.user_id = $1 and e.session_id = $2
        )
        """,
        user_id,
        session_id,
    )
    return None if row is None else user_of(row)


async def end(connection: asyncpg.Connection, user_id: str, session_id: str, ends_at: int) -> None:
    """Ends a session that would have ended at `ends_at` (Unix time); every server on this database hears of it."""
    await connection.execute(
        """
        with ended as (
          insert into jasaweb_rt.ended_sessions (user_id, session_id, ends_at) values ($1, $2, to_timestamp($3))
          on conflict do nothing
        )
        select pg_notify($4, case when octet_length($1) < $5 then $1 else '' end)
        """,
        user_id,
        session_id,
        ends_at,
        CHANNEL,
        _MAX_PAYLOAD_BYTES,
    )


async def standings(connection: asyncpg.Connection, user_ids: Sequence[str]) -> dict[str, Standing]:
    """How each of `user_ids` stands."""
    rows = await connection.fetch(
        """
        select r.user_id, u.role::text as role,
               array(select e.session_id from jasaweb_rt.ended_sessions e where e.user_id = r.user_id) as ended
        from unnest($1::text[]) r (user_id) left join public.users u on u.id = r.user_id
        """,
        list(user_ids),
    )
    return {row["user_id"]: Standing(row["role"], row["ended"]) for row in rows}


async def delete_over(connection: asyncpg.Connection, limit: int) -> int:
    """Forgets up to `limit` ended sessions that would be over by now, and returns how many."""
    # The clocks of those who look at a JWT's own end may be behind.
    rows = await connection.fetch(
        """
        delete from jasaweb_rt.ended_sessions where ctid = any (array(
          select ctid from jasaweb_rt.ended_sessions
          where ends_at < now() - interval '1 hour' limit $1 for update skip locked
        ))
        returning 1
        """,
        limit,
    )
    return len(rows)
