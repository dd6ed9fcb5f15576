"""How long a stop has taken, and its end where it takes too long."""

import threading
import time
from collections.abc import Callable

__all__ = ["StopClock"]


class StopClock:
    """Runs from the begin of a stop. From any thread, and from a signal handler of the main thread."""

    def __init__(self, seconds: float, on_over: Callable[[], object]) -> None:
        """`on_over` is called on a thread of its own once the stop has taken `seconds`; not after `cancel`."""
        self._seconds = seconds
        self._on_over = on_over
        self._began: float | None = None
        self._guard: threading.Timer | None = None

    @property
    def since(self) -> float | None:
        """Seconds since the stop began; None: it has not."""
        return None if self._began is None else time.monotonic() - self._began

    @property
    def remaining(self) -> float:
        """Seconds left of a stop; all of them before it has begun."""
        return max(0.0, self._seconds - (self.since or 0.0))

    def begin(self) -> None:
        """The stop begins, if it has not yet."""
        if self._began is None:
            self._began = time.monotonic()
            self._guard = threading.Timer(self._seconds, self._on_over)
            self._guard.daemon = True
            self._guard.start()

    def cancel(self) -> None:
        """The stop is done."""
        if self._guard is not None:
            self._guard.cancel()
