"""What is known of PostgreSQL's disk. That it fills is tested with a real one, in tests/e2e."""

from collections import namedtuple
from pathlib import Path

import pytest

from jasaweb_rt.disk_watch import LEAST_FREE_BYTES, DiskWatch
from jasaweb_rt.exceptions import DatabaseFullError

Usage = namedtuple("Usage", "total used free")  # noqa: PYI024  # as `shutil.disk_usage` returns it


def fail(watch: DiskWatch) -> None:
    """A statement that finds no room."""
    with pytest.raises(DatabaseFullError), watch.watching():
        raise DatabaseFullError("PostgreSQL has no room left on its disk (53100)")


async def test_what_failed_for_want_of_room_is_remembered_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    now = 1000.0
    watch = DiskWatch(None, clock=lambda: now)
    assert not watch.is_full
    fail(watch)
    assert watch.is_full
    await watch.look()
    fail(watch)
    await watch.look()
    assert caplog.messages == ["PostgreSQL has no room left on its disk (53100)"]
    now += 14
    assert watch.is_full
    now += 2
    assert not watch.is_full
    await watch.look()
    assert caplog.messages[1:] == ["PostgreSQL's disk has room again"]


async def test_little_room_under_the_embedded_server_counts_before_anything_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("INFO")
    free = LEAST_FREE_BYTES
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage(0, 0, free))
    watch = DiskWatch(tmp_path)
    await watch.look()
    assert not watch.is_full
    free -= 1
    await watch.look()
    assert watch.is_full
    await watch.look()
    free += 1
    await watch.look()
    assert not watch.is_full
    assert caplog.messages == [
        f"The disk of {tmp_path} has 31 MiB left; free some, or PostgreSQL stops writing",
        "PostgreSQL's disk has room again",
    ]


async def test_a_folder_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    watch = DiskWatch(tmp_path / "none")
    await watch.look()
    assert not watch.is_full
