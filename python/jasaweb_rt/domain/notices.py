"""How a hook tells people something: rows, stored inside the transaction of what they tell about."""

from collections.abc import Sequence
from typing import Protocol

import asyncpg
import msgspec

from jasaweb_rt.database.notifications import NewNotification
from jasaweb_rt.messages import Payload

__all__ = ["Notifier", "notification"]


class Notifier(Protocol):
    """Stores notifications inside the caller's transaction."""

    async def notify_many(self, items: Sequence[NewNotification], connection: asyncpg.Connection) -> object:
        """Inserts them all by one statement."""


def notification(user_id: str, title: str, message: str, payload: Payload) -> NewNotification:
    """The row that tells `user_id` of `payload`, under its type."""
    data: dict[str, object] = msgspec.to_builtins(payload)
    return NewNotification(user_id=user_id, type=payload.message_type, title=title, message=message, data=data)
