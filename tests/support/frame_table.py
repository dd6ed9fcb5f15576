"""Every type of frame that a client may send, and what comes of it for whom: the table of the tests of frames."""

from typing import Any, NamedTuple

DONE = "done"
"""It is carried out."""
PASSED_OVER = "passed over"
"""Nothing comes of it, not even an error: it names nothing that is the sender's."""


class FrameRow(NamedTuple):
    """A right frame, and what comes of it: `DONE`, `PASSED_OVER`, or the code of the error frame."""

    kind: str
    data: dict[str, Any]
    client: str
    """From the owner of what the frame names."""
    other: str
    """From another client."""
    admin: str
    gone: str = "forbidden"
    """From a client who was deleted while connected."""
    what: str = ""
    """What it tells apart, where a type has several rows."""


FRAMES = [
    FrameRow(
        "project_update",
        {"projectId": "p-client", "newStatus": "review"},
        client="forbidden",
        other="forbidden",
        admin=DONE,
    ),
    FrameRow(
        "project_update",
        {"projectId": "there-is-none", "newStatus": "review"},
        client="forbidden",
        other="forbidden",
        admin="not_found",
        what="an id that nothing has",
    ),
    FrameRow(
        "system_announcement",
        {"title": "Maintenance", "message": "Tonight at ten", "audience": "all"},
        client="forbidden",
        other="forbidden",
        admin=DONE,
    ),
    FrameRow(
        "admin_alert",
        {"event": "disk_full", "message": "One percent is left"},
        client="forbidden",
        other="forbidden",
        admin=DONE,
    ),
    FrameRow(
        "user_message",
        {"toUserId": "second-admin", "subject": "Logo", "content": "Make it bigger"},
        client=DONE,
        other=DONE,
        admin=DONE,
        what="to an administrator",
    ),
    FrameRow(
        "user_message",
        {"toUserId": "third", "subject": "Logo", "content": "Make it bigger"},
        client="forbidden",
        other="forbidden",
        admin=DONE,
        what="to a client",
    ),
    FrameRow(
        "user_message",
        {"toUserId": "there-is-none", "subject": "Logo", "content": "Make it bigger"},
        client="forbidden",
        other="forbidden",
        admin="not_found",
        what="to nobody",
    ),
    # It says what has arrived on this connection, and only its own log knows of it.
    FrameRow("ack", {"seq": 0}, client=PASSED_OVER, other=PASSED_OVER, admin=PASSED_OVER, gone=PASSED_OVER),
    FrameRow(
        "ack",
        {"seq": 99},
        client="invalid_data",
        other="invalid_data",
        admin="invalid_data",
        gone="invalid_data",
        what="beyond what was sent",
    ),
    FrameRow("read", {"ids": ["n-client"]}, client=DONE, other=PASSED_OVER, admin=PASSED_OVER),
    FrameRow("read", {"ids": ["there-is-none"]}, client=PASSED_OVER, other=PASSED_OVER, admin=PASSED_OVER, what="none"),
    # What a good token does is tested with sessions; here, whose it must be.
    FrameRow(
        "refresh",
        {"token": "of the second administrator"},
        client="invalid_token",
        other="invalid_token",
        admin="invalid_token",
        gone="invalid_token",
        what="another's token",
    ),
]
