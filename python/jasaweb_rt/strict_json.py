"""What JSON from outside may not hold although its grammar allows it, told with the name of the field.

RFC 8259 leaves open what a name means that stands twice in an object (section 4), how large a number may be (section 6)
and what half of a surrogate pair is (section 8.2), so two programs may read such a text differently. PostgreSQL keeps
no NUL in text. Depth and count are bounded, so that a small text cannot cost much.
"""

import json
import re
from typing import Any, NoReturn

from jasaweb_rt.exceptions import InvalidInputError

__all__ = ["MAX_DEPTH", "check", "quoted"]

MAX_DEPTH = 100
"""Arrays and objects within each other, the outermost included."""

_INT_BITS = 63
_LONGEST_NAME = 100
# A string that does not end goes to the end of the text, and nothing is tried twice: else a text of escaped quotes
# would be searched through for each of them.
_STRING = r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'
_STRINGS = re.compile(_STRING, re.DOTALL)
_NO_BRACKETS = re.compile(r"[^\[\]{}]+")
_STEPS = re.compile(rf"({_STRING})\s*:|{_STRING}|[\[\]{{}}]", re.DOTALL)
_ODD_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_NUL, _SURROGATE = re.compile("\x00"), re.compile("[\ud800-\udfff]")
_OUT_OF_RANGE = object()


def check(text: bytes, what: str = "The body", *, most_values: int = 50_000) -> None:
    """Returns if `text` is one JSON value that every program reads alike.

    Args:
        text: in UTF-8, without a byte order mark.
        what: how the text is called in the sentence of an error.
        most_values: numbers, arrays and objects that it may have in all.

    Raises:
        InvalidInputError: with what is wrong and, where the text can be read that far, the name of the field.
    """
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        raise InvalidInputError(f"{what} is not valid JSON: it is not in UTF-8") from None
    _check_brackets(decoded, what, most_values)
    fields = _Fields(what, most_values, odd_text=_ODD_ESCAPE.search(decoded) is not None)
    decoder = json.JSONDecoder(
        object_pairs_hook=fields.on_object,
        parse_float=fields.on_fraction,
        parse_int=fields.on_integer,
        parse_constant=fields.on_constant,
    )
    try:
        fields.check_value(None, decoder.decode(decoded))
    except json.JSONDecodeError:
        raise InvalidInputError(f"{what} is not valid JSON") from None


class _Fields:
    """Looks at each object as soon as it is read, the inner ones before those around them."""

    def __init__(self, what: str, most_values: int, *, odd_text: bool) -> None:
        self._what = what
        self._left = most_values
        self._odd_text = odd_text
        self._odd_number = False

    def on_object(self, pairs: list[tuple[str, Any]]) -> None:
        self._count()
        if len(pairs) > 1 and len(dict(pairs)) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise InvalidInputError(f"{quoted(twice)} is given twice")
        if self._odd_text or self._odd_number:
            for name, value in pairs:
                self._check_text(name, name)
                self.check_value(name, value)

    def on_integer(self, digits: str) -> object:
        self._count()
        if len(digits) < 19 or -(2**_INT_BITS) <= _int(digits) < 2**_INT_BITS:
            return None
        self._odd_number = True
        return _OUT_OF_RANGE

    def on_fraction(self, digits: str) -> object:
        self._count()
        if abs(float(digits)) != float("inf"):
            return None
        self._odd_number = True
        return _OUT_OF_RANGE

    def on_constant(self, word: str) -> NoReturn:
        raise InvalidInputError(f"{self._what} is not valid JSON: it has no {word}")

    def check_value(self, name: str | None, value: object) -> None:
        """Looks at the value of the field `name`, and at what stands in it if that is an array."""
        if isinstance(value, str):
            self._check_text(name, value)
        elif isinstance(value, list):
            for item in value:
                self.check_value(name, item)
        elif value is _OUT_OF_RANGE:
            raise InvalidInputError(f"{self._called(name)} has a number that is out of range")

    def _check_text(self, name: str | None, text: str) -> None:
        if _NUL.search(text):
            raise InvalidInputError(f"{self._called(name)} has a NUL character, which PostgreSQL does not keep")
        if _SURROGATE.search(text):
            raise InvalidInputError(f"{self._called(name)} has half of a surrogate pair, which is no character")

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise InvalidInputError(f"{self._what} has too many values")

    def _called(self, name: str | None) -> str:
        return self._what if name is None else quoted(name)


def _check_brackets(text: str, what: str, most: int) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth, left = 0, most
    for bracket in _NO_BRACKETS.sub("", _STRINGS.sub("", text)):
        if bracket in "]}":
            depth -= 1
            continue
        depth, left = depth + 1, left - 1
        if depth > MAX_DEPTH:
            name = _field_around(text)
            called = what if name is None else quoted(name)
            raise InvalidInputError(f"{called} is nested too deep; {MAX_DEPTH} levels are the most")
        if left < 0:
            raise InvalidInputError(f"{what} has too many values")


def _field_around(text: str) -> str | None:
    """The field, after its parent where it has one, in which a text is nested too deep; None where it is in none."""
    depth = 0
    names: dict[int, str] = {}
    for step in _STEPS.finditer(text):
        if step[0][0] != '"':
            depth += 1 if step[0] in "[{" else -1
            if depth > MAX_DEPTH:
                break
        elif step[1] and depth in (1, 2):
            names = {level: name for level, name in names.items() if level < depth} | {depth: step[1][1:-1]}
    return ".".join(names.values()) or None


def _int(digits: str) -> int:
    # Python refuses to read more than some thousand digits, and one of these is out of range anyway.
    return int(digits[:40])


def quoted(name: str) -> str:
    """`name` for an error's sentence: in backticks, not too long, and nothing in it that cannot be encoded."""
    shown = name[:_LONGEST_NAME].encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
    return f"`{shown}`"
