"""How often somebody may try a password, and what is remembered of it."""

import pytest

from jasaweb_rt.auth.login_limits import Allowance, LoginLimits
from jasaweb_rt.exceptions import TooManyRequestsError


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tries(limits: LoginLimits, address: str, account: str) -> int:
    """How many it takes until it is refused."""
    for count in range(1000):
        try:
            limits.begin(address, account)
        except TooManyRequestsError:
            return count
    raise AssertionError("there is no limit")


def test_so_many_at_once_and_one_more_every_so_often(clock: Clock) -> None:
    allowance = Allowance(3, 10, clock=clock)
    for _ in range(3):
        assert allowance.wait("a") == 0
        allowance.take("a")
    assert (allowance.wait("a"), allowance.wait("b")) == (10, 0)
    clock.now += 4
    assert allowance.wait("a") == 6
    clock.now += 6
    assert allowance.wait("a") == 0
    allowance.take("a")
    assert allowance.wait("a") == 10
    allowance.give_back("a")
    assert allowance.wait("a") == 0
    allowance.give_back("never taken")


def test_a_rate_is_kept_for_long(clock: Clock) -> None:
    allowance, taken = Allowance(3, 10, clock=clock), 0
    for _ in range(6000):
        clock.now += 0.1
        if allowance.wait("a") == 0:
            allowance.take("a")
            taken += 1
    assert taken == 3 + 600 // 10 - 1


def test_a_million_keys_are_not_remembered(clock: Clock) -> None:
    allowance = Allowance(3, 10, capacity=1000, clock=clock)
    for number in range(3):
        allowance.take("victim")
        for other in range(300):
            allowance.take(f"{number}-{other}")
    assert allowance.wait("victim") > 0, "others do not push it out as long as there is room"
    for number in range(1_000_000):
        allowance.take(str(number))
    assert len(allowance) == 1000
    clock.now += 3600
    allowance.take("a")
    assert len(allowance) == 1, "what is whole again is forgotten"


def test_an_account_is_limited_from_wherever(clock: Clock) -> None:
    limits = LoginLimits(clock)
    taken = sum(tries(limits, f"192.0.2.{number}", "a@jasaweb.test") for number in range(50))
    assert taken == 10
    assert tries(limits, "198.51.100.1", " A@JASAWEB.test") == 0
    assert tries(limits, "198.51.100.1", "b@jasaweb.test") == 10
    with pytest.raises(TooManyRequestsError) as refused:
        limits.begin("198.51.100.2", "a@jasaweb.test")
    assert refused.value.retry_after == 30
    clock.now += 29
    assert tries(limits, "198.51.100.2", "a@jasaweb.test") == 0
    clock.now += 1
    assert tries(limits, "198.51.100.2", "a@jasaweb.test") == 1


@pytest.mark.parametrize(
    ("first", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("192.0.2.1", "::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:3::1"),
        ("", "", "192.0.2.1"),
        ("no address", "no address", "\ud800"),
    ],
)
def test_an_address_is_limited_for_whomever(clock: Clock, first: str, same: str, other: str) -> None:
    limits = LoginLimits(clock)
    for number in range(20):
        limits.begin(first if number % 2 else same, f"{number}@jasaweb.test")
    for address in (first, same):
        with pytest.raises(TooManyRequestsError) as refused:
            limits.begin(address, "new@jasaweb.test")
        assert refused.value.retry_after == 6
    assert tries(limits, other, "new@jasaweb.test") == 10


def test_a_user_begins_so_many_sessions_at_once_and_one_more_every_so_often(clock: Clock) -> None:
    limits = LoginLimits(clock)
    for _ in range(60):
        limits.begin_session("a")
    for _ in range(2):
        with pytest.raises(TooManyRequestsError) as refused:
            limits.begin_session("a")
        assert refused.value.retry_after == 10
    limits.begin_session("b")
    clock.now += 10
    limits.begin_session("a")
    with pytest.raises(TooManyRequestsError):
        limits.begin_session("a")


def test_what_was_right_does_not_count(clock: Clock) -> None:
    limits = LoginLimits(clock)
    for _ in range(100):
        limits.begin("192.0.2.1", "a@jasaweb.test")
        limits.give_back("192.0.2.1", "a@jasaweb.test")
    assert tries(limits, "192.0.2.1", "a@jasaweb.test") == 10
