"""Clients that come back wherever they are let in, and remember all that they were given."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable

import asyncpg

from jasaweb_rt.auth import connection_token
from jasaweb_rt.client import RealtimeClient
from tests.support.program import TOKEN_SECRET

__all__ = ["Roamer", "roaming", "write_for_ever"]

_SESSION_SECONDS = 3600
_PAUSE_SECONDS = 0.02


class Roamer:
    """A connection of one user, kept up, and the numbers of the notifications that it handed out."""

    def __init__(self, user_id: str, url: str) -> None:
        self.user_id = user_id
        self.seen: list[int] = []
        self.joined = 0
        """How often it was told where it stands, each time by a new connection."""
        self._client = RealtimeClient(url, self._fetch_token)

    @property
    def connected(self) -> bool:
        """Whether a socket is open, as far as it knows."""
        return self._client.connected

    async def run(self) -> None:
        """Reads until it is cancelled; for a task."""
        async with self._client as client:
            async for frame in client:
                self.joined += frame["type"] == "sync"
                if "seq" in frame:
                    self.seen.append(frame["seq"])

    async def _fetch_token(self) -> str:
        return connection_token.issue(
            user_id=self.user_id,
            role="client",
            name=self.user_id,
            secret=TOKEN_SECRET,
            session_exp=int(time.time()) + _SESSION_SECONDS,
        ).token


@contextlib.asynccontextmanager
async def roaming(user_ids: Iterable[str], url: str) -> AsyncIterator[list[Roamer]]:
    """A roamer for each of `user_ids`, kept up as long as the block; one that has ended by itself fails it."""
    roamers = [Roamer(user_id, url) for user_id in user_ids]
    tasks = [asyncio.ensure_future(roamer.run()) for roamer in roamers]
    try:
        yield roamers
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in ended:
            task.result()


async def write_for_ever(database_url: str, user_ids: list[str]) -> None:
    """Stores a notification for one user after another, each in a transaction of its own, until it is cancelled."""
    connection = await asyncpg.connect(database_url)
    try:
        while True:
            for user_id in user_ids:
                await connection.execute(
                    "insert into public.real_time_notifications (id, user_id, type, title, message) "
                    "values (gen_random_uuid(), $1, 'user_message', 't', 'm')",
                    user_id,
                )
                await asyncio.sleep(_PAUSE_SECONDS)
    finally:
        connection.terminate()
