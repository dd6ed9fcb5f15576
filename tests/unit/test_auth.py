"""Session JWTs, connection tokens and passwords."""

import asyncio
import time

import bcrypt
import jwt
import pytest

from jasaweb_rt._core import verify_token
from jasaweb_rt.auth import connection_token, passwords, session_jwt
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


def test_a_session_from_a_machine_whose_clock_is_ahead_holds() -> None:
    assert session_jwt.verify(signed(id="u", iat=NOW + 30, exp=LATER), SECRET).id == "u"


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


# Written by bcryptjs 2.4.3, the site's library.
BY_THE_SITE = {
    "secret": "$2a$04$z.b6uBrUldD8BT3tPazBK.dwOKvUU1v7RLJgeFm.zwFm7OC.v/vC2",
    "pässwörd ✓": "$2a$04$Dn0zHBhN3A16gHTSwM5TSOpYrJmqhAEphx2qLYBFJl6PD1Z6OQEua",
    "a\0b": "$2a$04$HCPG3CGEfVWIwyIzSC6IkOjcSpu3uQTckYrstvggxle5Z7CzlvFzO",
    "x" * 72: "$2a$04$8EyEFgjuT8NEIeiyQHCfP.A60Zr9aQkV4f1dVWQ08S0KARqV8Jm6.",
    "x" * 100: "$2a$04$BJ9MrYbGi6rU.eBq3CdP3.GCLROBH/SxBGe03.YjVcsoPuGlF9FcC",
    "é" * 40: "$2a$04$7qcBN7XOrKBLU5OphRmBwuta3Hf1AKwheTmdzndDr.OJA2axRpzH.",
    "😀 emoji": "$2a$04$kCRQNbKuJoFsZEdNemM9rO9J9Q5FRSAsDOGByOGDZSPPR2sRCniWG",
}


@pytest.mark.parametrize("password", BY_THE_SITE)
async def test_passwords_that_the_site_stored_are_the_same_here(password: str) -> None:
    checker, stored = PasswordChecker(), BY_THE_SITE[password]
    assert await checker.matches(password, stored)
    cut = password.encode()[:72] == ("x" * 72).encode() or len(password.encode()) > 72
    for other in (password + "!", password[:-1], "a"):
        assert await checker.matches(other, stored) == (cut and other.encode()[:72] == password.encode()[:72])


async def test_nobody_costs_what_somebody_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def note(_: str, password_hash: str) -> bool:
        compared.append(password_hash[:7])
        return True

    monkeypatch.setattr(passwords, "_compare", note)
    checker = PasswordChecker()
    twelve = "$2a$12$" + BY_THE_SITE["secret"][7:]
    assert await checker.matches("secret", twelve, twelve)
    for stored in (None, "", "by another service", "$2a$12$short"):
        assert not await checker.matches("secret", stored, twelve)
        assert not await checker.matches("secret", stored, "odd")
    assert compared == ["$2a$12$", *["$2b$12$", "$2b$10$"] * 4]
    assert bcrypt.checkpw(b"secret", passwords._hash_of_nobody(BY_THE_SITE["secret"]).encode())


async def test_a_check_leaves_the_event_loop_free() -> None:
    check = asyncio.create_task(PasswordChecker().matches("secret", None, "$2b$12$" + BY_THE_SITE["secret"][7:]))
    turns = 0
    while not check.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 100


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
