"""Connection tokens for tests, made by PyJWT as another program would make them."""

import time
from typing import Any

import jwt

SECRET = "a secret of tests, longer than 32 bytes"


def connection_token(user_id: str, role: str = "client", *, secret: str = SECRET, **claims: Any) -> str:
    """A token that opens a socket for `user_id`; `claims` replaces or adds some, None removes one."""
    now = int(time.time())
    standard = {"aud": "websocket", "sub": user_id, "role": role, "name": user_id.title(), "iat": now, "exp": now + 300}
    merged = {name: value for name, value in {**standard, **claims}.items() if value is not None}
    return jwt.encode(merged, secret, algorithm="HS256")
