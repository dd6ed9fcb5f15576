"""What people, and those who would like to be somebody else, show for a session."""

import base64
import hmac
import json
import time
from functools import cache

import asyncpg
import jwt

from jasaweb_rt.auth import session_jwt
from jasaweb_rt.database import sessions
from tests.support import tokens
from tests.support.people import SECRET, session_token

WRONG_KEY = "another-secret-that-is-long-enough-to-be-one"
LOGGED_OUT = "that was ended by a log-out"
"""What is wrong with the tokens of sessions that only `log_out` ends."""


@cache
def _logged_out() -> tuple[str, session_jwt.SessionClaims]:
    token = session_token("admin", role="admin")
    return token, session_jwt.verify(token, SECRET)


async def log_out(connection: asyncpg.Connection) -> None:
    """Ends the session of the tokens with the fault `LOGGED_OUT`; before it they are good."""
    _, claims = _logged_out()
    await sessions.end(connection, claims.id, claims.session_id, claims.exp)


def _claims(user_id: str, role: str) -> dict[str, object]:
    now = int(time.time())
    return {"id": user_id, "email": f"{user_id}@jasaweb.test", "name": user_id, "role": role, "exp": now + 3600}


def signed(claims: dict[str, object], secret: str, algorithm: str) -> str:
    """A JWT made by hand: PyJWT warns of keys that are short for other algorithms than ours."""
    digest = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}[algorithm]
    parts = [_encoded(json.dumps(part).encode()) for part in ({"alg": algorithm, "typ": "JWT"}, claims)]
    signature = hmac.digest(secret.encode(), ".".join(parts).encode(), digest)
    return ".".join([*parts, _encoded(signature)])


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def altered(token: str, **claims: object) -> str:
    """`token` with other claims under its old signature."""
    head, payload, signature = token.split(".")
    decoded = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return f"{head}.{_encoded(json.dumps(decoded | claims).encode())}.{signature}"


def sessions_of_nobody() -> dict[str, str]:
    """Session tokens that stand for nobody, by what is wrong with them; each would be an administrator's."""
    claims = _claims("admin", "admin")
    return {
        "no token": "nonsense",
        "expired": session_token("admin", role="admin", lifetime=-1),
        "signed with another key": session_token("admin", role="admin", secret=WRONG_KEY),
        "not signed": jwt.encode(claims, None, algorithm="none"),
        "signed by HS384": signed(claims, SECRET, "HS384"),
        "signed by HS512": signed(claims, SECRET, "HS512"),
        "altered": altered(session_token("client"), id="admin", role="admin"),
        "without an end": signed({name: claims[name] for name in ("id", "role")}, SECRET, "HS256"),
        "with an end that is no moment": signed(claims | {"exp": float("inf")}, SECRET, "HS256"),
        "with an end beyond all numbers": signed(claims | {"exp": 10**400}, SECRET, "HS256"),
        "a connection token": tokens.connection_token("admin", "admin"),
        "a connection token under the key of sessions": tokens.connection_token("admin", "admin", secret=SECRET),
        "of a user who was deleted": session_token("deleted", role="admin"),
        LOGGED_OUT: _logged_out()[0],
        "of an id that PostgreSQL cannot hold": session_token("admin\0", role="admin"),
        "of an id that is no text": session_token("\ud800", role="admin"),
    }


def connection_tokens_of_nobody() -> dict[str, str]:
    """Connection tokens that open no socket, by what is wrong with them; each would be an administrator's."""
    _, logged_out = _logged_out()
    now = int(time.time())
    claims = {"aud": "websocket", "sub": "admin", "role": "admin", "name": "Admin", "iat": now, "exp": now + 300}
    return {
        "no token": "nonsense",
        "expired": tokens.connection_token("admin", "admin", iat=now - 900, exp=now - 600),
        "of a session that has ended": tokens.connection_token("admin", "admin", session_exp=now - 60),
        "for another audience": tokens.connection_token("admin", "admin", aud="mail"),
        "for no audience": tokens.connection_token("admin", "admin", aud=None),
        "signed with another key": tokens.connection_token("admin", "admin", secret=WRONG_KEY),
        "not signed": jwt.encode(claims, None, algorithm="none"),
        "signed by HS384": signed(claims, tokens.SECRET, "HS384"),
        "altered": altered(tokens.connection_token("client"), sub="admin", role="admin"),
        "a session": session_token("admin", role="admin"),
        "a session under the key of connection tokens": session_jwt.issue(
            user_id="admin", email="admin@jasaweb.test", name="Admin", role="admin", secret=tokens.SECRET
        ),
        "of a user who was deleted": tokens.connection_token("deleted", "admin"),
        LOGGED_OUT: tokens.connection_token("admin", "admin", sid=logged_out.session_id),
    }
