"""What a client does next: after a close, after a refused handshake, and how long it waits. No I/O."""

import base64
import binascii
import random
import re
from typing import Literal

import msgspec

from jasaweb_rt.exceptions import RealtimeError

__all__ = [
    "MAX_DELAY",
    "MIN_DELAY",
    "Next",
    "RealtimeClientError",
    "after_close",
    "after_refusal",
    "backoff",
    "session_end",
]

MIN_DELAY = 0.5
MAX_DELAY = 30.0

_RETRY_AFTER = re.compile(r"retry after (\d{1,8}) ms")
_STAY_CLOSED = frozenset({1000, 4004, 4500})
_FIX_YOURSELF = frozenset({1003, 1007, 1009})


class RealtimeClientError(RealtimeError):
    """The connection has ended for good: the server wants it so, or the token is refused, or the session."""

    def __init__(self, message: str, code: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        """Close code or HTTP status, if there was one."""
        self.reason = reason


class Next(msgspec.Struct, frozen=True):
    """The next step."""

    do: Literal["reconnect", "renew", "stop"]
    """`renew`: with a new token, which is tried once; `stop`: for good."""
    delay: float | None = None
    """Seconds that the server asks to wait; None: as the backoff has it."""


def after_close(code: int, reason: str) -> Next:
    """What to do when an open connection was closed with `code` (the contract's table of close codes)."""
    if code in _STAY_CLOSED or code in _FIX_YOURSELF:
        return Next("stop")
    if code == 1008 and reason == "Invalid authentication":
        return Next("renew", 0)
    if code == 1001 and (match := _RETRY_AFTER.search(reason)):
        return Next("reconnect", int(match[1]) / 1000)
    return Next("reconnect")


def after_refusal(status: int, retry_after: str | None) -> Next:
    """What to do when the handshake was answered by the HTTP status `status`."""
    if status in {429, 500, 502, 503, 504} or status == 403:
        delay = float(retry_after) if retry_after and retry_after.isdecimal() else None
        return Next("reconnect", delay)
    return Next("stop")


def backoff(attempt: int) -> float:
    """Seconds to wait before attempt `attempt` (0, 1, …): anything up to a bound that doubles from 0.5 s to 30 s."""
    return random.uniform(0, min(MAX_DELAY, MIN_DELAY * 2 ** min(attempt, 16)))  # noqa: S311  # spread, not secret


def session_end(token: str) -> float | None:
    """Unix time at which the session of a connection token ends, by its own word; None where it says nothing."""
    try:
        payload = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims)
    except (IndexError, binascii.Error, ValueError):
        return None
    return claims.session_exp


class _Claims(msgspec.Struct):
    session_exp: float | None = None
