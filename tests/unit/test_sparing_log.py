"""What is said again and again is logged now and then."""

import logging

import pytest

from jasaweb_rt.sparing_log import SparingLog

logger = logging.getLogger("tests.sparing")


class Clock:
    """A clock that stands until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> SparingLog:
    return SparingLog(logger, seconds=60, clock=clock)


def test_a_sentence_is_said_once_a_minute_and_then_how_often(
    log: SparingLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(61):
        clock.now = second
        log.log(logging.ERROR, "no database")
    assert caplog.messages == ["no database", "no database (59 more times since this was last said)"]
    clock.now = 200
    log.log(logging.ERROR, "no database")
    assert caplog.messages[2:] == ["no database"]


def test_each_sentence_has_a_minute_of_its_own(log: SparingLog, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        log.log(logging.WARNING, "one")
        log.log(logging.ERROR, "another 100 %s")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "one"),
        ("ERROR", "another 100 %s"),
    ]


def test_of_very_many_the_oldest_are_forgotten(log: SparingLog, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(101):
        log.log(logging.ERROR, f"kind {number}")
    caplog.clear()
    log.log(logging.ERROR, "kind 100")
    log.log(logging.ERROR, "kind 0")
    assert caplog.messages == ["kind 0"]
