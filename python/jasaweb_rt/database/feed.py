"""The feed: each user's notifications in their order, for sessions that resume or miss some."""

from collections.abc import Sequence

import asyncpg
import msgspec

from jasaweb_rt.database.notifications import ENTRY_COLUMNS, Counters, FeedEntry, entry_of


class CatchUpRequest(msgspec.Struct, frozen=True, gc=False):
    """What one session asks for."""

    connection_id: str
    user_id: str
    after: int | None = None
    """The seq after which everything is wanted; None: nothing, the session starts at the head."""
    session_id: str | None = None
    """The session that the connection stands for, where that is known."""


class CatchUp(msgspec.Struct, frozen=True, gc=False):
    """What one session is answered, all of it as of one moment."""

    connection_id: str
    user_id: str
    role: str | None
    """Role of the user now; None where there is no such user (any more)."""
    ended: bool
    """Whether the session was ended before its time."""
    head_seq: int
    unread: int
    rev: int
    after: int
    """Where the answer begins: `after` of the request, or `head_seq`."""
    through: int
    """The answer is final up to here: a seq that is missing below it was deleted. `head_seq` where nothing remains."""
    notifications: list[FeedEntry]
    """After `after`, in `seq` order, at most as many as the limit."""
    remaining: int
    """How many notifications lie after `through`."""


_CATCH_UP = f"""
select r.n, u.role::text as role, e.session_id is not null as ended,
       coalesce(c.head_seq, 0) as head_seq, coalesce(c.unread, 0) as unread, coalesce(c.rev, 0) as rev,
       waiting.count as waiting, page.*
from unnest($1::text[], $2::bigint[], $4::text[]) with ordinality as r (user_id, after, session_id, n)
left join public.users u on u.id = r.user_id
left join jasaweb_rt.ended_sessions e on e.user_id = r.user_id and e.session_id = r.session_id
left join jasaweb_rt.counters c on c.user_id = r.user_id
left join lateral (
  select count(*) from jasaweb_rt.feed f where f.user_id = r.user_id and f.seq > coalesce(r.after, c.head_seq)
) waiting on true
left join lateral (
  select sized.* from (
    select entry.*, sum(octet_length(entry.title) + octet_length(entry.message)
                               + coalesce(octet_length(entry.data), 0))
                over (order by entry.seq rows between unbounded preceding and 1 preceding) as bytes_before
    from (
      select f.seq, {ENTRY_COLUMNS}
      from (
        select f.user_id, f.seq, f.notification_id from jasaweb_rt.feed f
        where f.user_id = r.user_id and f.seq > coalesce(r.after, c.head_seq) order by f.seq limit $3
      ) f
      left join lateral (
        select n.* from public.real_time_notifications n where n.id = f.notification_id offset 0
      ) n on n.user_id = f.user_id
    ) entry
  ) sized
  where sized.bytes_before is null or sized.bytes_before < $5
) page on true
order by r.n, page.seq
"""  # noqa: S608  # the columns are ours


async def catch_up(
    connection: asyncpg.Connection, requests: Sequence[CatchUpRequest], limit: int, limit_bytes: int
) -> list[CatchUp]:
    """Answers all `requests`, in their order, by one statement.

    For each there are at most `limit` notifications, and no more once those have `limit_bytes` of text together; one
    there always is.
    """
    rows = await connection.fetch(
        _CATCH_UP,
        [r.user_id for r in requests],
        [r.after for r in requests],
        limit,
        [r.session_id for r in requests],
        limit_bytes,
    )
    answers: list[CatchUp] = []
    begin = 0
    for number, request in enumerate(requests, start=1):
        end = begin + 1
        while end < len(rows) and rows[end]["n"] == number:
            end += 1
        first, entries = rows[begin], [row for row in rows[begin:end] if row["seq"] is not None]
        head, remaining = first["head_seq"], first["waiting"] - len(entries)
        answers.append(
            CatchUp(
                connection_id=request.connection_id,
                user_id=request.user_id,
                role=first["role"],
                ended=first["ended"],
                head_seq=head,
                unread=first["unread"],
                rev=first["rev"],
                after=head if request.after is None else request.after,
                through=entries[-1]["seq"] if remaining else head,
                notifications=[entry_of(row) for row in entries if row["id"] is not None],
                remaining=remaining,
            )
        )
        begin = end
    return answers


async def heads(connection: asyncpg.Connection, user_ids: Sequence[str]) -> dict[str, Counters]:
    """The counters of each of `user_ids` that ever had a notification."""
    rows = await connection.fetch(
        "select user_id, head_seq, unread, rev from jasaweb_rt.counters where user_id = any ($1::text[])",
        list(user_ids),
    )
    return {row["user_id"]: Counters(row["head_seq"], row["unread"], row["rev"]) for row in rows}


async def epoch(connection: asyncpg.Connection) -> str:
    """Name of this database's numbering; a position from another one means nothing here."""
    return str(await connection.fetchval("select epoch from jasaweb_rt.epoch"))
