"""Messages between people: anyone may write to an administrator, an administrator to anyone."""

import asyncpg

from jasaweb_rt.database import users
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.database.users import User
from jasaweb_rt.domain.events import Emit, UserMessageSent
from jasaweb_rt.domain.notices import Notifier, notification
from jasaweb_rt.domain.transactions import in_transaction
from jasaweb_rt.exceptions import ForbiddenError, NotFoundError
from jasaweb_rt.messages import UserMessage

__all__ = ["UserMessageService"]


class UserMessageService:
    """Delivers messages, durably."""

    def __init__(self, connect: Connect, notifier: Notifier, emit: Emit) -> None:
        self._connect = connect
        self._notifier = notifier
        self._emit = emit

    async def send(self, sender: User, to_user_id: str, subject: str, content: str) -> None:
        """Sends a message from `sender` to the user with the id `to_user_id`.

        Raises:
            ForbiddenError: `sender` is no administrator, and the other is none or does not exist: which of both is
                not said.
            NotFoundError: there is no such user.
            ConflictError: others kept changing the same rows.
        """

        async def work(connection: asyncpg.Connection) -> UserMessage:
            recipient = await users.find_by_id(connection, to_user_id)
            if sender.role != "admin" and (recipient is None or recipient.role != "admin"):
                raise ForbiddenError("You may write to administrators only")
            if recipient is None:
                raise NotFoundError("There is no such user")
            message = UserMessage(
                from_user_id=sender.id,
                from_user_name=sender.name,
                to_user_id=recipient.id,
                subject=subject,
                content=content,
            )
            await self._notifier.notify_many([notification(recipient.id, subject, content, message)], connection)
            return message

        self._emit(UserMessageSent(message=await in_transaction(self._connect, work)))
