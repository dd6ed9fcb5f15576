"""What the tables say in the end, and whether each device has seen exactly that."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import asyncpg

from tests.simulator.plan import STUB_PAD


@dataclass(frozen=True)
class Seen:
    """A notification, as an application sees it in a frame."""

    seq: int
    id: str
    type: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Feed:
    """All that a user has."""

    user: str
    notifications: list[Seen]
    """In `seq` order, what was deleted left out."""
    head: int
    unread: int


def frame_data(title: str, message: str, data: dict[str, Any] | None) -> dict[str, Any]:
    """`data` of the frame of a row."""
    return {"title": title, "message": message, **(data or {})}


async def read_feeds(connection: asyncpg.Connection, users: Sequence[str]) -> dict[str, Feed]:
    """The feed of each user, all as of one moment; the unread count is that of the rows."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        counters = await connection.fetch("select user_id, head_seq from jasaweb_rt.counters")
        rows = await connection.fetch(
            """
            select f.user_id, f.seq, n.id, n.type::text, n.title, n.message, n.data::text, n.read_at
            from jasaweb_rt.feed f join public.real_time_notifications n on n.id = f.notification_id
            order by f.user_id, f.seq
            """
        )
    feeds = {user: Feed(user, [], 0, 0) for user in users}
    heads = {row["user_id"]: row["head_seq"] for row in counters}
    of_user: dict[str, list[asyncpg.Record]] = {user: [] for user in users}
    for row in rows:
        of_user[row["user_id"]].append(row)
    for user in users:
        own = of_user[user]
        feeds[user] = Feed(
            user,
            [
                Seen(
                    row["seq"],
                    row["id"],
                    row["type"],
                    frame_data(row["title"], row["message"], None if row["data"] is None else json.loads(row["data"])),
                )
                for row in own
            ],
            heads.get(user, 0),
            sum(row["read_at"] is None for row in own),
        )
    return feeds


def complaints_about_feed(feed: Feed, *, mortal: bool) -> list[str]:
    """What is wrong with a user's numbers: a hole, where nothing may be deleted; a writer's rows in another order."""
    numbers = [one.seq for one in feed.notifications]
    if not mortal and numbers != list(range(1, feed.head + 1)):
        return [f"{feed.user}: the table has not 1..{feed.head}: {_first_break(numbers)}"]
    last: dict[str, int] = {}
    for one in feed.notifications:
        by, number = one.data["by"], one.data["n"]
        if number <= last.get(by, 0):
            return [f"{feed.user}: row {number} of {by} is numbered {one.seq}, behind its row {last[by]}"]
        last[by] = number
    return []


def complaints_about_device(name: str, seen: Sequence[Seen], feed: Feed, *, mortal: bool) -> list[str]:
    """What is wrong with the list that an application saw, as sentences; none if it is the table's.

    Of a user whose notifications may be deleted (`mortal`), those may have been seen that are gone now.
    """
    numbers = [one.seq for one in seen]
    if any(after <= before for before, after in pairwise(numbers)):
        return [f"{name}: not in order: {_first_break(numbers)}"]
    stored = {one.seq: one for one in feed.notifications}
    found = []
    if missing := stored.keys() - set(numbers):
        found.append(f"{name}: did not see {sorted(missing)[:10]} ({len(missing)} in all)")
    extra = set(numbers) - stored.keys()
    if extra and (not mortal or max(extra) > feed.head):
        found.append(f"{name}: saw what is not there: {sorted(extra)[:10]} ({len(extra)} in all)")
    for one in seen:
        kept = stored.get(one.seq)
        if kept is not None and one != kept and not _is_stub_of(one, kept):
            found.append(f"{name}: saw {_short(one)} where the table has {_short(kept)}")
            break
    return found


def _is_stub_of(seen: Seen, stored: Seen) -> bool:
    is_long = len(stored.data.get("pad", "")) == STUB_PAD
    return is_long and seen == Seen(stored.seq, stored.id, stored.type, {"truncated": True})


def _first_break(numbers: Sequence[int]) -> str:
    for at, number in enumerate(numbers):
        before = numbers[at - 1] if at else 0
        if number != before + 1:
            return f"{number} comes after {before}, as number {at + 1} of {len(numbers)}"
    return f"it ends with {numbers[-1] if numbers else 0}"


def _short(one: Seen) -> str:
    text = str(one)
    return text if len(text) <= 200 else f"{text[:200]}…"
