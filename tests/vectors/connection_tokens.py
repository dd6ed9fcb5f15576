"""Writes `connection_tokens.json`: tokens, the time they are looked at, and what must come of them.

The Rust core and PyJWT run the same file, so that the one that checks tokens and the one that issues them agree. Run it
after a change here; with `--check` it only says, by its exit code, whether the file is up to date.
"""

import base64
import hmac
import json
import sys
from pathlib import Path
from typing import Any

NOW = 1_800_000_000
LEEWAY = 60
"""Seconds by which `iat` and `nbf` may lie ahead."""
SECRET = "the-current-key-of-connection-tokens"
PREVIOUS = "the-key-before-the-last-rotation-was"
LONG_SECRET = "a key beyond one block of SHA-256 is hashed before use; " * 2
FILE = Path(__file__).with_suffix(".json")

Claims = dict[str, Any]
HEADER: Claims = {"alg": "HS256", "typ": "JWT"}
CLAIMS: Claims = {
    "aud": "websocket",
    "sub": "user-1",
    "role": "client",
    "name": "Budi Santoso",
    "iat": NOW - 10,
    "exp": NOW + 290,
    "session_exp": NOW + 3600,
    "sid": "00f3a26a017c3e9b",
    "jti": "0198f3a2-6a01-7c3e-9b1d-5f0a4c2e8d11",
}


def segment(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def as_json(value: object) -> bytes:
    """Compact, as an issuer writes it."""
    return json.dumps(value, separators=(",", ":")).encode()


def sign(header: str, payload: str, secret: str = SECRET, algorithm: str = "sha256") -> str:
    """Sign segments that are already encoded, whatever they hold."""
    signing_input = f"{header}.{payload}"
    return f"{signing_input}.{segment(hmac.digest(secret.encode(), signing_input.encode(), algorithm))}"


def token(claims: Claims, header: Claims = HEADER, secret: str = SECRET) -> str:
    """Make a well-formed, signed token."""
    return sign(segment(as_json(header)), segment(as_json(claims)), secret)


def having(**changes: object) -> Claims:
    """Take the usual claims, with some replaced."""
    return CLAIMS | changes


def without(*names: str) -> Claims:
    """Take the usual claims, with some left out."""
    return {name: value for name, value in CLAIMS.items() if name not in names}


def identity(**changes: object) -> Claims:
    """Say whom the usual token stands for."""
    usual = {"user_id": "user-1", "role": "client", "name": "Budi Santoso"}
    return usual | {"session_exp": NOW + 3600, "session_id": "00f3a26a017c3e9b"} | changes


vectors: list[Claims] = []


def vector(name: str, text: str, **expected: object) -> None:
    """Note one vector; `error` is the name of PyJWT's exception, or of a rule of ours that begins in lower case."""
    usual = {"now": NOW, "secret": SECRET, "previous_secret": None, "error": None, "identity": None}
    vectors.append({"name": name, "token": text} | usual | expected)


def accepted(name: str, text: str, /, now: float = NOW, **changes: object) -> None:
    """One that holds."""
    vector(name, text, now=now, identity=identity(**changes))


def refused(error: str, name: str, text: str, /, now: float = NOW) -> None:
    """One that does not."""
    vector(name, text, now=now, error=error)


def each(*values: object) -> tuple[object, ...]:
    """Take values of any types for one claim."""
    return values


def add_algorithms() -> None:
    """Only HS256, spelled so."""
    header, payload = segment(as_json(HEADER)), segment(as_json(CLAIMS))
    accepted("a usual token", token(CLAIMS))
    accepted("an admin", token(having(role="admin", name="Ani")), role="admin", name="Ani")
    accepted("a header without typ", token(CLAIMS, {"alg": "HS256"}))
    accepted("further header parameters", token(CLAIMS, HEADER | {"kid": "1", "x5t": 7}))
    accepted("the last of two algorithms counts", sign(segment(b'{"alg":"none","alg":"HS256"}'), payload))
    invalid = "InvalidAlgorithmError"
    refused(invalid, "alg none, unsigned", f"{segment(as_json({'alg': 'none'}))}.{payload}.")
    refused(invalid, "alg none, signed", token(CLAIMS, {"alg": "none"}))
    refused(invalid, "alg None", token(CLAIMS, {"alg": "None"}))
    for other in each("HS384", "HS512", "RS256", "ES256", "EdDSA", "hs256", "HS256 ", ""):
        refused(invalid, f"alg {other!r}", token(CLAIMS, HEADER | {"alg": other}))
    refused(invalid, "alg missing", token(CLAIMS, {"typ": "JWT"}))
    refused(invalid, "alg null", token(CLAIMS, {"alg": None}))
    refused(invalid, "alg a list", token(CLAIMS, {"alg": ["HS256"]}))
    refused(invalid, "alg a number", token(CLAIMS, {"alg": 256}))
    hs512 = segment(as_json(HEADER | {"alg": "HS512"}))
    refused(invalid, "a true HS512 signature", sign(hs512, payload, SECRET, "sha512"))
    refused("InvalidSignatureError", "an HS512 signature as HS256", sign(header, payload, SECRET, "sha512"))


def add_header_rules() -> None:
    """`kid`, `crit` and `b64`."""
    payload = segment(as_json(CLAIMS))
    bare = {"alg": "HS256"}
    for crit in each([], ["exp"], [1], "exp", None, ["b64"], ["b64", "exp"]):
        refused("InvalidTokenError", f"crit {crit!r}", token(CLAIMS, bare | {"crit": crit}))
    accepted("crit names b64, which is true", token(CLAIMS, bare | {"crit": ["b64"], "b64": True}))
    refused("DecodeError", "b64 false with a payload", token(CLAIMS, bare | {"crit": ["b64"], "b64": False}))
    detached = segment(as_json(bare | {"crit": ["b64"], "b64": False}))
    refused("DecodeError", "a detached payload", sign(detached, ""))
    refused(
        "InvalidTokenError",
        "a detached payload that is not critical",
        sign(segment(as_json(bare | {"b64": False})), ""),
    )
    refused("InvalidTokenError", "a kid that is a number", token(CLAIMS, bare | {"kid": 1}))
    refused("InvalidTokenError", "a kid that is null", token(CLAIMS, bare | {"kid": None}))
    refused("InvalidTokenError", "crit before the algorithm", token(CLAIMS, {"alg": "none", "crit": ["exp"]}))
    refused("DecodeError", "a header that is a list", sign(segment(b'["HS256"]'), payload))
    refused("DecodeError", "a header that is no JSON", sign(segment(b"{alg:HS256}"), payload))
    refused("DecodeError", "an empty header", sign("", payload))


def add_malformed() -> None:
    """Segments, base64url, JSON."""
    usual = token(CLAIMS)
    header, payload, signature = usual.split(".")
    for name, text in {
        "nothing": "",
        "one segment": "token",
        "two segments": f"{header}.{payload}",
        "four segments": f"{usual}.{signature}",
        "five segments, as of an encrypted token": f"{header}.{payload}.{payload}.{payload}.{signature}",
        "only dots": "..",
        "a blank in front": f" {usual}",
        "a line feed behind": f"{usual}\n",
        "quotes around": f'"{usual}"',
        "the standard alphabet": f"{header}.{payload}.+/{signature[2:]}",
        "base64 trash in the header": f"!!!!.{payload}.{signature}",
        "base64 trash in the payload": f"{header}.{payload}!!!!.{signature}",
        "base64 trash in the signature": f"{header}.{payload}.{signature[:-4]}!!!!",
        "letters beyond ASCII": f"{header}.{payload}.{signature[:-1]}é",
        "bits behind the end": f"{header}.{payload}.{signature[:-1]}{'B' if signature[-1] != 'B' else 'C'}",
        "a length that base64 cannot have": f"{header}.{payload}.{signature}AA",
        "too much padding": f"{header}.{payload}.{signature}===",
        "padding to no multiple of four": f"{header}.{payload}.{signature}==",
        "padding in the middle": f"{header}.{payload}.{signature[:20]}={signature[20:]}",
    }.items():
        refused("DecodeError", name, text)
    accepted("a padded signature, as some issuers leave it", f"{usual}=")
    for name, data in {
        "claims that are a list": b"[]",
        "claims that are a string": b'"claims"',
        "claims that are null": b"null",
        "claims that are no JSON": b"{sub:1}",
        "claims with something behind": as_json(CLAIMS) + b"{}",
        "no claims": b"",
        "claims that are not UTF-8": b'{"sub":"\xff"}',
    }.items():
        refused("DecodeError", name, sign(header, segment(data)))


def add_keys() -> None:
    """Whose signature it is."""
    usual = token(CLAIMS)
    header, payload, signature = usual.split(".")
    wrong = "InvalidSignatureError"
    refused(wrong, "another key", token(CLAIMS, secret="a-key-that-this-server-has-never-seen"))
    refused(wrong, "no signature", f"{header}.{payload}.")
    refused(wrong, "half a signature", f"{header}.{payload}.{segment(bytes(16))}")
    refused(wrong, "a signature of zeros", f"{header}.{payload}.{segment(bytes(32))}")
    refused(wrong, "another's claims", f"{header}.{segment(as_json(having(role='admin')))}.{signature}")
    refused(wrong, "a signature checked before claims that are no JSON", f"{header}.{segment(b'{')}.{signature}")
    refused(wrong, "the previous key where none is configured", token(CLAIMS, secret=PREVIOUS))
    rotating = {"previous_secret": PREVIOUS}
    vector("the current key during a rotation", usual, **rotating, identity=identity())
    vector("the previous key during a rotation", token(CLAIMS, secret=PREVIOUS), **rotating, identity=identity())
    expired = token(having(exp=NOW - 1), secret=PREVIOUS)
    vector("the previous key does not revive what has expired", expired, **rotating, error="ExpiredSignatureError")
    foreign = token(CLAIMS, secret="a-key-that-this-server-has-never-seen")
    vector("neither key", foreign, **rotating, error=wrong)
    vector("a key of more than a block", token(CLAIMS, secret=LONG_SECRET), secret=LONG_SECRET, identity=identity())
    block = "k" * 64
    vector("a key of exactly a block", token(CLAIMS, secret=block), secret=block, identity=identity())


def add_times() -> None:
    """`exp`, `nbf`, `iat`: whole seconds, as Python's `int` reads them."""
    expired, early, decode = "ExpiredSignatureError", "ImmatureSignatureError", "DecodeError"
    refused("MissingRequiredClaimError", "no exp", token(without("exp")))
    refused("MissingRequiredClaimError", "exp null", token(having(exp=None)))
    refused(expired, "exp now", token(having(exp=NOW)))
    refused(expired, "exp a second ago", token(having(exp=NOW - 1)))
    refused(expired, "exp zero", token(having(exp=0)))
    refused(expired, "exp negative", token(having(exp=-1)))
    accepted("exp in a second", token(having(exp=NOW + 1)))
    accepted("exp in half a second, by a clock with fractions", token(having(exp=NOW + 1)), now=NOW + 0.5)
    refused(expired, "exp with a fraction that is cut off", token(having(exp=NOW + 0.9)))
    accepted("exp with a fraction", token(having(exp=NOW + 1.5)))
    accepted("exp as a string", token(having(exp=str(NOW + 290))))
    accepted("exp as a string with sign, blanks and underscores", token(having(exp=" +1_800_000_290 ")))
    refused(expired, "exp as a string, past", token(having(exp=str(NOW - 1))))
    refused(expired, "exp true, which is 1", token(having(exp=True)))
    accepted("exp far away", token(having(exp=10**30)))
    for value in each("", "soon", "1e10", "1.5", "0x7fffffff", "1__0", "_1", "- 1", [], [NOW + 290], {}):
        refused(decode, f"exp {value!r}", token(having(exp=value)))
    header = segment(as_json(HEADER))
    text = as_json(CLAIMS).decode().replace(f'"exp":{NOW + 290}', '"exp":1e999')
    refused(decode, "exp beyond all numbers", sign(header, segment(text.encode())))
    refused(early, "nbf in a minute and a second", token(having(nbf=NOW + LEEWAY + 1)))
    accepted("nbf in a minute, by the clock of another machine", token(having(nbf=NOW + LEEWAY)))
    accepted("nbf now", token(having(nbf=NOW)))
    accepted("nbf with a fraction that is cut off", token(having(nbf=NOW + LEEWAY + 0.9)))
    accepted("nbf as a string", token(having(nbf=str(NOW))))
    refused(decode, "nbf null", token(having(nbf=None)))
    refused(decode, "nbf a word", token(having(nbf="tomorrow")))
    refused(early, "iat in a minute and a second", token(having(iat=NOW + LEEWAY + 1)))
    accepted("iat in a minute, by the clock of another machine", token(having(iat=NOW + LEEWAY)))
    accepted("iat in a minute, by a clock with fractions", token(having(iat=NOW + LEEWAY)), now=NOW + 0.5)
    accepted("iat now", token(having(iat=NOW)))
    accepted("no iat", token(without("iat")))
    for value in each(None, "today", [], {}):
        refused("InvalidIssuedAtError", f"iat {value!r}", token(having(iat=value)))
    refused(early, "iat is looked at before exp", token(having(iat=NOW + LEEWAY + 1, exp=NOW - 1)))


def add_audiences() -> None:
    """Only tokens that were made for the WebSocket endpoint."""
    missing, invalid = "MissingRequiredClaimError", "InvalidAudienceError"
    refused(missing, "no aud, as a session JWT", token(without("aud")))
    for empty in each(None, "", [], {}, 0, False):
        refused(missing, f"aud {empty!r}", token(having(aud=empty)))
    for other in each(
        "site",
        "Websocket",
        "websocket ",
        ["site"],
        ["site", "api"],
        ["websocket", 1],
        1,
        True,
        {"a": 1},
        [None],
    ):
        refused(invalid, f"aud {other!r}", token(having(aud=other)))
    accepted("aud a list that has it", token(having(aud=["site", "websocket"])))
    accepted("aud a list of one", token(having(aud=["websocket"])))


def add_names() -> None:
    """`sub`, `jti`, and the claims that are ours."""
    refused("MissingRequiredClaimError", "no sub", token(without("sub")))
    refused("MissingRequiredClaimError", "sub null", token(having(sub=None)))
    for other in each(1, True, ["user-1"], {}):
        refused("InvalidSubjectError", f"sub {other!r}", token(having(sub=other)))
    refused("InvalidJTIError", "jti a number", token(having(jti=1)))
    refused("InvalidJTIError", "jti null", token(having(jti=None)))
    accepted("no jti", token(without("jti")))
    accepted("sub beyond ASCII", token(having(sub="pengguna-é-✓")), user_id="pengguna-é-✓")
    refused("noUser", "sub empty", token(having(sub="")))
    for other in each("\0", "user-1\0", "user\0-1"):
        refused("noUser", f"sub {other!r}", token(having(sub=other)))
    refused("role", "no role", token(without("role")))
    for other in each("", "owner", "Admin", "admin ", None, 1, ["admin"]):
        refused("role", f"role {other!r}", token(having(role=other)))
    accepted("no name", token(without("name")), name="")
    accepted("name null", token(having(name=None)), name="")
    refused("claimType", "name a number", token(having(name=1)))
    accepted("no session_exp", token(without("session_exp")), session_exp=None)
    accepted("session_exp null", token(having(session_exp=None)), session_exp=None)
    accepted("session_exp in a second", token(having(session_exp=NOW + 1)), session_exp=NOW + 1)
    accepted("session_exp with a fraction", token(having(session_exp=NOW + 1.5)), session_exp=NOW + 1)
    refused("sessionEnded", "session_exp now", token(having(session_exp=NOW)))
    refused("sessionEnded", "session_exp a minute ago", token(having(session_exp=NOW - 60)))
    refused("sessionEnded", "session_exp with a fraction that is cut off", token(having(session_exp=NOW + 0.9)))
    refused("sessionEnded", "session_exp negative", token(having(session_exp=-1)))
    for other in each(str(NOW + 60), True, [], {}):
        refused("claimType", f"session_exp {other!r}", token(having(session_exp=other)))
    accepted("no sid", token(without("sid")), session_id=None)
    accepted("sid null", token(having(sid=None)), session_id=None)
    accepted("another sid", token(having(sid="ffffffffffffffff")), session_id="ffffffffffffffff")
    for other in each("", "0" * 16, "a" * 15, "a" * 17, "A" * 16, "+" + "a" * 15, "é" * 8, 1, []):
        refused("claimType", f"sid {other!r}", token(having(sid=other)))
    room = 8192 - len(token(having(pad="")))
    refused("tooLong", "more than 8 KiB", token(having(pad="x" * room)))
    accepted("almost 8 KiB", token(having(pad="x" * (room * 3 // 4 - 4))))


def render() -> str:
    """Make the file's text."""
    for add in (add_algorithms, add_header_rules, add_malformed, add_keys, add_times, add_audiences, add_names):
        add()
    names = [one["name"] for one in vectors]
    if len(set(names)) != len(names):
        raise ValueError("two vectors have the same name")
    lines = ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in vectors)
    return f"[\n  {lines}\n]\n"


def main() -> int:
    """Write the file, or compare it."""
    text = render()
    if "--check" in sys.argv:
        return int(not FILE.exists() or FILE.read_text(encoding="utf-8") != text)
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
