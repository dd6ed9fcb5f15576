"""Domain events: what has happened and is committed, as values for those who want to know.

A service emits an event once its transaction is committed and only where something changed: a rollback, a refused
request and a repeated one emit nothing. To emit never fails and never waits.
"""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from jasaweb_rt.database.invoices import InvoiceStatus
from jasaweb_rt.database.notifications import NotificationType
from jasaweb_rt.messages import AdminAlert, Audience, SystemAnnouncement, UserMessage

__all__ = [
    "AdminsAlerted",
    "AnnouncementMade",
    "BroadcastMade",
    "DomainEvent",
    "Emit",
    "InvoiceStatusChanged",
    "NotificationsRead",
    "ProjectStatusChanged",
    "UserMessageSent",
]


class DomainEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that has happened; its class says what."""


class ProjectStatusChanged(DomainEvent, frozen=True, kw_only=True):
    """A project has another status, and its owner and the administrators were told."""

    project_id: str
    project_name: str
    owner_id: str
    old_status: str
    new_status: str
    by: str
    """Name of who did it: a user's, or the payment provider's."""


class InvoiceStatusChanged(DomainEvent, frozen=True, kw_only=True):
    """An invoice has another status, and its owner and the administrators were told."""

    invoice_id: str
    project_id: str
    project_name: str
    owner_id: str
    amount: Decimal
    """Rupiah, two decimals."""
    old_status: InvoiceStatus
    new_status: InvoiceStatus
    paid_at: datetime | None
    """Aware, in UTC."""
    by: str
    """Name of who did it: a user's, or the payment provider's."""


class AnnouncementMade(DomainEvent, frozen=True, kw_only=True):
    """Everyone in an audience was told something, durably."""

    announcement: SystemAnnouncement
    audience: Audience
    recipients: int
    """Users it was stored for."""
    by: str
    """Name of the administrator."""


class AdminsAlerted(DomainEvent, frozen=True, kw_only=True):
    """An administrator has alerted all administrators. Alerts that follow from another event are not told again."""

    alert: AdminAlert
    recipients: int
    """Users it was stored for."""
    by: str
    """Name of the administrator."""


class BroadcastMade(DomainEvent, frozen=True, kw_only=True):
    """An administrator has told an audience, or users by name, something of any type."""

    audience: Audience | tuple[str, ...]
    """A tuple: the ids of users."""
    type: NotificationType
    title: str
    message: str
    data: dict[str, Any] | None
    durable: bool
    """Whether it was stored; if not, it went to whoever was connected."""
    count: int
    """Users it was stored for where it is durable, else connections it was sent to."""
    by: str
    """Name of the administrator."""


class UserMessageSent(DomainEvent, frozen=True, kw_only=True):
    """A user has written to another."""

    message: UserMessage


class NotificationsRead(DomainEvent, frozen=True, kw_only=True):
    """A user has marked some of their notifications as read: those with these `ids`, or all `up_to` a seq."""

    user_id: str
    ids: tuple[str, ...] | None
    """As the user named them; what was read before, or is another's, may be among them."""
    up_to: int | None
    unread: int
    """The user's unread count after that, as of `rev`."""
    rev: int


Emit = Callable[[DomainEvent], None]
"""Takes an event from whoever made it: from any thread, without waiting, without failing."""
