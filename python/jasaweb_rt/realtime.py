"""`Realtime`: what a service says to users, durably or at once.

Durable notifications are rows, written inside the caller's transaction: what commits is pushed, what rolls back never
was.
Direct sends skip the database; they reach whoever is connected now, and may be lost.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import asyncpg

from jasaweb_rt._core import ClusterClient, FanoutServer
from jasaweb_rt.database import notifications
from jasaweb_rt.database.notifications import NewNotification, NotificationType
from jasaweb_rt.database.users import Role
from jasaweb_rt.exceptions import ServerStoppedError
from jasaweb_rt.messages import Envelope, Payload

__all__ = ["Frame", "NewNotification", "NotificationType", "Realtime", "Role"]

Frame = str | bytes | Payload | Envelope
"""JSON text, or a message that `jasaweb_rt.messages.encode` makes it of."""


_ABSENT = (
    "This Realtime has no server that runs: direct sends need the process of the server, by RealtimePlugin or "
    "Realtime(server), or a cluster, by Realtime.connect; notify works without one"
)


class Realtime:
    """One handle for both kinds of sends. It owns nothing: who started the server stops it.

    Without a server it stores as well as with one: a row is pushed by whichever server runs on that database. Direct
    sends need the process that has the server, or a cluster: see `connect`.
    """

    def __init__(self, server: FanoutServer | ClusterClient | None = None, *, absent: str = _ABSENT) -> None:
        """`absent`: the sentence with which direct sends fail where there is no server."""
        self._attached = server
        self._absent = absent

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        nats_url: str | Sequence[str],
        *,
        nats_credentials: str | Path | None = None,
        nats_ca: str | Path | None = None,
        timeout_seconds: float = 10.0,
    ) -> AsyncIterator[Self]:
        """For a program without a server: direct sends go to the whole cluster by its NATS, for as long as the block.

        A link that is lost is sought again all the time; meanwhile direct sends raise `ServerStoppedError`.
        `broadcast_*` return 0: no connection is here.

        Args:
            nats_url: one of its servers, or several; each may have a user and password, or a token.
            nats_credentials: file of credentials, or with the seed of an nkey.
            nats_ca: PEM file of the authority that certificates are checked by; None: those that the system trusts.
            timeout_seconds: how long the first link may take.

        Raises:
            ValueError: a URL or a file cannot be used.
            ConnectionError: none of the servers could be reached in time, or let us in.
        """
        urls = [nats_url] if isinstance(nats_url, str) else list(nats_url)
        client = ClusterClient(urls, nats_credentials, nats_ca)
        try:
            await asyncio.to_thread(client.connect, timeout_seconds)
            yield cls(client)
        finally:
            # What was sent last goes out before.
            await asyncio.to_thread(client.close)

    def attach(self, server: FanoutServer | ClusterClient | None) -> None:
        """Lets direct sends go out by `server` from now on; None: by none."""
        self._attached = server

    async def notify(
        self,
        user_id: str,
        type: NotificationType,  # noqa: A002  # the word of the table and of the frame
        *,
        title: str,
        message: str,
        data: Any = None,  # noqa: ANN401  # whatever msgspec encodes as a JSON object
        connection: asyncpg.Connection,
    ) -> str:
        """Stores a notification by `connection`, in its transaction, and returns its id. The commit pushes it.

        It locks the user's counter until then: call it last, and once. A transaction that tells several users uses
        `notify_many`, or two such transactions can end in a deadlock (SQLSTATE 40P01), to be repeated.
        """
        notification = NewNotification(user_id=user_id, type=type, title=title, message=message, data=data)
        return (await notifications.insert_many(connection, [notification]))[0]

    async def notify_many(self, items: Sequence[NewNotification], connection: asyncpg.Connection) -> list[str]:
        """Stores notifications for any users by one statement and returns their ids, in the given order."""
        return await notifications.insert_many(connection, items) if items else []

    async def notify_role(
        self,
        role: Role | None,
        type: NotificationType,  # noqa: A002
        *,
        title: str,
        message: str,
        data: Any = None,  # noqa: ANN401
        connection: asyncpg.Connection,
    ) -> list[str]:
        """Stores the same notification for every user who has `role` now, or for everyone; returns the ids."""
        return await notifications.insert_for_users(
            connection, type, title=title, message=message, data=data, role=role
        )

    async def notify_users(
        self,
        user_ids: Sequence[str],
        type: NotificationType,  # noqa: A002
        *,
        title: str,
        message: str,
        data: Any = None,  # noqa: ANN401
        connection: asyncpg.Connection,
    ) -> list[str]:
        """Stores the same notification for those of `user_ids` who exist, once each, and returns the ids."""
        return await notifications.insert_for_users(
            connection, type, title=title, message=message, data=data, user_ids=user_ids
        )

    def broadcast_to_user(self, user_id: str, frame: Frame) -> int:
        """Sends to every connection of a user and returns how many there are.

        Raises:
            OverloadedError: the backlog is full; nothing was sent.
            ServerStoppedError: the server is not running, or there is none in this process.

        """
        return self._server.broadcast_to_user(user_id, frame) or 0

    def broadcast_to_users(self, user_ids: Sequence[str], frame: Frame) -> int:
        """Sends one frame to every connection of several users. Errors as `broadcast_to_user`."""
        return self._server.broadcast_to_users(user_ids, frame) or 0

    def broadcast_many(self, items: Sequence[tuple[str, Frame]]) -> int:
        """Sends to many users, each `(user_id, frame)` a frame of its own. Errors as `broadcast_to_user`."""
        return self._server.broadcast_many(items) or 0

    def broadcast_to_admins(self, frame: Frame) -> int:
        """Sends to every connection of an administrator. Errors as `broadcast_to_user`."""
        return self._server.broadcast_to_admins(frame) or 0

    def broadcast_to_clients(self, frame: Frame) -> int:
        """Sends to every connection of a client. Errors as `broadcast_to_user`."""
        return self._server.broadcast_to_clients(frame) or 0

    def broadcast_to_all(self, frame: Frame) -> int:
        """Sends to every connection. Errors as `broadcast_to_user`."""
        return self._server.broadcast_to_all(frame) or 0

    @property
    def _server(self) -> FanoutServer | ClusterClient:
        if isinstance(self._attached, ClusterClient) and not self._attached.stats().connected:
            raise ServerStoppedError(
                "NATS is out of reach, and with it every server; nothing was sent, try again later"
            )
        if self._attached is None:
            raise ServerStoppedError(self._absent)
        return self._attached
