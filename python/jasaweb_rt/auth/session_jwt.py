"""The session JWT: the JasaWeb site's, or our own log-in's. HS256, claims `id`, `email`, `name`, `role`, `exp`.

It proves an id until a moment, no more: whether that user exists, and in what role, is for `users` to say.
"""

import hashlib
import time
from typing import Annotated

import jwt
import msgspec

from jasaweb_rt.exceptions import UnauthenticatedError
from jasaweb_rt.messages import uuid7

__all__ = ["SESSION_SECONDS", "SessionClaims", "issue", "verify"]

SESSION_SECONDS = 24 * 3600
"""How long a session lasts that began with our own log-in."""

_LAST_SECOND = 253_402_300_799
"""Of the year 9999: times beyond it are nothing that a database or a program could hold."""


class SessionClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a session JWT proves."""

    id: str
    """User id."""
    exp: int
    """Unix time in seconds at which the session ends; at most the last second of the year 9999."""
    session_id: str
    """Names the session, in 16 hexadecimal digits. It is made of the JWT's signature, for the site's JWTs name nothing
    but the user: two that were issued to one user in the same second, alike to the letter, are one session."""


def issue(*, user_id: str, email: str, name: str, role: str, secret: str, lifetime: int = SESSION_SECONDS) -> str:
    """A session JWT that lasts `lifetime` seconds from now."""
    now = int(time.time())
    # By its `jti` it is another session than one that begins in the same second.
    claims = {
        "id": user_id,
        "email": email,
        "name": name,
        "role": role,
        "iat": now,
        "exp": now + lifetime,
        "jti": uuid7(),
    }
    return jwt.encode(claims, secret, algorithm="HS256")


def verify(token: str, secret: str) -> SessionClaims:
    """What `token` proves.

    A connection token is refused even where both keys are the same: it has an `aud`, a session JWT has none.

    Raises:
        UnauthenticatedError: the token is not a session JWT signed with `secret`, or has ended.
    """
    try:
        # The clock of the machine that issued it may be ahead of ours, and `iat` proves nothing besides.
        decoded = jwt.decode_complete(
            token, secret, algorithms=["HS256"], options={"require": ["exp"], "verify_iat": False}
        )
        # Of the bytes, not of their text, which may be spelled in several ways; none but the issuer can make others.
        session_id = hashlib.sha256(decoded["signature"]).hexdigest()[:16]
        return msgspec.convert(decoded["payload"], _Claims).checked(session_id)
    except (jwt.InvalidTokenError, msgspec.ValidationError, OverflowError):
        raise UnauthenticatedError("The session is not valid or has ended; sign in again.") from None


class _Claims(msgspec.Struct, frozen=True):
    # PostgreSQL keeps neither NUL nor half of a surrogate pair, so nobody has an id with one.
    id: Annotated[str, msgspec.Meta(min_length=1, pattern=r"^[^\x00\ud800-\udfff]+$")]
    exp: float

    def checked(self, session_id: str) -> SessionClaims:
        return SessionClaims(id=self.id, exp=int(min(self.exp, _LAST_SECOND)), session_id=session_id)
