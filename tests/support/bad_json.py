"""JSON that is refused wherever it comes in, made from a right object."""

import json
from typing import Any, NamedTuple

MARK = "\ufffcmark\ufffc"
"""Stands in a right text where something else is to be put."""


class Fault(NamedTuple):
    """One thing that is wrong with a text."""

    name: str
    text: bytes
    words: str
    """What the sentence must say: where the text can be read that far, the name of the field."""


def with_value(body: dict[str, Any], field: str, literal: str) -> bytes:
    """`body` with `literal`, as it is, for the value of `field`."""
    return json.dumps(body | {field: MARK}).replace(json.dumps(MARK), literal).encode()


def faults_of(body: dict[str, Any]) -> list[Fault]:
    """Everything that is wrong with any object; `body` is a right one, with a field at least."""
    field = next(iter(body))
    text = json.dumps(body)
    whole = text.encode()
    deep, long = "[" * 5_000 + "]" * 5_000, "9" * 5_000
    return [
        Fault("an unknown field", json.dumps(body | {"moreOfIt": 1}).encode(), "moreOfIt"),
        Fault("a field twice", f"{text[:-1]}, {json.dumps(field)}: {json.dumps(body[field])}}}".encode(), field),
        Fault("a field twice, once by escapes", _twice_by_escapes(body, field), field),
        Fault("another type", with_value(body, field, "{}"), field),
        Fault("null", with_value(body, field, "null"), field),
        Fault("a NUL", with_value(body, field, '"a\\u0000b"'), field),
        Fault("half of a surrogate pair", with_value(body, field, '"\\ud800"'), field),
        Fault("the other half", with_value(body, field, '["x\\udfffx"]'), field),
        Fault("half a pair in a name", with_value(body, "\ud800", "1"), "\\ud800"),
        Fault("a number that is infinite", with_value(body, field, "1e400"), field),
        Fault("a number of a thousand digits", with_value(body, field, f"1{'0' * 1000}"), field),
        Fault("a number that Python would not read", with_value(body, field, long), field),
        Fault("a number beyond 64 bits", with_value(body, field, str(2**64)), field),
        Fault("a number that is none", with_value(body, field, "NaN"), "JSON"),
        Fault("nested too deep", with_value(body, field, deep), field),
        Fault("nested just too deep", with_value(body, field, "[" * 100 + "]" * 100), field),
        Fault("never closed", b"[" * 50_000, "deep"),
        Fault("too many values", with_value(body, field, f"[{'[],' * 51_000}[]]"), "many"),
        Fault("a very long name", with_value(body, "n" * 30_000, "1"), "nnn"),
        Fault("an array", b"[" + whole + b"]", "object"),
        Fault("a text", b'"text"', "object"),
        Fault("a number", b"7", "object"),
        Fault("null alone", b"null", ""),
        Fault("nothing but a space", b" ", "JSON"),
        Fault("the beginning of it", whole[:-1], "JSON"),
        Fault("something behind it", whole + b"{}", "JSON"),
        Fault("a comment", whole[:-1] + b"/**/}", "JSON"),
        Fault("a byte order mark", b"\xef\xbb\xbf" + whole, "JSON"),
        Fault("UTF-16", text.encode("utf-16"), "JSON"),
        Fault("a byte that is no UTF-8", with_value(body, field, '"?"').replace(b'"?"', b'"\xff"'), "JSON"),
        Fault("a surrogate in UTF-8", with_value(body, field, '"?"').replace(b'"?"', b'"\xed\xa0\x80"'), "JSON"),
        Fault("an overlong form", with_value(body, field, '"?"').replace(b'"?"', b'"\xc0\x80"'), "JSON"),
        Fault("a bare control character", with_value(body, field, '"\x01"'), "JSON"),
        Fault("a bare NUL", with_value(body, field, '"\x00"'), "JSON"),
    ]


def _twice_by_escapes(body: dict[str, Any], field: str) -> bytes:
    escaped = "".join(f"\\u{ord(character):04x}" for character in field)
    return f'{{"{escaped}": {json.dumps(body[field])}, {json.dumps(body)[1:]}'.encode()
