"""Frames: the envelope, the `data` of every type, how they are encoded, and what of a client's frame is refused.

The wire is camelCase JSON in UTF-8. What we send is built here and nowhere else; what comes in is checked here and
nowhere else. Who may send what, and what happens then, is not decided here.
"""

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Literal, Protocol

import msgspec

from jasaweb_rt import strict_json
from jasaweb_rt.exceptions import InvalidFrameError, InvalidInputError

__all__ = [
    "CLIENT_MESSAGES",
    "MAX_DURABLE_BYTES",
    "Ack",
    "AdminAlert",
    "AdminAlertRequest",
    "AnnouncementRequest",
    "Audience",
    "ClientMessage",
    "Envelope",
    "Identifier",
    "NotificationType",
    "Payload",
    "PaymentUpdate",
    "Priority",
    "ProjectStatus",
    "ProjectUpdate",
    "ProjectUpdateRequest",
    "Read",
    "Refresh",
    "SystemAnnouncement",
    "Text",
    "Title",
    "UserMessage",
    "UserMessageRequest",
    "decode_client_frame",
    "durable_frame",
    "encode",
    "error_frame",
    "now_timestamp",
    "read_frame",
    "resync_frame",
    "sync_frame",
    "timestamp",
    "uuid7",
]

logger = logging.getLogger(__name__)

MAX_DURABLE_BYTES = 65_536
"""A durable frame that is longer goes out as a stub; the whole stands in HTTP."""

NotificationType = Literal["project_update", "payment_update", "system_announcement", "admin_alert", "user_message"]
Priority = Literal["low", "medium", "high", "critical"]
Audience = Literal["admins", "all", "clients"]
ProjectStatus = Literal["pending_payment", "in_progress", "review", "completed"]

# PostgreSQL keeps no NUL in TEXT or JSONB, so it is refused where it comes in.
Text = Annotated[str, msgspec.Meta(min_length=1, pattern=r"^[^\x00]+$")]
Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
# A page makes a link of it: no scheme but http and https, and no other host by way of "//".
ActionUrl = Annotated[
    str, msgspec.Meta(max_length=2000, pattern=r"^(https?://[^\x00-\x20]+|/([^/\\\x00-\x20][^\x00-\x20]*)?)$")
]
Sequence64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


# --- what the server sends


class Payload(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=False):
    """The `data` of a frame; its class says the frame's `type`."""

    message_type: ClassVar[NotificationType]


class ProjectUpdate(Payload, frozen=True, kw_only=True):
    """A project's status has changed."""

    message_type: ClassVar[NotificationType] = "project_update"
    project_id: str
    project_name: str
    old_status: str
    new_status: str
    message: str


class PaymentUpdate(Payload, frozen=True, kw_only=True):
    """An invoice was paid, or a payment has failed."""

    message_type: ClassVar[NotificationType] = "payment_update"
    invoice_id: str
    project_id: str
    project_name: str
    amount: float
    status: str
    paid_at: str | None


class SystemAnnouncement(Payload, frozen=True, kw_only=True):
    """Something that everybody of an audience shall see."""

    message_type: ClassVar[NotificationType] = "system_announcement"
    title: str
    message: str
    priority: Priority = "medium"
    action_url: str | msgspec.UnsetType = msgspec.UNSET


class AdminAlert(Payload, frozen=True, kw_only=True):
    """Something that the administrators shall see."""

    message_type: ClassVar[NotificationType] = "admin_alert"
    event: str
    message: str
    project_id: str | msgspec.UnsetType = msgspec.UNSET
    requires_action: bool = False


class UserMessage(Payload, frozen=True, kw_only=True):
    """A message from one user to another."""

    message_type: ClassVar[NotificationType] = "user_message"
    from_user_id: str
    from_user_name: str
    to_user_id: str
    subject: str
    content: str


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A whole frame, for a caller that chooses `id` and `timestamp` itself."""

    type: str
    data: Any
    timestamp: str
    id: str


class _DurableEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    data: Any
    timestamp: str
    id: str
    seq: int
    unread: int
    rev: int


class StoredNotification(Protocol):
    """A row of `real_time_notifications` with its place in the user's feed."""

    @property
    def id(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def data(self) -> Any: ...  # noqa: ANN401  # whatever a foreign program put there
    @property
    def timestamp(self) -> str: ...


_encoder = msgspec.json.Encoder()


def encode(message: Payload | Envelope) -> bytes:
    """The frame of a message: an envelope as it is, a payload in a new one (`id` a UUIDv7, `timestamp` now)."""
    if isinstance(message, Payload):
        return _frame(message.message_type, message)
    return _encoder.encode(message)


def durable_frame(notification: StoredNotification, unread: int, rev: int) -> bytes:
    """The frame of a stored notification, with the user's counters as of `rev`.

    The row's `title` and `message` are added to its `data` where that has none. A frame over `MAX_DURABLE_BYTES`, and a
    row whose `data` is no object or cannot be encoded, becomes a stub: `data` is `{"truncated": true}`.
    """
    try:
        frame = _durable(notification, _durable_data(notification), unread, rev)
    except (TypeError, ValueError, RecursionError):
        logger.warning("notification %s cannot be encoded; its frame goes out as a stub", notification.id)
    else:
        if len(frame) <= MAX_DURABLE_BYTES:
            return frame
    return _durable(notification, {"truncated": True}, unread, rev)


def sync_frame(*, epoch: str, head_seq: int, unread: int, rev: int, resumed_from: int | None) -> bytes:
    """Where the user's feed stands; `resumed_from` is the position that the client gave, None where it gave none."""
    return _frame(
        "sync", {"epoch": epoch, "headSeq": head_seq, "unread": unread, "rev": rev, "resumedFrom": resumed_from}
    )


def resync_frame(*, epoch: str, from_seq: int, head_seq: int) -> bytes:
    """Too much to replay: the client pages through HTTP after `from_seq`."""
    return _frame("resync", {"epoch": epoch, "fromSeq": from_seq, "headSeq": head_seq})


def read_frame(*, unread: int, rev: int, ids: Sequence[str] | None = None, up_to: int | None = None) -> bytes:
    """Notifications were marked read or unread: these `ids`, or all `up_to` a seq; neither where not known."""
    data: dict[str, object] = {"unread": unread, "rev": rev}
    if ids is not None:
        data["ids"] = list(ids)
    if up_to is not None:
        data["upTo"] = up_to
    return _frame("read", data)


def error_frame(code: str, message: str, ref: str | None = None) -> bytes:
    """A client's frame was refused; `ref` is that frame's `id`."""
    return _frame("error", {"code": code, "message": message, "ref": ref})


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and `Z`. A moment without a zone is taken as UTC."""
    if moment.tzinfo is UTC:
        # As nearly all are, and in half of the time.
        return f"{moment.isoformat(timespec='milliseconds')[:-6]}Z"
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def now_timestamp() -> str:
    """The present moment as `timestamp` has it."""
    return timestamp(datetime.now(UTC))


def uuid7() -> str:
    """A new UUID of version 7 (RFC 9562 section 5.7): milliseconds since 1970, then 74 random bits."""
    value = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _frame(kind: str, data: object) -> bytes:
    return _encoder.encode(Envelope(type=kind, data=data, timestamp=now_timestamp(), id=uuid7()))


def _durable(notification: StoredNotification, data: Mapping[str, object], unread: int, rev: int) -> bytes:
    return _encoder.encode(
        _DurableEnvelope(
            type=notification.type,
            data=data,
            timestamp=notification.timestamp,
            id=notification.id,
            seq=notification.seq,
            unread=unread,
            rev=rev,
        )
    )


def _durable_data(notification: StoredNotification) -> dict[str, object]:
    data = notification.data
    if isinstance(data, msgspec.Raw):
        data = msgspec.json.decode(data)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise TypeError("data is not an object")
    return {"title": notification.title, "message": notification.message, **data}


# --- what a client sends


class ClientMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The `data` of a frame from a client; its class says what is wanted."""


class ProjectUpdateRequest(ClientMessage, frozen=True, kw_only=True):
    """Change a project's status (administrators)."""

    project_id: Identifier
    new_status: ProjectStatus


class AnnouncementRequest(ClientMessage, frozen=True, kw_only=True):
    """Tell an audience something (administrators)."""

    title: Title
    message: Text
    priority: Priority = "medium"
    action_url: ActionUrl | msgspec.UnsetType = msgspec.UNSET
    audience: Audience = "admins"


class AdminAlertRequest(ClientMessage, frozen=True, kw_only=True):
    """Tell the administrators something (administrators)."""

    event: Identifier
    message: Text
    project_id: Identifier | msgspec.UnsetType = msgspec.UNSET
    requires_action: bool = False


class UserMessageRequest(ClientMessage, frozen=True, kw_only=True):
    """Write to an administrator (anyone) or to anyone (administrators)."""

    to_user_id: Identifier
    subject: Title
    content: Text


class Ack(ClientMessage, frozen=True, kw_only=True):
    """Everything up to `seq` has arrived."""

    seq: Sequence64


class Read(ClientMessage, frozen=True, kw_only=True):
    """Mark as read: either these notifications or everything up to a `seq`."""

    ids: Annotated[list[Identifier], msgspec.Meta(min_length=1, max_length=500)] | msgspec.UnsetType = msgspec.UNSET
    up_to: Sequence64 | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if (self.ids is msgspec.UNSET) == (self.up_to is msgspec.UNSET):
            raise ValueError("Expected either `ids` or `upTo`")


class Refresh(ClientMessage, frozen=True, kw_only=True):
    """Go on under a new connection token."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]


CLIENT_MESSAGES: Final[Mapping[str, type[ClientMessage]]] = {
    "project_update": ProjectUpdateRequest,
    "system_announcement": AnnouncementRequest,
    "admin_alert": AdminAlertRequest,
    "user_message": UserMessageRequest,
    "ack": Ack,
    "read": Read,
    "refresh": Refresh,
}
"""Every type of frame that a client may send, with what its `data` must be."""


_MOST_VALUES = 1_000


class _ClientEnvelope(msgspec.Struct, frozen=True):
    # The guide's clients put more beside `type` and `data`, so other fields are not looked at.
    type: str
    data: msgspec.Raw
    id: Any = None


_envelope_decoder = msgspec.json.Decoder(_ClientEnvelope)
_data_decoders = {kind: msgspec.json.Decoder(struct) for kind, struct in CLIENT_MESSAGES.items()}


def decode_client_frame(frame: bytes) -> tuple[str, ClientMessage, str | None]:
    """Checks a client's frame: its type, its data, and its `id` where it has one.

    Raises:
        InvalidFrameError: `invalid_frame`: no JSON object with `type` and `data`; `unknown_type`; `invalid_data`: the
            data breaks a rule of its type, named by the message.
    """
    try:
        envelope = _envelope_decoder.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _check_strictly(frame, "invalid_frame", None)
        raise InvalidFrameError("invalid_frame", "A frame is a JSON object with `type` and `data`") from None
    ref = envelope.id if isinstance(envelope.id, str) and len(envelope.id) <= 200 else None
    decoder = _data_decoders.get(envelope.type)
    if decoder is None:
        raise InvalidFrameError("unknown_type", "This type of frame is not known", ref)
    try:
        message = decoder.decode(envelope.data)
    except msgspec.ValidationError as error:
        raise InvalidFrameError("invalid_data", str(error).replace("`$", "`data"), ref) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _check_strictly(envelope.data, "invalid_data", ref)
        raise InvalidFrameError("invalid_data", str(error), ref) from None
    # Last, since it costs more than all of the above.
    try:
        _check_strictly(frame, "invalid_frame", ref)
    except InvalidFrameError:
        _check_strictly(envelope.data, "invalid_data", ref)
        raise
    return envelope.type, message, ref


def _check_strictly(text: bytes, code: str, ref: str | None) -> None:
    try:
        strict_json.check(bytes(text), "The frame", most_values=_MOST_VALUES)
    except InvalidInputError as error:
        raise InvalidFrameError(code, str(error), ref) from None
