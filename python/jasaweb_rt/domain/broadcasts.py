"""What an administrator says to an audience: stored for everyone in it, or sent at once to whoever is connected."""

from collections.abc import Sequence
from typing import Any, Protocol

import asyncpg
import msgspec

from jasaweb_rt.database.notifications import NotificationType
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.database.users import User
from jasaweb_rt.domain.announcements import ROLES, RoleNotifier
from jasaweb_rt.domain.events import BroadcastMade, Emit
from jasaweb_rt.domain.transactions import in_transaction
from jasaweb_rt.exceptions import InvalidInputError, NotFoundError
from jasaweb_rt.messages import MAX_DURABLE_BYTES, Audience, Envelope, encode, now_timestamp, uuid7

__all__ = ["Broadcast", "BroadcastService", "Speaker"]


class Broadcast(msgspec.Struct, frozen=True, kw_only=True):
    """What is said, and to whom."""

    audience: Audience | list[str]
    """A list: the ids of users."""
    type: NotificationType
    title: str
    message: str
    data: dict[str, Any] | None = None


class Speaker(RoleNotifier, Protocol):
    """Stores for many, and sends at once. The counts are of connections."""

    async def notify_users(
        self,
        user_ids: Sequence[str],
        type: NotificationType,  # noqa: A002  # the word of the table and of the frame
        *,
        title: str,
        message: str,
        data: Any = None,  # noqa: ANN401  # whatever msgspec encodes as a JSON object
        connection: asyncpg.Connection,
    ) -> list[str]:
        """Inserts it for those who exist, once each, by one statement, and returns the ids."""

    def broadcast_to_users(self, user_ids: Sequence[str], frame: bytes) -> int:
        """Sends to these users."""

    def broadcast_to_admins(self, frame: bytes) -> int:
        """Sends to the administrators."""

    def broadcast_to_clients(self, frame: bytes) -> int:
        """Sends to the clients."""

    def broadcast_to_all(self, frame: bytes) -> int:
        """Sends to everyone."""


class BroadcastService:
    """Broadcasts, durably or not."""

    def __init__(self, connect: Connect, speaker: Speaker, emit: Emit) -> None:
        self._connect = connect
        self._speaker = speaker
        self._emit = emit

    async def store(self, broadcast: Broadcast, actor: User) -> int:
        """Stores it for everyone in the audience, connected or not, in the name of `actor`, and returns for how many.

        Raises:
            InvalidInputError: it is too large, or PostgreSQL cannot hold its data.
            NotFoundError: one of the users does not exist; nobody was told.
            ConflictError: others kept changing the same rows.
        """
        _frame(broadcast)
        what: dict[str, Any] = {"title": broadcast.title, "message": broadcast.message, "data": broadcast.data}

        async def work(connection: asyncpg.Connection) -> int:
            audience = broadcast.audience
            if not isinstance(audience, list):
                role = ROLES[audience]
                return len(await self._speaker.notify_role(role, broadcast.type, **what, connection=connection))
            users = set(audience)
            stored = await self._speaker.notify_users(list(users), broadcast.type, **what, connection=connection)
            if len(stored) < len(users):
                raise NotFoundError("One of these users does not exist")
            return len(stored)

        try:
            count = await in_transaction(self._connect, work)
        except asyncpg.UntranslatableCharacterError:
            raise InvalidInputError("PostgreSQL keeps no NUL character, and `data` holds one") from None
        self._emit(_event(broadcast, actor, count, durable=True))
        return count

    def send(self, broadcast: Broadcast, actor: User) -> int:
        """Sends it to whoever is connected now, in the name of `actor`, and returns how many connections that are.

        Raises:
            InvalidInputError: it is too large.
            OverloadedError: the backlog is full; nothing was sent.
            ServerStoppedError: the server is not running.
        """
        count = self._send(broadcast.audience, _frame(broadcast))
        self._emit(_event(broadcast, actor, count, durable=False))
        return count

    def _send(self, audience: Audience | list[str], frame: bytes) -> int:
        match audience:
            case "admins":
                return self._speaker.broadcast_to_admins(frame)
            case "clients":
                return self._speaker.broadcast_to_clients(frame)
            case "all":
                return self._speaker.broadcast_to_all(frame)
            case list(user_ids):
                return self._speaker.broadcast_to_users(list(dict.fromkeys(user_ids)), frame)


def _event(broadcast: Broadcast, actor: User, count: int, *, durable: bool) -> BroadcastMade:
    audience = broadcast.audience
    return BroadcastMade(
        audience=tuple(audience) if isinstance(audience, list) else audience,
        type=broadcast.type,
        title=broadcast.title,
        message=broadcast.message,
        data=broadcast.data,
        durable=durable,
        count=count,
        by=actor.name,
    )


def _frame(broadcast: Broadcast) -> bytes:
    data = {"title": broadcast.title, "message": broadcast.message, **(broadcast.data or {})}
    try:
        frame = encode(Envelope(type=broadcast.type, data=data, timestamp=now_timestamp(), id=uuid7()))
    except RecursionError:
        raise InvalidInputError("`data` is nested too deep") from None
    if len(frame) > MAX_DURABLE_BYTES:
        raise InvalidInputError(f"A broadcast may have {MAX_DURABLE_BYTES} bytes, and this one has {len(frame)}")
    return frame
