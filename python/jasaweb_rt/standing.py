"""Keeps open sockets true to the database: a role that was changed, a user who is gone, a session that was ended.

Whoever changes these notifies, and names the user: the triggers of migration 0008, and `sessions.end`. That is a hint;
what counts is what is then read. Hints are lost while nobody listens, so everybody is looked at when the listening
begins anew, and at each comparison.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Literal

from jasaweb_rt._core import ConnectionInfo, FanoutServer
from jasaweb_rt.database import sessions
from jasaweb_rt.database.pool import Connect

__all__ = ["StandingWatch", "role_of"]

_MANY = 1000
"""From so many users on that are to be looked at, those who are connected are fewer."""

Role = Literal["admin", "client"]


def role_of(text: str | None) -> Role | None:
    """The role, where it is one that has a place here."""
    match text:
        case "admin" | "client":
            return text
        case _:
            return None


class StandingWatch:
    """Looks at users on a hint. Everything here belongs to one event loop."""

    def __init__(
        self, connect: Connect, server: FanoutServer, outdate: Callable[[Collection[str] | None], None]
    ) -> None:
        """`outdate` is told whose standing is about to be read (None: everybody's); what was read before is old."""
        self._connect = connect
        self._server = server
        self._outdate = outdate
        self._users: set[str] = set()
        self._everybody = False
        self._wake = asyncio.Event()
        # One at a time, so that what was read later is what counts.
        self._looking = asyncio.Lock()

    def hint(self, user_id: str) -> None:
        """Something has changed with a user; empty: perhaps with anybody."""
        if user_id and len(self._users) < _MANY:
            self._users.add(user_id)
        else:
            self._everybody = True
        self._wake.set()

    async def run(self) -> None:
        """Looks whenever there was a hint, until it is cancelled. Where it fails, the hints are still there."""
        while True:
            await self._wake.wait()
            await self._look()

    async def compare(self, connections: Sequence[ConnectionInfo]) -> None:
        """Looks at everybody of `connections`, which are all that are open."""
        async with self._looking:
            await self._look_at_all(connections)

    async def _look(self) -> None:
        async with self._looking:
            self._wake.clear()
            users, everybody = self._users, self._everybody
            self._users, self._everybody = set(), False
            try:
                if everybody:
                    self._outdate(None)
                    # It waits for every shard, so not on this loop.
                    await self._look_at_all(await asyncio.to_thread(self._server.connections))
                else:
                    self._outdate(users)
                    await self._look_at(users)
            except BaseException:
                self._users |= users
                self._everybody |= everybody
                self._wake.set()
                raise

    async def _look_at(self, users: Collection[str]) -> None:
        async with self._connect() as connection:
            found = await sessions.standings(connection, list(users))
        self._server.heed([(user_id, role_of(s.role), s.ended) for user_id, s in found.items()])

    async def _look_at_all(self, connections: Sequence[ConnectionInfo]) -> None:
        acting: dict[str, set[str]] = {}
        for one in connections:
            acting.setdefault(one.user_id, set()).add(one.role)
        if not acting:
            return
        async with self._connect() as connection:
            found = await sessions.standings(connection, list(acting))
        self._server.heed(
            [
                (user_id, role_of(standing.role), standing.ended)
                for user_id, standing in found.items()
                if standing.ended or acting[user_id] != {standing.role}
            ]
        )
