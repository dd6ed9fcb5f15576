"""The text of RESULTS.md."""

from collections.abc import Sequence

__all__ = ["between_marks"]


def between_marks(text: str, section: str, lines: Sequence[str]) -> str:
    """`text` with `lines` in the place of what stands between the two marks of `section`.

    Raises:
        ValueError: it has no such marks.
    """
    begin, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"there is no {begin} with its {end}")
    return "\n".join([head + begin, *lines, end + tail])
