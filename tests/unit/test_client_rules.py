"""What a client does after each way in which a connection can end: the contract's table of close codes."""

import time

import pytest

from jasaweb_rt.auth import connection_token
from jasaweb_rt.client_rules import MAX_DELAY, MIN_DELAY, Next, after_close, after_refusal, backoff, session_end


@pytest.mark.parametrize(
    ("code", "reason", "following"),
    [
        (1000, "", Next("stop")),
        (1001, "Server shutting down; retry after 1500 ms", Next("reconnect", 1.5)),
        (1001, "", Next("reconnect")),
        (1003, "Binary frames are not accepted", Next("stop")),
        (1007, "", Next("stop")),
        (1009, "", Next("stop")),
        (1008, "Invalid authentication", Next("renew", 0)),
        (1008, "Connection limit exceeded", Next("reconnect")),
        (1008, "Rate limit exceeded", Next("reconnect")),
        (1008, "Origin not allowed", Next("reconnect")),
        (1011, "Internal server error", Next("reconnect")),
        (1013, "Try again later", Next("reconnect")),
        (1006, "", Next("reconnect")),
        (4001, "Session expired", Next("reconnect")),
        (4002, "Slow consumer", Next("reconnect")),
        (4003, "No pong", Next("reconnect")),
        (4004, "Replaced by a newer connection", Next("stop")),
        (4500, "Disconnected by an administrator", Next("stop")),
    ],
)
def test_after_a_close(code: int, reason: str, following: Next) -> None:
    assert after_close(code, reason) == following


@pytest.mark.parametrize(
    ("status", "retry_after", "following"),
    [
        (400, None, Next("stop")),
        (404, None, Next("stop")),
        (426, None, Next("stop")),
        (403, None, Next("reconnect")),
        (429, "7", Next("reconnect", 7)),
        (503, "soon", Next("reconnect")),
        (502, None, Next("reconnect")),
    ],
)
def test_after_a_refused_handshake(status: int, retry_after: str | None, following: Next) -> None:
    assert after_refusal(status, retry_after) == following


def test_the_backoff_is_spread_below_a_bound_that_doubles() -> None:
    for attempt, bound in [(0, MIN_DELAY), (1, 1.0), (3, 4.0), (6, MAX_DELAY), (1000, MAX_DELAY)]:
        delays = [backoff(attempt) for _ in range(500)]
        assert 0 <= min(delays) < bound * 0.1
        assert bound * 0.9 < max(delays) <= bound


def test_the_end_of_a_session_is_read_from_its_token() -> None:
    end = int(time.time()) + 900
    token = connection_token.issue(user_id="u", role="client", name="U", secret="s" * 32, session_exp=end).token
    assert session_end(token) == end
    for nonsense in ("", "a.b", "a.!.c", "a.e30.c"):
        assert session_end(nonsense) is None
