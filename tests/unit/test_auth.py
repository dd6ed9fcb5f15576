"""Session JWTs, connection tokens and passwords."""

import asyncio
import time

import bcrypt
import jwt
import pytest

from jasaweb_rt._core import verify_token
from jasaweb_rt.auth import connection_token, session_jwt
from jasaweb_rt.auth.passwords import PasswordChecker, hash_password
from jasaweb_rt.exceptions import InvalidInputError, TooManyRequestsError, UnauthenticatedError

SECRET = "s" * 32


def signed(algorithm: str = "HS256", secret: str = SECRET, **claims: object) -> str:
    return jwt.encode(claims, secret, algorithm=algorithm)


def test_a_session_is_what_it_was_issued_for() -> None:
    before = int(time.time())
    token = session_jwt.issue(user_id="u", email="e", name="n", role="admin", secret=SECRET, lifetime=60)
    after = time.time()
    claims = session_jwt.verify(token, SECRET)
    assert claims.id == "u"
    assert before <= claims.exp - 60 <= after
    assert jwt.decode(token, SECRET, algorithms=["HS256"])["role"] == "admin"


NOW = int(time.time())
LATER = NOW + 86_400
"""Beyond the end of the tests: nothing of this is refused because it has expired."""


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        signed(id="u", exp=NOW - 1),
        signed(id="u"),
        signed(exp=LATER),
        signed(id=5, exp=LATER),
        signed(id="", exp=LATER),
        signed(id="u", exp="soon"),
        signed(id="u", exp=LATER, nbf=LATER),
        signed(id="u", exp=LATER, aud="websocket"),
        signed(id="u", exp=LATER, secret="x" * 32),
        signed(id="u", exp=LATER, algorithm="HS512", secret="s" * 64),
        jwt.encode({"id": "u", "exp": LATER}, "", algorithm="none"),
        connection_token.issue(
            user_id="u", role="client", name="U", secret=SECRET, session_exp=LATER, lifetime=86_400
        ).token,
    ],
)
def test_anything_else_is_no_session(token: str) -> None:
    with pytest.raises(UnauthenticatedError):
        session_jwt.verify(token, SECRET)


def test_the_core_believes_the_connection_tokens_that_are_issued_here() -> None:
    before = int(time.time())
    end = before + 900
    issued = connection_token.issue(user_id="ü-1", role="client", name="Ünal", secret=SECRET, session_exp=end)
    after = time.time()
    assert verify_token(issued.token, SECRET, now=after) == ("ü-1", "client", "Ünal", end, None)
    assert before <= issued.expires_at.timestamp() - 300 <= after
    with pytest.raises(ValueError, match=r"."):
        verify_token(issued.token, SECRET, now=time.time() + 301)


def test_a_session_opens_no_socket() -> None:
    token = session_jwt.issue(user_id="u", email="e", name="n", role="admin", secret=SECRET)
    with pytest.raises(ValueError, match=r"."):
        verify_token(token, SECRET, now=time.time())


async def test_passwords_are_compared_as_the_site_stores_them() -> None:
    checker = PasswordChecker()
    assert await checker.matches("secret", hash_password("secret"))
    assert not await checker.matches("other", hash_password("secret"))
    assert not await checker.matches("secret", None)
    assert not await checker.matches("secret", "no hash at all")
    assert not await checker.matches("\ud800", hash_password("secret"))
    # The site's library cuts off after 72 bytes, when it stores and when it compares.
    stored = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert await checker.matches("x" * 100, stored)
    assert not await checker.matches("x" * 71, stored)


@pytest.mark.parametrize("password", ["", "x" * 73, "ü" * 37])
def test_a_password_that_bcrypt_would_cut_is_not_stored(password: str) -> None:
    with pytest.raises(InvalidInputError):
        hash_password(password)


async def test_a_flood_of_log_ins_is_turned_away() -> None:
    checker = PasswordChecker()
    stored = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    results = await asyncio.gather(*(checker.matches("secret", stored) for _ in range(60)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, TooManyRequestsError)]
    assert len(refused) == 60 - 32
    assert results.count(True) == 32
    assert await checker.matches("secret", stored)
