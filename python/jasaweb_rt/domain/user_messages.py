"""Messages between people: anyone may write to an administrator, an administrator to anyone."""

import asyncpg

from jasaweb_rt.database import users
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.database.users import User
from jasaweb_rt.domain.events import Emit, UserMessageSent
from jasaweb_rt.domain.notices import Notifier, notification
from jasaweb_rt.domain.transactions import in_transaction
from jasaweb_rt.exceptions import ForbiddenError, InvalidInputError, NotFoundError
from jasaweb_rt.messages import MAX_DURABLE_BYTES, UserMessage, encode

__all__ = ["UserMessageService"]


class UserMessageService:
    """Delivers messages, durably, and knows who may be written to."""

    def __init__(self, connect: Connect, notifier: Notifier, emit: Emit) -> None:
        self._connect = connect
        self._notifier = notifier
        self._emit = emit

    async def contacts(self, user: User, words: str, limit: int, offset: int) -> tuple[list[User], int]:
        """A page of those whom `user` may write to, by name, and how many there are in all.

        For an administrator that is everyone else, for others the administrators.

        Args:
            user: who wants to write.
            words: what the name holds; for an administrator, the name or the e-mail address. Empty: any.
            limit: users at most.
            offset: users to pass over.
        """
        is_admin = user.role == "admin"
        async with self._connect() as connection:
            return await users.search(
                connection,
                role=None if is_admin else "admin",
                without=user.id,
                words=words,
                by_email=is_admin,
                limit=limit,
                offset=offset,
            )

    async def send(self, sender: User, to_user_id: str, subject: str, content: str) -> None:
        """Sends a message from `sender` to the user with the id `to_user_id`.

        Raises:
            ForbiddenError: `sender` is no administrator, and the other is none or does not exist: which of both is
                not said.
            NotFoundError: there is no such user.
            InvalidInputError: it is too large.
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
            if (size := len(encode(message))) > MAX_DURABLE_BYTES:
                raise InvalidInputError(f"A message may have {MAX_DURABLE_BYTES} bytes, and this one has {size}")
            await self._notifier.notify_many([notification(recipient.id, subject, content, message)], connection)
            return message

        self._emit(UserMessageSent(message=await in_transaction(self._connect, work)))
