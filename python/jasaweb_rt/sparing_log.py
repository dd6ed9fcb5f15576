"""Logging for what may happen thousands of times for one reason: it is said at once, and then now and then."""

import logging
import time
from collections.abc import Callable

import msgspec

__all__ = ["SparingLog"]

_MAX_KINDS = 100


class _Said(msgspec.Struct):
    at: float
    since: int = 0
    """How often it was held back after that."""


class SparingLog:
    """Says the same sentence once a minute at most, and then how often it was held back. For one thread."""

    def __init__(
        self, logger: logging.Logger, *, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`seconds`: the least between two times of the same sentence, by `clock`."""
        self._logger = logger
        self._seconds = seconds
        self._clock = clock
        # In the order in which they were said, 100 at most: of more kinds the oldest is forgotten, and said again.
        self._said: dict[str, _Said] = {}

    def log(self, level: int, sentence: str) -> None:
        """Logs `sentence`, unless it was logged a moment ago."""
        now = self._clock()
        said = self._said.get(sentence)
        if said is not None and now - said.at < self._seconds:
            said.since += 1
            return
        self._said.pop(sentence, None)
        self._said[sentence] = _Said(now)
        if len(self._said) > _MAX_KINDS:
            del self._said[next(iter(self._said))]
        repeated = f" ({said.since} more times since this was last said)" if said is not None and said.since else ""
        self._logger.log(level, "%s%s", sentence, repeated)
