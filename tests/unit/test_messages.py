"""Frames on the wire: their exact form, and what of a client's is refused."""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from jasaweb_rt import messages
from jasaweb_rt.exceptions import InvalidFrameError

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Row(msgspec.Struct, frozen=True):
    id: str = "n-1"
    seq: int = 7
    type: str = "project_update"
    title: str = "Title"
    message: str = "Message"
    data: Any = None
    timestamp: str = "2026-01-02T03:04:05.678Z"


def durable(data: object) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(messages.durable_frame(Row(data=data), unread=3, rev=9))
    return frame


def test_an_envelope_has_the_guides_four_fields() -> None:
    announcement = messages.SystemAnnouncement(
        title="Connected", message="Real-time updates are now active", priority="low"
    )
    frame = json.loads(messages.encode(announcement))
    assert list(frame) == ["type", "data", "timestamp", "id"]
    assert frame["type"] == "system_announcement"
    assert frame["data"] == {
        "title": "Connected",
        "message": "Real-time updates are now active",
        "priority": "low",
    }
    assert TIMESTAMP.fullmatch(frame["timestamp"])
    assert uuid.UUID(frame["id"]).version == 7


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        (
            messages.ProjectUpdate(project_id="p", project_name="P", old_status="a", new_status="b", message="m"),
            {"projectId": "p", "projectName": "P", "oldStatus": "a", "newStatus": "b", "message": "m"},
        ),
        (
            messages.PaymentUpdate(
                invoice_id="i", project_id="p", project_name="P", amount=1.5, status="paid", paid_at=None
            ),
            {
                "invoiceId": "i",
                "projectId": "p",
                "projectName": "P",
                "amount": 1.5,
                "status": "paid",
                "paidAt": None,
            },
        ),
        (
            messages.SystemAnnouncement(title="t", message="m", action_url="/x"),
            {"title": "t", "message": "m", "priority": "medium", "actionUrl": "/x"},
        ),
        (
            messages.AdminAlert(event="e", message="m"),
            {"event": "e", "message": "m", "requiresAction": False},
        ),
        (
            messages.UserMessage(from_user_id="a", from_user_name="A", to_user_id="b", subject="s", content="c"),
            {"fromUserId": "a", "fromUserName": "A", "toUserId": "b", "subject": "s", "content": "c"},
        ),
    ],
)
def test_a_payload_is_encoded_in_camel_case_under_its_type(payload: messages.Payload, data: dict[str, object]) -> None:
    frame = json.loads(messages.encode(payload))
    assert (frame["type"], frame["data"]) == (payload.message_type, data)


def test_an_envelope_is_encoded_as_it_is() -> None:
    envelope = messages.Envelope(type="user_message", data={"a": 1}, timestamp="2026-01-01T00:00:00.000Z", id="x")
    assert json.loads(messages.encode(envelope)) == {
        "type": "user_message",
        "data": {"a": 1},
        "timestamp": "2026-01-01T00:00:00.000Z",
        "id": "x",
    }


def test_control_frames() -> None:
    sync = json.loads(messages.sync_frame(epoch="e", head_seq=5, unread=2, rev=8, resumed_from=None))
    assert sync["data"] == {"epoch": "e", "headSeq": 5, "unread": 2, "rev": 8, "resumedFrom": None}
    resync = json.loads(messages.resync_frame(epoch="e", from_seq=0, head_seq=5))
    assert (resync["type"], resync["data"]) == ("resync", {"epoch": "e", "fromSeq": 0, "headSeq": 5})
    assert json.loads(messages.read_frame(unread=1, rev=2, ids=["a"]))["data"] == {"unread": 1, "rev": 2, "ids": ["a"]}
    assert json.loads(messages.read_frame(unread=1, rev=2, up_to=4))["data"] == {"unread": 1, "rev": 2, "upTo": 4}
    error = json.loads(messages.error_frame("forbidden", "No.", "r"))
    assert (error["type"], error["data"]) == ("error", {"code": "forbidden", "message": "No.", "ref": "r"})


def test_a_durable_frame_carries_the_row_and_the_counters() -> None:
    assert durable({"projectId": "p"}) == {
        "type": "project_update",
        "data": {"title": "Title", "message": "Message", "projectId": "p"},
        "timestamp": "2026-01-02T03:04:05.678Z",
        "id": "n-1",
        "seq": 7,
        "unread": 3,
        "rev": 9,
    }


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        (None, {"title": "Title", "message": "Message"}),
        ({}, {"title": "Title", "message": "Message"}),
        ({"title": None, "x": [1, {"y": 2}]}, {"title": None, "message": "Message", "x": [1, {"y": 2}]}),
        ({"title": "Own", "message": "Own"}, {"title": "Own", "message": "Own"}),
        (msgspec.Raw(b'{"a":1}'), {"title": "Title", "message": "Message", "a": 1}),
    ],
)
def test_title_and_message_are_added_where_data_has_none(data: object, sent: object) -> None:
    assert durable(data)["data"] == sent


@pytest.mark.parametrize("data", [[1], "text", 5, {"text": "\ud800"}, {"text": "x" * 70_000}, {"o": object()}])
def test_a_row_that_cannot_be_sent_becomes_a_stub(data: object) -> None:
    frame = durable(data)
    assert frame["data"] == {"truncated": True}
    assert (frame["id"], frame["seq"], frame["unread"], frame["rev"]) == ("n-1", 7, 3, 9)


def test_the_limit_of_a_durable_frame_is_exact() -> None:
    spare = messages.MAX_DURABLE_BYTES - len(messages.durable_frame(Row(data={"x": ""}), 3, 9))
    assert durable({"x": "a" * spare})["data"]["x"] == "a" * spare
    assert durable({"x": "a" * (spare + 1)})["data"] == {"truncated": True}


def test_timestamps_are_utc_with_milliseconds() -> None:
    jakarta = datetime(2026, 1, 2, 7, 0, 0, 999999, timezone(timedelta(hours=7)))
    assert messages.timestamp(jakarta) == "2026-01-02T00:00:00.999Z"
    assert messages.timestamp(jakarta.replace(tzinfo=None)) == "2026-01-02T07:00:00.999Z"
    assert TIMESTAMP.fullmatch(messages.now_timestamp())


def test_uuids_are_of_version_7_and_carry_the_time() -> None:
    found = [uuid.UUID(messages.uuid7()) for _ in range(1000)]
    assert len(set(found)) == 1000
    assert {(value.version, value.variant) for value in found} == {(7, uuid.RFC_4122)}
    moment = datetime.fromtimestamp((found[0].int >> 80) / 1000, UTC)
    assert abs(moment - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("frame", "kind", "message"),
    [
        (
            {"type": "project_update", "data": {"projectId": "p", "newStatus": "review"}},
            "project_update",
            messages.ProjectUpdateRequest(project_id="p", new_status="review"),
        ),
        (
            {"type": "system_announcement", "data": {"title": "t", "message": "m"}, "timestamp": "x", "more": 1},
            "system_announcement",
            messages.AnnouncementRequest(title="t", message="m", priority="medium", audience="admins"),
        ),
        (
            {"type": "admin_alert", "data": {"event": "e", "message": "m", "requiresAction": True}},
            "admin_alert",
            messages.AdminAlertRequest(event="e", message="m", requires_action=True),
        ),
        (
            {"type": "user_message", "data": {"toUserId": "u", "subject": "s", "content": "c"}},
            "user_message",
            messages.UserMessageRequest(to_user_id="u", subject="s", content="c"),
        ),
        ({"type": "ack", "data": {"seq": 5}}, "ack", messages.Ack(seq=5)),
        ({"type": "read", "data": {"ids": ["a"]}}, "read", messages.Read(ids=["a"])),
        ({"type": "read", "data": {"upTo": 0}}, "read", messages.Read(up_to=0)),
        ({"type": "refresh", "data": {"token": "t"}}, "refresh", messages.Refresh(token="t")),
    ],
)
def test_a_clients_frame_is_understood(frame: object, kind: str, message: messages.ClientMessage) -> None:
    assert messages.decode_client_frame(json.dumps(frame).encode()) == (kind, message, None)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b'{"type":"ack"}',
        b'{"data":{}}',
        b'{"type":5,"data":{}}',
        b"{",
        b"\xff",
        b"[" * 50_000,
    ],
)
def test_what_is_no_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(InvalidFrameError) as caught:
        messages.decode_client_frame(frame)
    assert (caught.value.code, caught.value.ref) == ("invalid_frame", None)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"type": "payment_update", "data": {}}, "unknown_type"),
        ({"type": "sync", "data": {}}, "unknown_type"),
        ({"type": "ack", "data": {"seq": -1}}, "invalid_data"),
        ({"type": "ack", "data": {"seq": 2**63}}, "invalid_data"),
        ({"type": "ack", "data": {"seq": "1"}}, "invalid_data"),
        ({"type": "ack", "data": {"seq": 1, "more": 1}}, "invalid_data"),
        ({"type": "ack", "data": None}, "invalid_data"),
        ({"type": "read", "data": {}}, "invalid_data"),
        ({"type": "read", "data": {"ids": ["a"], "upTo": 1}}, "invalid_data"),
        ({"type": "read", "data": {"ids": []}}, "invalid_data"),
        ({"type": "user_message", "data": {"toUserId": "u", "subject": "s\0", "content": "c"}}, "invalid_data"),
        ({"type": "user_message", "data": {"toUserId": "", "subject": "s", "content": "c"}}, "invalid_data"),
        (
            {"type": "system_announcement", "data": {"title": "t", "message": "m", "actionUrl": "javascript:x"}},
            "invalid_data",
        ),
        (
            {"type": "system_announcement", "data": {"title": "t", "message": "m", "actionUrl": "//elsewhere"}},
            "invalid_data",
        ),
        (
            {"type": "system_announcement", "data": {"title": "t", "message": "m", "audience": "nobody"}},
            "invalid_data",
        ),
    ],
)
def test_a_frame_that_breaks_a_rule_is_refused_with_its_id(frame: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidFrameError) as caught:
        messages.decode_client_frame(json.dumps(frame | {"id": "r-1"}).encode())
    assert (caught.value.code, caught.value.ref) == (code, "r-1")
    assert caught.value.message
