"""What hooks are told, on its way to another process."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from jasaweb_rt.domain.events import (
    AdminsAlerted,
    AnnouncementMade,
    BroadcastMade,
    DomainEvent,
    InvoiceStatusChanged,
    NotificationsRead,
    ProjectStatusChanged,
    UserMessageSent,
)
from jasaweb_rt.exceptions import OverloadedError
from jasaweb_rt.hook_events import WITHHELD, EventPublisher, decode, encode
from jasaweb_rt.hooks import ConnectionClosed, ConnectionOpened, Event, FrameCarriedOut
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
    UserMessage,
    UserMessageRequest,
)

OPENED = ConnectionOpened(
    connection_id="n-1", user_id="é", role="client", name="A", client_address="::1", user_agent=None
)
MESSAGES: list[ClientMessage] = [
    ProjectUpdateRequest(project_id="p", new_status="review"),
    AnnouncementRequest(title="T", message="M", priority="high", action_url="/x", audience="all"),
    AnnouncementRequest(title="T", message="M"),
    AdminAlertRequest(event="e", message="m", project_id="p", requires_action=True),
    UserMessageRequest(to_user_id="u", subject="s", content="c"),
    Ack(seq=7),
    Read(ids=["a", "b"]),
    Read(up_to=2**53 - 1),
]
DOMAIN: list[DomainEvent] = [
    ProjectStatusChanged(
        project_id="p", project_name="P", owner_id="o", old_status="review", new_status="completed", by="A"
    ),
    InvoiceStatusChanged(
        invoice_id="i",
        project_id="p",
        project_name="P",
        owner_id="o",
        amount=Decimal("1500000.50"),
        old_status="pending",
        new_status="paid",
        paid_at=datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC),
        by="Midtrans",
    ),
    AnnouncementMade(
        announcement=SystemAnnouncement(title="T", message="M", priority="low"), audience="all", recipients=3, by="A"
    ),
    AdminsAlerted(alert=AdminAlert(event="e", message="m", requires_action=False), recipients=2, by="A"),
    BroadcastMade(
        audience=("a", "b"),
        type="user_message",
        title="T",
        message="M",
        data={"n": [1, None]},
        durable=True,
        count=2,
        by="A",
    ),
    BroadcastMade(
        audience="clients", type="user_message", title="T", message="M", data=None, durable=False, count=0, by="A"
    ),
    UserMessageSent(
        message=UserMessage(from_user_id="a", from_user_name="A", to_user_id="b", subject="s", content="c")
    ),
    NotificationsRead(user_id="u", ids=("a",), up_to=None, unread=1, rev=2),
]
EVENTS: list[Event] = [
    OPENED,
    ConnectionClosed(connection_id="n-1", user_id="u", code=1000, reason="", status="disconnected"),
    *DOMAIN,
    *(
        FrameCarriedOut(connection_id="n-1", user_id="u", message=message, ref=ref)
        for message in MESSAGES
        for ref in ("mine", None)
    ),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(getattr(event, "message", event)).__name__)
def test_an_event_arrives_as_it_was(event: Event) -> None:
    arrived = decode(encode(event))
    assert arrived == event
    assert type(arrived) is type(event)


def test_every_event_is_among_them() -> None:
    assert {type(event) for event in DOMAIN} == set(DomainEvent.__subclasses__())
    assert {type(message) for message in MESSAGES} | {Refresh} == set(ClientMessage.__subclasses__())


def test_a_token_does_not_travel() -> None:
    token = "ey.secret"
    refresh = FrameCarriedOut(connection_id="n-1", user_id="u", message=Refresh(token=token), ref=None)
    data = encode(refresh)
    assert token.encode() not in data
    arrived = decode(data)
    assert isinstance(arrived, FrameCarriedOut)
    assert arrived.message == Refresh(token=WITHHELD)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'["Strange",{}]', b'["ConnectionOpened",{}]', b'["Ack",{"seq":1}]', b"\xff"]
)
def test_what_cannot_be_read_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # msgspec's own words
        decode(data)


def test_what_cannot_be_published_is_counted() -> None:
    sent: list[bytes] = []

    def publish(data: bytes) -> bool:
        sent.append(data)
        if len(sent) == 3:
            raise OverloadedError("full")
        return len(sent) == 1

    publisher = EventPublisher(publish)
    for _ in range(3):
        publisher.emit(OPENED)
    assert (len(sent), publisher.dropped) == (3, 2)
    assert decode(sent[0]) == OPENED
