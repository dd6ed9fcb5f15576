"""What a client makes of the pages that it reads after a `resync`, and of what comes meanwhile."""

from typing import Any

import pytest

from jasaweb_rt.client_inbox import InboxPages
from jasaweb_rt.client_pages import MAX_HELD, CatchUp, NoProgressError
from tests.support.scripted_server import durable, stored


def page(*seqs: int, head: int) -> dict[str, Any]:
    return {"items": [stored(seq) for seq in seqs], "headSeq": head, "unread": 7, "rev": 70}


def seqs(frames: list[dict[str, Any]]) -> list[int]:
    return [frame["seq"] for frame in frames]


def test_pages_go_on_where_the_last_one_ended() -> None:
    catch_up = CatchUp(after=2, goal=7)
    assert seqs(catch_up.take(page(3, 5, head=9))) == [3, 5]
    assert (catch_up.after, catch_up.done) == (5, False)
    # An answer that came by a cache, or twice.
    assert seqs(catch_up.take(page(5, 6, 8, head=9))) == [6, 8]
    assert (catch_up.after, catch_up.done) == (8, True)


def test_an_item_becomes_the_frame_that_the_socket_would_have_brought() -> None:
    item = {**stored(3), "message": "m", "readAt": "2026-01-02T00:00:00.000Z"}
    frame = CatchUp(2, 3).take({"items": [item], "headSeq": 3, "unread": 7, "rev": 70})[0]
    assert frame == {
        "type": "project_update",
        "data": {"title": "n3", "message": "m", "projectId": "p"},
        "timestamp": "2026-01-01T00:00:00.000Z",
        "id": "id-3",
        "seq": 3,
        "unread": 7,
        "rev": 70,
        "readAt": "2026-01-02T00:00:00.000Z",
    }


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, {"title": "n3", "message": ""}),
        ({"title": "own", "x": None}, {"title": "own", "message": "", "x": None}),
        ([1], {"truncated": True}),
        ("text", {"truncated": True}),
    ],
)
def test_data_of_any_kind_is_an_object_in_the_frame(data: object, expected: object) -> None:
    assert CatchUp(2, 3).take({**page(head=3), "items": [{**stored(3), "data": data}]})[0]["data"] == expected


def test_what_was_deleted_at_the_end_is_passed_over() -> None:
    catch_up = CatchUp(after=2, goal=7)
    assert catch_up.take(page(head=9)) == []
    assert (catch_up.after, catch_up.done) == (9, True)


def test_one_page_is_read_also_where_nothing_is_missing() -> None:
    catch_up = CatchUp(after=0, goal=0)
    assert not catch_up.done
    assert catch_up.take(page(head=0)) == []
    assert catch_up.done


def test_an_inbox_that_ends_too_soon_is_not_believed() -> None:
    with pytest.raises(NoProgressError):
        CatchUp(after=2, goal=7).take(page(head=2))
    with pytest.raises(NoProgressError):
        CatchUp(after=2, goal=7).take(page(head=1))


def test_live_frames_are_held_back_in_order() -> None:
    catch_up = CatchUp(after=2, goal=3)
    for seq in (4, 5):
        catch_up.hold(durable(seq))
    catch_up.take(page(3, head=5))
    assert seqs(catch_up.release()) == [4, 5]
    assert catch_up.release() == []


def test_more_live_frames_than_may_be_held_are_read_by_pages() -> None:
    catch_up = CatchUp(after=0, goal=1)
    for seq in range(2, MAX_HELD + 5):
        catch_up.hold(durable(seq))
    assert catch_up.goal == MAX_HELD + 2
    assert seqs(catch_up.release()) == [MAX_HELD + 3, MAX_HELD + 4]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://127.0.0.1:8000/ws", "http://127.0.0.1:8000/api/notifications"),
        ("wss://rt.example.org/ws?batch=1", "https://rt.example.org/api/notifications"),
        ("wss://example.org/rt/ws", "https://example.org/rt/api/notifications"),
        ("https://example.org", "https://example.org/api/notifications"),
        ("https://[::1]:8/rt/", "https://[::1]:8/rt/api/notifications"),
    ],
)
def test_where_the_inbox_is(url: str, expected: str) -> None:
    assert InboxPages(url, "session").url == expected


@pytest.mark.parametrize("url", ["", "example.org", "file:///etc/passwd", "ftp://example.org", "wss:///ws"])
def test_what_is_no_place_of_an_inbox(url: str) -> None:
    with pytest.raises(ValueError, match="is not a ws:"):
        InboxPages(url, "session")
