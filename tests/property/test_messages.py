"""Frames hold their form for every input."""

import json
import string
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from jasaweb_rt import messages
from jasaweb_rt.exceptions import InvalidFrameError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
TYPES = st.sampled_from(
    ["project_update", "system_announcement", "admin_alert", "user_message", "ack", "read", "refresh", "payment_update"]
)


class Row(msgspec.Struct, frozen=True):
    id: str
    seq: int
    type: str
    title: str
    message: str
    data: Any
    timestamp: str = "2026-01-01T00:00:00.000Z"


def is_checked(frame: bytes) -> None:
    """Whether a frame is taken or refused: nothing else may come of it."""
    try:
        _, message, _ = messages.decode_client_frame(frame)
    except InvalidFrameError:
        return
    assert isinstance(message, messages.ClientMessage)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(frame: bytes) -> None:
    is_checked(frame)


@given(TYPES, JSON, JSON)
def test_any_data_is_taken_or_refused(kind: str, data: object, identity: object) -> None:
    is_checked(json.dumps({"type": kind, "data": data, "id": identity}).encode())


@given(st.text(string.printable), st.integers(1, 2**62), st.text(), st.text(), JSON)
def test_any_row_becomes_one_small_frame(identity: str, seq: int, title: str, message: str, data: object) -> None:
    row = Row(id=identity, seq=seq, type="user_message", title=title, message=message, data=data)
    frame = messages.durable_frame(row, unread=1, rev=2)
    assert len(frame) <= messages.MAX_DURABLE_BYTES
    sent = json.loads(frame)
    assert (sent["id"], sent["seq"], sent["unread"], sent["rev"]) == (identity, seq, 1, 2)
    if data is None or isinstance(data, dict):
        assert sent["data"] == {"title": title, "message": message} | (data or {})
    else:
        assert sent["data"] == {"truncated": True}
