"""PyJWT, which issues connection tokens, agrees with every vector that the Rust core is tested with."""

import json
import subprocess
import sys
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import jwt
import pytest
from jwt.types import Options

VECTORS = Path(__file__).parents[1] / "vectors"
LEEWAY = 60
CASES: list[dict[str, Any]] = json.loads((VECTORS / "connection_tokens.json").read_text(encoding="utf-8"))


def set_clock(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    """Lets PyJWT see the vector's time: it takes none as an argument."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(now, tz)

    monkeypatch.setattr("jwt.api_jwt.datetime", Clock)


def decode(token: str, secret: str, previous: str | None) -> dict[str, Any]:
    # PyJWT has one leeway for all times. It looks at `iat` and `nbf` before the rest, so the errors are the same ones.
    required = ["exp", "aud", "sub"]
    early: Options = {
        "require": required,
        "verify_exp": False,
        "verify_aud": False,
        "verify_sub": False,
        "verify_jti": False,
    }
    late: Options = {"require": required, "verify_iat": False, "verify_nbf": False}

    def with_key(key: str) -> dict[str, Any]:
        jwt.decode(token, key, algorithms=["HS256"], options=early, leeway=LEEWAY)
        return jwt.decode(token, key, algorithms=["HS256"], audience="websocket", options=late)

    try:
        return with_key(secret)
    except jwt.InvalidSignatureError:
        if previous is None:
            raise
        return with_key(previous)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_pyjwt_agrees(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, case["now"])
    error: str | None = case["error"]
    if error is not None and error[0].isupper():
        with pytest.raises(jwt.InvalidTokenError) as caught:
            decode(case["token"], case["secret"], case["previous_secret"])
        assert type(caught.value).__name__ == error
        return
    # What PyJWT accepts is refused only by a rule of the core's own.
    claims = decode(case["token"], case["secret"], case["previous_secret"])
    if error is None:
        expected = case["identity"]
        assert (claims["sub"], claims["role"]) == (expected["user_id"], expected["role"])
        assert (claims.get("name") or "") == expected["name"]
        assert int(claims.get("session_exp") or 0) == (expected["session_exp"] or 0)
        assert claims.get("sid") == expected["session_id"]


def test_the_file_is_what_its_script_writes() -> None:
    script = VECTORS / "connection_tokens.py"
    assert subprocess.run([sys.executable, script, "--check"], timeout=20, check=False).returncode == 0
