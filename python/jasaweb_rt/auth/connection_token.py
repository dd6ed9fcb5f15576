"""The connection token: opens a socket, and nothing else does. The core checks it; here it is only made."""

import time
from datetime import UTC, datetime

import jwt
import msgspec

from jasaweb_rt.messages import uuid7

__all__ = ["AUDIENCE", "LIFETIME_SECONDS", "ConnectionToken", "issue"]

AUDIENCE = "websocket"
LIFETIME_SECONDS = 300
"""How long a token may be shown at the door; a socket that it opened lives until the session ends."""


class ConnectionToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token and the moment until which it opens a socket."""

    token: str
    expires_at: datetime


def issue(
    *,
    user_id: str,
    role: str,
    name: str,
    secret: str,
    session_exp: int | None,
    session_id: str | None = None,
    lifetime: int = LIFETIME_SECONDS,
) -> ConnectionToken:
    """A token for `lifetime` seconds, but never beyond `session_exp` (Unix time), which ends the socket too.

    Without `session_exp` the socket has no such end; without `session_id` no log-out ends it.
    """
    now = int(time.time())
    expires = now + lifetime if session_exp is None else min(now + lifetime, session_exp)
    claims: dict[str, object] = {
        "aud": AUDIENCE,
        "sub": user_id,
        "role": role,
        "name": name,
        "iat": now,
        "exp": expires,
        "jti": uuid7(),
    }
    if session_exp is not None:
        claims["session_exp"] = session_exp
    if session_id is not None:
        claims["sid"] = session_id
    return ConnectionToken(
        token=jwt.encode(claims, secret, algorithm="HS256"), expires_at=datetime.fromtimestamp(expires, UTC)
    )
