"""What runs one hook: its bounded queue, and the task or thread that empties it.

Whatever a hook does, it does to its own runner. Events are put from any thread; everything else of a runner belongs to
the event loop that made it, apart from the thread of a `ThreadRunner`.
"""

import asyncio
import inspect
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, ClassVar

__all__ = ["HookRunner", "LoopRunner", "ThreadRunner"]

logger = logging.getLogger("jasaweb_rt.hooks")

# A hook that hangs would otherwise fill the log.
_SECONDS_BETWEEN_COMPLAINTS = 10.0


class _ClosedError(Exception):
    """The queue is empty and stays so."""


class _Queue:
    """Events that wait for one hook, oldest first."""

    def __init__(self, name: str, limit: int, wake: Callable[[], object]) -> None:
        """`wake` is called when something was put after `take` had found nothing, and at `close`; from any thread."""
        self._name = name
        self._limit = limit
        self._wake = wake
        self._lock = threading.Lock()
        self._events: deque[object] = deque()
        self._sleeping = False
        self._closed = False
        self.dropped = 0
        self._complained = float("-inf")

    def put(self, event: object) -> None:
        with self._lock:
            if self._closed:
                return
            full = len(self._events) >= self._limit
            if not full:
                self._events.append(event)
            wake, self._sleeping = self._sleeping, False
            dropped = self._drop() if full else 0
        if wake:
            self._wake()
        if dropped:
            logger.warning(
                "hook %s is too slow: %d events wait, %d were dropped for it", self._name, self._limit, dropped
            )

    def take(self) -> object | None:
        """The next event, or None, after which `wake` is called when there is one. _ClosedError: no more will come."""
        with self._lock:
            if self._events:
                return self._events.popleft()
            if self._closed:
                raise _ClosedError
            self._sleeping = True
            return None

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._wake()

    def drop_all(self) -> int:
        """Forgets what waits; returns how much that was."""
        with self._lock:
            count = len(self._events)
            self._events.clear()
            return count

    def _drop(self) -> int:
        """Counts an event that found no room; how many there were so far where it is time to say so, else 0."""
        self.dropped += 1
        now = time.monotonic()
        if now - self._complained < _SECONDS_BETWEEN_COMPLAINTS:
            return 0
        self._complained = now
        return self.dropped


class HookRunner(ABC):
    """Calls one hook with its events, one after another."""

    can_be_cancelled: ClassVar[bool]
    """Whether `end_now` ends a call that is under way."""
    ended: asyncio.Event
    """Set once it calls the hook no more."""

    def __init__(self, hook: Callable[[Any], object], max_waiting: int) -> None:
        self._name = getattr(hook, "__qualname__", None) or type(hook).__qualname__
        self._queue = _Queue(self._name, max_waiting, self._wake)
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()

    @property
    def dropped(self) -> int:
        """Events that found no room."""
        return self._queue.dropped

    def put(self, event: object) -> None:
        """Queues an event, or drops it where too many wait. From any thread; it neither waits nor raises."""
        self._queue.put(event)

    def close(self) -> None:
        """Takes no more events; ends once those that wait are done."""
        self._queue.close()

    def end_now(self) -> None:
        """Ends after the present call, or by ending it where that can be done."""
        left = self._queue.drop_all()
        logger.warning("hook %s did not end in time; %d events were left to it", self._name, left)

    @abstractmethod
    def _wake(self) -> None:
        """Makes the runner look at its queue. From any thread; it does not raise."""

    def _call_on_loop(self, function: Callable[[], object]) -> None:
        # A loop that is closed already has nobody who would wait.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def _log_failure(self, event: object, error: BaseException) -> None:
        # Never the event itself: it may hold a token or what people write to each other.
        logger.error("hook %s has failed on %s", self._name, type(event).__name__, exc_info=error)


class LoopRunner(HookRunner):
    """Calls an `async def` hook on the event loop that it was made on."""

    can_be_cancelled = True

    def __init__(self, hook: Callable[[Any], Awaitable[object]], max_waiting: int, time_limit: float) -> None:
        super().__init__(hook, max_waiting)
        self._call_hook = hook
        self._time_limit = time_limit
        self._woken = asyncio.Event()
        self._task = self._loop.create_task(self._run(), name=f"rt-hook-{self._name}")

    def end_now(self) -> None:
        """Cancels the present call and ends."""
        super().end_now()
        self._task.cancel()

    def _wake(self) -> None:
        self._call_on_loop(self._woken.set)

    async def _run(self) -> None:
        try:
            while True:
                self._woken.clear()
                event = self._queue.take()
                if event is None:
                    await self._woken.wait()
                    continue
                await self._call(event)
                # A hook that never waits for anything would keep the loop for as long as there are events.
                await asyncio.sleep(0)
        except _ClosedError:
            pass
        finally:
            self.ended.set()

    async def _call(self, event: object) -> None:
        limit = asyncio.timeout(self._time_limit)
        try:
            async with limit:
                await self._call_hook(event)
        except asyncio.CancelledError as error:
            # Ours to obey, unless the hook itself awaited something that was cancelled.
            if self._task.cancelling():
                raise
            self._log_failure(event, error)
        except TimeoutError as error:
            if not limit.expired():
                self._log_failure(event, error)
                return
            logger.error(
                "hook %s took more than %g s for %s and was cancelled",
                self._name,
                self._time_limit,
                type(event).__name__,
            )
        except (Exception, SystemExit) as error:
            self._log_failure(event, error)


class ThreadRunner(HookRunner):
    """Calls a plain function on a thread of its own."""

    can_be_cancelled = False

    def __init__(self, hook: Callable[[Any], object], max_waiting: int) -> None:
        super().__init__(hook, max_waiting)
        self._call_hook = hook
        self._woken = threading.Event()
        threading.Thread(target=self._run, name=f"rt-hook-{self._name}", daemon=True).start()

    def _wake(self) -> None:
        self._woken.set()

    def _run(self) -> None:
        try:
            while True:
                self._woken.clear()
                event = self._queue.take()
                if event is None:
                    self._woken.wait()
                    continue
                self._call(event)
        except _ClosedError:
            pass
        finally:
            self._call_on_loop(self.ended.set)

    def _call(self, event: object) -> None:
        try:
            result = self._call_hook(event)
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError("a hook that returns a coroutine must be declared by `async def`")
        except (Exception, SystemExit) as error:
            self._log_failure(event, error)
