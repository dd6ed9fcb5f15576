"""What is sent in a benchmark: upgrade requests, and messages that name their moment."""

import time
from collections.abc import Iterable

import jwt

__all__ = ["TOKEN_SECRET", "message", "requests"]

TOKEN_SECRET = "a secret for benchmarks, of no use elsewhere"  # noqa: S105
_TOKEN_SECONDS = 3600


def message(stamp: int, size: int) -> bytes:
    """A message of `size` bytes, published at `stamp` (`time.monotonic_ns()`)."""
    head = b'{"type":"bench","data":{"stamp":%d,"pad":"' % stamp
    return head + b"x" * (size - len(head) - 3) + b'"}}'


def requests(users: Iterable[str]) -> list[bytes]:
    """An upgrade request with a token for each of `users`."""
    now = int(time.time())
    claims = {"aud": "websocket", "role": "client", "name": "", "iat": now, "exp": now + _TOKEN_SECONDS}
    return [
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Authorization: Bearer " + jwt.encode({**claims, "sub": user}, TOKEN_SECRET).encode() + b"\r\n\r\n"
        for user in users
    ]
