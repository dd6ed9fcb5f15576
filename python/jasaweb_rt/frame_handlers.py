"""What client frames do: who may send which, and the service of the domain that carries it out."""

import time
from collections.abc import Callable

from jasaweb_rt._core import ClientFrame, FanoutServer, verify_token
from jasaweb_rt.auth.keys import KeyRing
from jasaweb_rt.database import sessions
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.database.users import User
from jasaweb_rt.domain.announcements import AnnouncementService
from jasaweb_rt.domain.events import Emit
from jasaweb_rt.domain.inbox import InboxService
from jasaweb_rt.domain.projects import ProjectService
from jasaweb_rt.domain.user_messages import UserMessageService
from jasaweb_rt.exceptions import ForbiddenError, InvalidFrameError
from jasaweb_rt.messages import (
    Ack,
    AdminAlert,
    AdminAlertRequest,
    AnnouncementRequest,
    ClientMessage,
    ProjectUpdateRequest,
    Read,
    Refresh,
    SystemAnnouncement,
    UserMessageRequest,
    error_frame,
)
from jasaweb_rt.realtime import Realtime

__all__ = ["FrameHandlers"]


class FrameHandlers:
    """Carries out checked frames. It owns nothing."""

    def __init__(
        self,
        connect: Connect,
        server: FanoutServer,
        realtime: Realtime,
        keys: KeyRing,
        look_at: Callable[[str], None],
        emit: Emit,
    ) -> None:
        """`look_at` has the connections of a user brought in line with what the database says of that user."""
        self._connect = connect
        self._server = server
        self._keys = keys
        self._look_at = look_at
        self._announcements = AnnouncementService(connect, realtime, emit)
        self._inbox = InboxService(connect, emit)
        self._projects = ProjectService(connect, realtime, emit)
        self._user_messages = UserMessageService(connect, realtime, emit)

    async def carry_out(self, frame: ClientFrame, message: ClientMessage, ref: str | None) -> None:
        """Does what `message` asks for.

        Raises:
            ForbiddenError: the database has no such sender (any more), their session was ended, or their role does not
                allow it.
            InvalidFrameError: the token of a `refresh` is of no use.
            RealtimeError: what the services raise.
        """
        match message:
            case Read():
                await self._inbox.mark_read((await self._sender(frame)).id, message)
            case Refresh():
                await self._refresh(frame, message, ref)
            case UserMessageRequest():
                await self._user_messages.send(
                    await self._sender(frame), message.to_user_id, message.subject, message.content
                )
            case ProjectUpdateRequest():
                admin = await self._admin(frame)
                await self._projects.change_status(message.project_id, message.new_status, admin)
            case AnnouncementRequest():
                admin = await self._admin(frame)
                announcement = SystemAnnouncement(
                    title=message.title,
                    message=message.message,
                    priority=message.priority,
                    action_url=message.action_url,
                )
                await self._announcements.announce(announcement, message.audience, admin)
            case AdminAlertRequest():
                admin = await self._admin(frame)
                alert = AdminAlert(
                    event=message.event,
                    message=message.message,
                    project_id=message.project_id,
                    requires_action=message.requires_action,
                )
                await self._announcements.alert_admins(alert, admin)
            case Ack():
                refusal = error_frame("invalid_data", "`seq` is beyond what was sent to this connection", ref)
                self._server.acknowledge(frame.connection_id, message.seq, refusal)
            case _:
                raise TypeError(message)

    async def _sender(self, frame: ClientFrame) -> User:
        # Not the role that the socket was opened under: that may have changed since. And a frame may be here before the
        # database was asked whether the session behind the socket has ended.
        async with self._connect() as connection:
            user = await sessions.find_user(connection, frame.user_id, frame.session_id or "")
        if user is None:
            raise ForbiddenError("This account does not exist any more, or the session has ended")
        return user

    async def _admin(self, frame: ClientFrame) -> User:
        user = await self._sender(frame)
        if user.role != "admin":
            raise ForbiddenError("Only an administrator may do this")
        return user

    async def _refresh(self, frame: ClientFrame, message: Refresh, ref: str | None) -> None:
        keys = self._keys.current
        try:
            user_id, _, _, session_end, session_id = verify_token(
                message.token, keys.token_secret, previous=keys.token_secret_previous, now=time.time()
            )
        except ValueError:
            raise InvalidFrameError("invalid_token", "The token is not valid", ref) from None
        if user_id != frame.user_id:
            raise InvalidFrameError("invalid_token", "The token is another user's", ref)
        async with self._connect() as connection:
            user = await sessions.find_user(connection, user_id, session_id or "")
        if user is None:
            raise InvalidFrameError("invalid_token", "The session behind the token has ended", ref)
        self._server.extend_session(frame.connection_id, session_end, session_id)
        # It stands for that session only from here on, and who ended it meanwhile has not met it.
        self._look_at(user_id)
