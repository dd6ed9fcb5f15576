"""Hooks: functions of the embedding program that are called when something has happened.

    hooks = Hooks()

    @hooks.on(ProjectStatusChanged)
    async def tell_the_team(event: ProjectStatusChanged) -> None: ...

They are told afterwards and can change nothing of it: what a hook is told of is committed. Each hook has a queue and a
runner of its own, so one that fails, hangs or spins delays itself alone. Queues live in memory: what waits when the
process dies is lost, and what must not be lost is in the tables.
"""

import asyncio
import inspect
from collections.abc import Callable
from itertools import chain
from typing import Any, Generic, Literal, TypeVar

import msgspec

from jasaweb_rt.domain.events import (
    AdminsAlerted,
    AnnouncementMade,
    BroadcastMade,
    DomainEvent,
    InvoiceStatusChanged,
    NotificationsRead,
    ProjectStatusChanged,
    UserMessageSent,
)
from jasaweb_rt.hook_runners import HookRunner, LoopRunner, ThreadRunner
from jasaweb_rt.messages import ClientMessage

__all__ = [
    "AdminsAlerted",
    "AnnouncementMade",
    "BroadcastMade",
    "ConnectionClosed",
    "ConnectionOpened",
    "DomainEvent",
    "Event",
    "FrameCarriedOut",
    "Hooks",
    "InvoiceStatusChanged",
    "NotificationsRead",
    "ProjectStatusChanged",
    "UserMessageSent",
]

_CANCEL_SHARE = 0.2
"""Part of a stop's time that is kept for hooks to be cancelled in."""

M = TypeVar("M", bound=ClientMessage)
E = TypeVar("E", bound=DomainEvent)
R = TypeVar("R")


class ConnectionOpened(msgspec.Struct, frozen=True, kw_only=True):
    """A socket was opened, and its connection token was good."""

    connection_id: str
    user_id: str
    role: str
    """As the token has it; the database is asked a moment later."""
    name: str
    client_address: str
    user_agent: str | None


class ConnectionClosed(msgspec.Struct, frozen=True, kw_only=True):
    """A socket has ended."""

    connection_id: str
    user_id: str
    code: int
    """Close code of the contract; 1005 or 1006 where the peer sent none (RFC 6455 section 7.4.1)."""
    reason: str
    status: Literal["disconnected", "timeout", "error"]


class FrameCarriedOut(msgspec.Struct, Generic[M], frozen=True, kw_only=True):
    """A client's frame was checked, allowed and carried out."""

    connection_id: str
    user_id: str
    message: M
    """The checked `data` of the frame."""
    ref: str | None
    """The frame's `id`, where it had one of at most 200 characters."""


Event = ConnectionOpened | ConnectionClosed | FrameCarriedOut[Any] | DomainEvent


class Hooks:
    """Registers hooks, and runs them from `start` to `stop`.

    An `async def` hook runs on the event loop that `start` was called on, for `time_limit` seconds at most, then it is
    cancelled. Any other function runs on a daemon thread of its own, and no time limit can end it. A hook is called
    with one event at a time, in the order in which they were emitted.

    Hooks are registered before `start`. After `stop` the same ones may be started again.
    """

    def __init__(self, *, time_limit: float = 10.0, max_waiting: int = 1000) -> None:
        """Nothing runs yet.

        Args:
            time_limit: seconds that an `async def` hook may take for one event.
            max_waiting: events that may wait for one hook; further ones are dropped for that hook, and it is logged.
        """
        if time_limit <= 0 or max_waiting < 1:
            raise ValueError("time_limit must be above 0, max_waiting at least 1")
        self._time_limit = time_limit
        self._max_waiting = max_waiting
        self._registered: list[tuple[type, Callable[[Any], object]]] = []
        self._runners: dict[type, list[HookRunner]] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no hook is registered."""
        return not self._registered

    @property
    def dropped(self) -> int:
        """Events that were dropped since `start` because too many waited for a hook; 0 while none runs."""
        return sum(runner.dropped for several in (self._runners or {}).values() for runner in several)

    def on_connect(self, hook: Callable[[ConnectionOpened], R]) -> Callable[[ConnectionOpened], R]:
        """Registers a hook that is called when a socket was opened; returns it, so as to be a decorator."""
        return self._register(ConnectionOpened, hook)

    def on_disconnect(self, hook: Callable[[ConnectionClosed], R]) -> Callable[[ConnectionClosed], R]:
        """Registers a hook that is called when a socket has ended; returns it, so as to be a decorator."""
        return self._register(ConnectionClosed, hook)

    def on_frame(
        self, message: type[M]
    ) -> Callable[[Callable[[FrameCarriedOut[M]], R]], Callable[[FrameCarriedOut[M]], R]]:
        """Registers, as a decorator, a hook for the client frames whose `data` is a `message`.

        `message` is one of the requests of `jasaweb_rt.messages`; `ClientMessage` stands for all of them.

        Raises:
            TypeError: it is none of these.
            RuntimeError: the hooks run already.
        """
        if not (isinstance(message, type) and issubclass(message, ClientMessage)):
            raise TypeError(f"{message!r} is no client frame; see ClientMessage and its subclasses")
        return lambda hook: self._register(message, hook)

    def on(self, event: type[E]) -> Callable[[Callable[[E], R]], Callable[[E], R]]:
        """Registers, as a decorator, a hook for a domain event; `DomainEvent` stands for all of them.

        Raises:
            TypeError: `event` is no domain event.
            RuntimeError: the hooks run already.
        """
        if not (isinstance(event, type) and issubclass(event, DomainEvent)):
            raise TypeError(f"{event!r} is no domain event; see DomainEvent and its subclasses")
        return lambda hook: self._register(event, hook)

    def emit(self, event: Event) -> None:
        """Queues an event for its hooks and returns. From any thread; it never waits and never raises.

        Before `start` and after `stop` nobody is told.
        """
        runners = self._runners
        if not runners:
            return
        kind = type(event.message) if isinstance(event, FrameCarriedOut) else type(event)
        for ancestor in kind.__mro__:
            for runner in runners.get(ancestor, ()):
                runner.put(event)

    def start(self) -> None:
        """Starts the runners; to be called on the event loop that `async def` hooks shall run on.

        Raises:
            RuntimeError: they run already: two applications need `Hooks` of their own each; or the system gives no
                thread for one, and none runs.
        """
        if self._runners is not None:
            raise RuntimeError("these hooks run already; give each application Hooks of its own")
        runners: dict[type, list[HookRunner]] = {}
        try:
            for kind, hook in self._registered:
                runners.setdefault(kind, []).append(self._runner(hook))
        except RuntimeError:
            # The system gives no further thread.
            for runner in chain.from_iterable(runners.values()):
                runner.close()
            raise
        self._runners = runners

    async def stop(self, seconds: float = 5.0) -> None:
        """Takes no more events, lets the hooks finish what waits, and ends them; all that within `seconds`.

        Shortly before that time is over an `async def` hook is cancelled; a thread that is still in its hook ends after
        the present call, or with the process. What was left waiting is lost, and its number logged. A second call does
        nothing.
        """
        if self._runners is None:
            return
        runners = [runner for several in self._runners.values() for runner in several]
        self._runners = None
        for runner in runners:
            runner.close()
        await _wait_ended(runners, seconds * (1 - _CANCEL_SHARE))
        late = [runner for runner in runners if not runner.ended.is_set()]
        for runner in late:
            runner.end_now()
        await _wait_ended([runner for runner in late if runner.can_be_cancelled], seconds * _CANCEL_SHARE)

    def _runner(self, hook: Callable[[Any], Any]) -> HookRunner:
        if _is_async(hook):
            return LoopRunner(hook, self._max_waiting, self._time_limit)
        return ThreadRunner(hook, self._max_waiting)

    def _register(self, kind: type, hook: Callable[[Any], R]) -> Callable[[Any], R]:
        if self._runners is not None:
            raise RuntimeError("the hooks run already; register hooks before the application starts")
        if not callable(hook):
            raise TypeError(f"{hook!r} cannot be called")
        self._registered.append((kind, hook))
        return hook


def _is_async(hook: Callable[[Any], object]) -> bool:
    # The second is an object with `async def __call__`.
    return inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(getattr(hook, "__call__", None))  # noqa: B004


async def _wait_ended(runners: list[HookRunner], seconds: float) -> None:
    waiting = [asyncio.ensure_future(runner.ended.wait()) for runner in runners]
    if waiting:
        _, late = await asyncio.wait(waiting, timeout=seconds)
        for wait in late:
            wait.cancel()
