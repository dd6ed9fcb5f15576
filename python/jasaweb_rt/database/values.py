"""Decodes JSON that other programs wrote."""

import json
import logging
from typing import Any

import msgspec

logger = logging.getLogger(__name__)

TRUNCATED = {"truncated": True}
"""What stands for `data` that cannot be carried; the contract's stub."""


def decode_json(text: str | None, notification_id: str) -> Any:  # noqa: ANN401 - any JSON
    """The value of a `jsonb` column that was read as text; None for NULL.

    PostgreSQL stores numbers of any length and nests deeper than a decoder goes. What cannot be decoded becomes the
    stub: one odd row must not hold up those behind it.
    """
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        logger.warning(
            "data of notification %s cannot be decoded (%s); a stub stands in for it", notification_id, error
        )
        return TRUNCATED
