"""Who watches readiness. A load balancer asks for it again and again, and has to hear that we stop before we do."""

import itertools
import time
from collections import deque
from collections.abc import Callable

__all__ = ["ProbeWatch"]

_KEPT = 8
_LEAST_ASKS = 3
_ASKS_TO_BELIEVE = 3  # as many as load balancers commonly want to hear before they believe it
_MISSED = 2


class ProbeWatch:
    """Takes note of when readiness was asked for. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._clock = clock
        self._asked: deque[float] = deque(maxlen=_KEPT)

    def asked(self) -> None:
        """It was asked for now."""
        self._asked.append(self._clock())

    def notice_seconds(self) -> float:
        """The time within which whoever watches asks three times more; 0 where nobody does, or not any more."""
        asked = list(self._asked)
        if len(asked) < _LEAST_ASKS:
            return 0.0
        pause = max(later - earlier for earlier, later in itertools.pairwise(asked))
        if self._clock() - asked[-1] > _MISSED * pause:
            return 0.0
        return _ASKS_TO_BELIEVE * pause
