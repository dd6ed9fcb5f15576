"""What is sent in a benchmark: upgrade requests, and messages that name their moment."""

import functools
import json
import random
import time
from collections.abc import Iterable

__all__ = ["TOKEN_SECRET", "message", "requests", "text_message"]

TOKEN_SECRET = "a secret for benchmarks, of no use elsewhere"  # noqa: S105
_TOKEN_SECONDS = 3600
_SENTENCES = (
    "Your invoice is waiting for payment",
    "We have sent you a new version of the landing page",
    "The project was approved, and work begins on Friday",
    "Please look at the second draft before our meeting",
    "The logo is done; the contract follows tomorrow",
    "Thank you for your message, we call you back",
    "First review of the website, with notes on budget and launch",
)


def message(stamp: int, size: int) -> bytes:
    """A message of `size` bytes, published at `stamp` (`time.monotonic_ns()`)."""
    head = b'{"type":"bench","data":{"stamp":%d,"pad":"' % stamp
    return head + b"x" * (size - len(head) - 3) + b'"}}'


def text_message(stamp: int, size: int) -> bytes:
    """The same with what notifications are made of for padding: names, ids, times, sentences."""
    head = b'{"type":"bench","data":{"stamp":%d,"items":"' % stamp
    return head + _text(size)[: size - len(head) - 3] + b'"}}'


@functools.cache
def _text(size: int) -> bytes:
    """JSON within a JSON text, of `size` bytes at least. The same in each run, so that figures can be compared."""
    chance = random.Random(size)  # noqa: S311  # nothing is to be kept secret
    items: list[str] = []
    while sum(map(len, items)) < size:
        item = {
            "id": f"{chance.getrandbits(128):032x}",
            "seq": len(items),
            "createdAt": f"2026-11-{chance.randint(1, 30):02d}T09:{chance.randint(0, 59):02d}:00Z",
            "title": chance.choice(_SENTENCES),
            "message": ". ".join(chance.sample(_SENTENCES, k=chance.randint(1, 4))),
            "amount": chance.randint(1, 90_000) * 500,
            "readAt": None,
        }
        items.append(json.dumps(item).replace('"', "'"))
    return ",".join(items).encode()


def requests(users: Iterable[str], *, deflate: bool = False, query: str = "") -> list[bytes]:
    """An upgrade request with a token for each of `users`.

    `deflate`: with the offer that browsers make. `query`: of the address, with its question mark.
    """
    # Programs under measurement make messages as well, and not all of them have this package.
    import jwt

    now = int(time.time())
    claims = {"aud": "websocket", "role": "client", "name": "", "iat": now, "exp": now + _TOKEN_SECONDS}
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" if deflate else b""
    return [
        b"GET /ws" + query.encode() + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        + offer
        + b"Authorization: Bearer "
        + jwt.encode({**claims, "sub": user}, TOKEN_SECRET).encode()
        + b"\r\n\r\n"
        for user in users
    ]
