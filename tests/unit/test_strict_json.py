"""JSON that programs read differently is refused, whatever its form, and all other JSON is let pass."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jasaweb_rt import strict_json
from jasaweb_rt.exceptions import InvalidInputError
from jasaweb_rt.strict_json import MAX_DEPTH, check
from tests.support.bad_json import faults_of

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)
# What a type refuses, and no other reader would.
OF_THE_TYPE = {
    "an unknown field",
    "another type",
    "null",
    "a very long name",
    "an array",
    "a text",
    "a number",
    "null alone",
}


@given(VALUES, st.booleans())
def test_what_a_program_writes_passes(value: object, escaped: bool) -> None:
    check(json.dumps(value, ensure_ascii=escaped).encode())


@given(st.dictionaries(TEXT, VALUES, min_size=1, max_size=5), st.data())
def test_a_name_that_stands_twice_is_refused_at_any_depth(fields: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(fields)))
    text = json.dumps(fields)[:-1] + f", {json.dumps(name, ensure_ascii=False)}: 0}}"
    for level in range(3):
        with pytest.raises(InvalidInputError, match="is given twice"):
            check((f'{{"a": [{text}]}}' if level else text).encode())
        text = f'{{"a": 1, "b": {text}}}'


@pytest.mark.parametrize("end", [b"", b"\\", b'"'], ids=["open", "backslash", "closed"])
@pytest.mark.parametrize("begin", [b'"', b'{"a": "', b'["'])
def test_a_large_text_of_escapes_is_read_once(begin: bytes, end: bytes) -> None:
    # Looked through again for each of its quotes it would take an hour.
    with pytest.raises(InvalidInputError, match=r"not valid JSON|nested too deep"):
        check(begin + b'\\"' * 400_000 + end + b"[" * (MAX_DEPTH + 1))


@pytest.mark.parametrize("fault", faults_of({"a": "b"}), ids=lambda fault: fault.name)
def test_what_is_wrong_with_any_json(fault: Any) -> None:
    if fault.name in OF_THE_TYPE:
        check(fault.text)
        return
    with pytest.raises(InvalidInputError) as caught:
        check(fault.text)
    assert fault.words in str(caught.value)
    str(caught.value).encode()


@given(st.binary(max_size=100))
def test_any_bytes_are_taken_or_refused(text: bytes) -> None:
    try:
        check(text)
    except InvalidInputError:
        return
    json.loads(text)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_the_depth_is_exact_and_brackets_in_texts_do_not_count(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    check((opening * MAX_DEPTH + "1" + closing * MAX_DEPTH).encode())
    check(json.dumps({'"[{': "[{\\" * 1000, "a": ['"'] * 1000}).encode())
    with pytest.raises(InvalidInputError, match="nested too deep"):
        check((opening * (MAX_DEPTH + 1) + "1" + closing * (MAX_DEPTH + 1)).encode())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"a": 1, "b": %s}', "`b`"),
        ('{"a": {"b": %s}}', "`a.b`"),
        ('{"a": {"x": {}}, "b": {"c": %s}}', "`b.c`"),
        ('{"a": {"x": {}}, "b": [%s]}', "`b`"),
        ("[%s]", "The body"),
    ],
)
def test_where_it_is_nested_too_deep(text: str, name: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check((text % ("[" * MAX_DEPTH + "]" * MAX_DEPTH)).encode())
    assert str(caught.value).startswith(f"{name} is nested too deep")


@pytest.mark.parametrize("values", ["0", "0.5", "[]", "{}"])
def test_the_number_of_values_is_bounded(values: str) -> None:
    # An array counts once there are more brackets than any depth needs.
    text = ",".join([values] * 200)
    check(f"[{text}]".encode(), most_values=201)
    with pytest.raises(InvalidInputError, match="The frame has too many values"):
        check(f"[{text}]".encode(), "The frame", most_values=199)


@pytest.mark.parametrize("number", ["1e308", "-1e308", "1e-400", "-0", "0.1e1", str(2**63 - 1), str(-(2**63))])
def test_numbers_that_everybody_can_read(number: str) -> None:
    check(f'{{"a": {number}}}'.encode())


@pytest.mark.parametrize("number", ["1e309", "-1e309", str(2**63), str(-(2**63) - 1), "9" * 100_000])
def test_numbers_that_not_everybody_can_read(number: str) -> None:
    for text in (f'{{"a": {number}}}', f'{{"x": {{}}, "a": [[1, {number}]], "b": {{}}}}'):
        with pytest.raises(InvalidInputError, match=r"^`a` has a number that is out of range"):
            check(text.encode())
    with pytest.raises(InvalidInputError, match=r"^The body has a number that is out of range"):
        check(f"[{number}]".encode())


def test_a_pair_of_surrogates_is_a_character() -> None:
    check(b'{"\\ud83d\\ude00": "\\ud83d\\ude00"}')


def test_a_name_is_shown_short_and_so_that_it_can_be_sent() -> None:
    assert strict_json.quoted("a" * 500) == f"`{'a' * 100}`"
    assert strict_json.quoted("a\ud800\0b") == "`a\\ud800\\x00b`"
