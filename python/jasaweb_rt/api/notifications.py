"""The caller's inbox: page through it, mark it read."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody, QueryParameter

from jasaweb_rt.api.errors import SIGNED_IN, documented
from jasaweb_rt.auth.guards import must_be_signed_in
from jasaweb_rt.database import notifications
from jasaweb_rt.database.notifications import Notification
from jasaweb_rt.database.users import User
from jasaweb_rt.messages import Read, timestamp
from jasaweb_rt.services import Services

__all__ = ["After", "CountersBody", "Inbox", "Limit", "NotificationsController"]

MAX_PAGE = 500
# What a JSON number says exactly to every program (RFC 8259 section 6), and more than anybody is ever notified.
_MAX_SEQ = 2**53 - 1

After = Annotated[int, QueryParameter(ge=0, le=_MAX_SEQ, description="only what has a higher `seq`")]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="items at most")]


class NotificationBody(msgspec.Struct, frozen=True, rename="camel"):
    """A notification as it is stored."""

    id: str
    seq: int
    type: str
    title: str
    message: str
    data: Any
    read_at: str | None
    created_at: str

    @classmethod
    def of(cls, notification: Notification) -> "NotificationBody":
        """As it goes out."""
        return cls(
            id=notification.id,
            seq=notification.seq,
            type=notification.type,
            title=notification.title,
            message=notification.message,
            data=_encodable(notification.data),
            read_at=timestamp(notification.read_at) if notification.read_at else None,
            created_at=timestamp(notification.created_at),
        )


class Inbox(msgspec.Struct, frozen=True, rename="camel"):
    """A page of the inbox, in `seq` order, and the counters as of the same moment."""

    items: list[NotificationBody]
    total: int
    """How many match in all, on this page and off it."""
    head_seq: int
    unread: int
    rev: int

    @classmethod
    def of(cls, page: notifications.Inbox) -> "Inbox":
        """As it goes out."""
        return cls(
            items=[NotificationBody.of(item) for item in page.items],
            total=page.total,
            head_seq=page.head_seq,
            unread=page.unread,
            rev=page.rev,
        )


class CountersBody(msgspec.Struct, frozen=True):
    """The unread count and its version: an older `rev` is to be ignored."""

    unread: int
    rev: int


class NotificationsController(Controller):
    """Inbox and read state."""

    path = "/api/notifications"
    tags = ["notifications"]  # noqa: RUF012  # Litestar's own way

    @get(guards=[must_be_signed_in], security=SIGNED_IN, responses=documented(400, 401))
    async def inbox(
        self,
        request: Request[User, Any, Any],
        services: NamedDependency[Services],
        after: After = 0,
        limit: Limit = 100,
        unread: FromQuery[bool] = False,
    ) -> Inbox:
        """Pages through the caller's notifications."""
        async with services.connection() as connection:
            page = await notifications.inbox(connection, request.user.id, after, limit, unread_only=unread)
        return Inbox.of(page)

    @post(
        "/read",
        status_code=200,
        guards=[must_be_signed_in],
        security=SIGNED_IN,
        responses=documented(400, 401, 403, 409, 413, 415),
    )
    async def mark_read(
        self, request: Request[User, Any, Any], data: JSONBody[Read], services: NamedDependency[Services]
    ) -> CountersBody:
        """Marks notifications of the caller as read: `ids`, or everything `upTo` a seq. Others' ids change nothing."""
        counters = await services.inbox.mark_read(request.user.id, data)
        return CountersBody(unread=counters.unread, rev=counters.rev)


def _encodable(data: object) -> object:
    # A value that was nested just deep enough to be decoded, but not to be encoded, shall not spoil its whole page.
    try:
        return msgspec.Raw(msgspec.json.encode(data))
    except (TypeError, ValueError, RecursionError):
        return {"truncated": True}
