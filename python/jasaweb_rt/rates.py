"""How fast the core works: its counters, looked at once a second, as rates over the last ten."""

import asyncio
import time
from collections import deque

import msgspec

from jasaweb_rt._core import FanoutServer, Stats

__all__ = ["RateMeter", "Rates"]

_INTERVAL_SECONDS = 1.0
_WINDOW = 10


class Rates(msgspec.Struct, frozen=True, rename="camel"):
    """Each a second, over the last 10 s or since the start."""

    connections_opened: float
    connections_closed: float
    frames_received: float
    frames_published: float
    deliveries: float
    writes: float
    bytes_written: float


class RateMeter:
    """Remembers what the counters were. `run` belongs to one event loop, `rates` may be called from any thread."""

    def __init__(self, server: FanoutServer) -> None:
        self._server = server
        self._seen: deque[tuple[float, Stats]] = deque(maxlen=_WINDOW)

    async def run(self) -> None:
        """Looks at the counters every second, until it is cancelled."""
        while True:
            self._seen.append((time.monotonic(), self._server.stats()))
            await asyncio.sleep(_INTERVAL_SECONDS)

    def rates(self, stats: Stats, now: float) -> Rates:
        """The rates up to `stats`, the counters at `now` (`time.monotonic`); all 0 before the first look."""
        if not self._seen:
            return Rates(*[0.0] * len(Rates.__struct_fields__))
        then, before = self._seen[0]
        # Right after the start there is no second to speak of.
        seconds = max(now - then, _INTERVAL_SECONDS)
        return Rates(
            *(round((getattr(stats, name) - getattr(before, name)) / seconds, 3) for name in Rates.__struct_fields__)
        )
