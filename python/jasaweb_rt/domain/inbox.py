"""What a user does with their own notifications: mark them as read."""

from typing import cast

import asyncpg

from jasaweb_rt.database import notifications
from jasaweb_rt.database.notifications import Counters, Marked
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.domain.events import Emit, NotificationsRead
from jasaweb_rt.domain.transactions import in_transaction
from jasaweb_rt.messages import Read

__all__ = ["InboxService"]


class InboxService:
    """Changes the read state. Devices hear of it by the triggers of migration 0005."""

    def __init__(self, connect: Connect, emit: Emit) -> None:
        self._connect = connect
        self._emit = emit

    async def mark_read(self, user_id: str, read: Read) -> Counters:
        """Marks what `read` names as far as it is the user's, and returns the counters after that.

        Raises:
            ConflictError: others kept changing the same rows.
        """
        ids = tuple(read.ids) if isinstance(read.ids, list) else None
        up_to = cast("int", read.up_to) if ids is None else None  # `Read` holds one of both

        async def work(connection: asyncpg.Connection) -> Marked:
            if ids is not None:
                return await notifications.mark_read_ids(connection, user_id, ids)
            return await notifications.mark_read_up_to(connection, user_id, cast("int", up_to))

        changed, counters = await in_transaction(self._connect, work)
        if changed:
            unread, rev = counters.unread, counters.rev
            self._emit(NotificationsRead(user_id=user_id, ids=ids, up_to=up_to, unread=unread, rev=rev))
        return counters
