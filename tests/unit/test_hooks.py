"""Hooks: who is told what, in which order, and that a bad one harms nobody else."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import pytest

from jasaweb_rt import hook_runners
from jasaweb_rt.hooks import (
    ConnectionClosed,
    ConnectionOpened,
    DomainEvent,
    FrameCarriedOut,
    Hooks,
    NotificationsRead,
    UserMessageSent,
)
from jasaweb_rt.messages import Ack, ClientMessage, Read, UserMessage
from tests.support.sockets import WAIT_SECONDS, until


def opened(name: str = "c") -> ConnectionOpened:
    return ConnectionOpened(
        connection_id=name, user_id="u", role="client", name="U", client_address="127.0.0.1", user_agent=None
    )


def closed(name: str = "c") -> ConnectionClosed:
    return ConnectionClosed(connection_id=name, user_id="u", code=1000, reason="", status="disconnected")


def carried_out(message: ClientMessage) -> FrameCarriedOut[ClientMessage]:
    return FrameCarriedOut(connection_id="c", user_id="u", message=message, ref=None)


READ = NotificationsRead(user_id="u", ids=None, up_to=3, unread=0, rev=4)
SENT = UserMessageSent(
    message=UserMessage(from_user_id="a", from_user_name="A", to_user_id="b", subject="s", content="quite private")
)


@asynccontextmanager
async def running(hooks: Hooks, stop_seconds: float = WAIT_SECONDS) -> AsyncIterator[None]:
    hooks.start()
    try:
        yield
    finally:
        await hooks.stop(stop_seconds)


async def test_each_hook_is_told_of_its_own_events_and_of_no_others() -> None:
    hooks, told = Hooks(), dict[str, list[object]]()

    def note(name: str) -> Callable[[object], None]:
        return told.setdefault(name, []).append

    hooks.on_connect(note("connect"))
    hooks.on_disconnect(note("disconnect"))
    hooks.on_frame(Ack)(note("ack"))
    hooks.on_frame(ClientMessage)(note("any frame"))
    hooks.on(NotificationsRead)(note("read"))
    hooks.on(DomainEvent)(note("any event"))
    ack, read = carried_out(Ack(seq=1)), carried_out(Read(up_to=1))
    async with running(hooks):
        for event in (opened(), closed(), ack, read, READ, SENT):
            hooks.emit(event)
    assert told == {
        "connect": [opened()],
        "disconnect": [closed()],
        "ack": [ack],
        "any frame": [ack, read],
        "read": [READ],
        "any event": [READ, SENT],
    }


async def test_a_coroutine_runs_on_the_loop_and_a_function_on_a_thread_of_its_own() -> None:
    hooks, threads = Hooks(), list[threading.Thread]()

    @hooks.on_connect
    async def on_loop(_: ConnectionOpened) -> None:
        threads.append(threading.current_thread())

    async def of_two(_: str, __: ConnectionOpened) -> None:
        threads.append(threading.current_thread())

    class Callable_:  # noqa: N801
        async def __call__(self, _: ConnectionOpened) -> None:
            threads.append(threading.current_thread())

    hooks.on_connect(functools.partial(of_two, "first"))
    hooks.on_connect(Callable_())
    async with running(hooks):
        hooks.emit(opened())
    assert threads == [threading.main_thread()] * 3

    @hooks.on_connect
    @hooks.on_connect
    def on_thread(_: ConnectionOpened) -> None:
        threads.append(threading.current_thread())

    async with running(hooks):
        hooks.emit(opened())
    others = [thread for thread in threads if thread is not threading.main_thread()]
    assert len(set(others)) == 2
    assert all(thread.daemon and thread.name.startswith("rt-hook-") for thread in others)


async def test_order_is_kept_whichever_thread_they_come_from() -> None:
    hooks, by_loop, by_thread = Hooks(), list[str](), list[str]()

    @hooks.on_connect
    async def on_loop(event: ConnectionOpened) -> None:
        by_loop.append(event.connection_id)

    @hooks.on_connect
    def on_thread(event: ConnectionOpened) -> None:
        by_thread.append(event.connection_id)

    def emit(writer: str) -> None:
        for number in range(200):
            hooks.emit(opened(f"{writer} {number:03}"))

    async with running(hooks):
        writers = [threading.Thread(target=emit, args=(str(number),)) for number in range(4)]
        for writer in writers:
            writer.start()
        await until(lambda: len(by_loop) == len(by_thread) == 800)
        for writer in writers:
            writer.join()
    for told in (by_loop, by_thread):
        for number in range(4):
            assert [name for name in told if name.startswith(f"{number} ")] == [f"{number} {n:03}" for n in range(200)]


async def test_a_hook_that_fails_is_logged_and_told_of_the_next(caplog: pytest.LogCaptureFixture) -> None:
    hooks, told = Hooks(), list[str]()
    never = asyncio.get_running_loop().create_future()
    never.cancel()

    @hooks.on(UserMessageSent)
    async def fails(_: UserMessageSent) -> NoReturn:
        told.append("fails")
        raise ValueError("as planned")

    @hooks.on(UserMessageSent)
    async def awaits_what_was_cancelled(_: UserMessageSent) -> None:
        told.append("cancelled")
        await never

    @hooks.on(UserMessageSent)
    async def times_out_by_itself(_: UserMessageSent) -> NoReturn:
        told.append("time-out")
        raise TimeoutError("its own")

    @hooks.on(UserMessageSent)
    def exits(_: UserMessageSent) -> NoReturn:
        told.append("exits")
        raise SystemExit(3)

    @hooks.on(UserMessageSent)
    def forgets_async(event: UserMessageSent) -> object:
        told.append("forgets")
        return fails(event)

    async with running(hooks):
        hooks.emit(SENT)
        hooks.emit(SENT)
    assert sorted(told) == sorted(["fails", "cancelled", "time-out", "exits", "forgets"] * 2)
    failures = [record for record in caplog.records if "has failed on UserMessageSent" in record.message]
    assert len(failures) == 10
    assert {type(record.exc_info[1]) for record in failures if record.exc_info} == {
        ValueError,
        asyncio.CancelledError,
        TimeoutError,
        SystemExit,
        TypeError,
    }
    # What people write to each other is nobody else's business.
    assert not [record for record in failures if "quite private" in record.getMessage()]


async def test_a_hook_that_takes_too_long_is_cancelled_and_told_of_the_next(caplog: pytest.LogCaptureFixture) -> None:
    hooks, told = Hooks(time_limit=0.01), list[str]()

    @hooks.on_connect
    async def hangs(event: ConnectionOpened) -> None:
        told.append(event.connection_id)
        await asyncio.Event().wait()

    async with running(hooks):
        hooks.emit(opened("1"))
        hooks.emit(opened("2"))
        await until(lambda: len(told) == 2)
    assert "hangs took more than 0.01 s for ConnectionOpened and was cancelled" in caplog.text


async def test_one_that_hangs_and_one_that_spins_delay_themselves_alone(caplog: pytest.LogCaptureFixture) -> None:
    hooks, told = Hooks(), list[str]()
    spinning, end = threading.Event(), threading.Event()

    @hooks.on_connect
    async def hangs(_: ConnectionOpened) -> None:
        await asyncio.Event().wait()

    @hooks.on_connect
    def spins(_: ConnectionOpened) -> None:
        spinning.set()
        while not end.is_set():
            pass

    @hooks.on_connect
    async def on_loop(event: ConnectionOpened) -> None:
        told.append(event.connection_id)

    @hooks.on_connect
    def on_thread(event: ConnectionOpened) -> None:
        told.append(event.connection_id)

    try:
        async with running(hooks, stop_seconds=0.1):
            for number in range(3):
                hooks.emit(opened(str(number)))
            await until(lambda: sorted(told) == ["0", "0", "1", "1", "2", "2"] and spinning.is_set())
        for name in ("hangs", "spins"):
            assert f"{name} did not end in time; 2 events were left to it" in caplog.text
    finally:
        end.set()


async def test_a_full_queue_drops_and_says_so_once_in_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks, told = Hooks(max_waiting=2), dict[str, list[str]](slow=[], quick=[])
    began, go_on = threading.Event(), threading.Event()

    @hooks.on_connect
    def slow(event: ConnectionOpened) -> None:
        told["slow"].append(event.connection_id)
        began.set()
        go_on.wait(WAIT_SECONDS)

    @hooks.on_connect
    async def quick(event: ConnectionOpened) -> None:
        told["quick"].append(event.connection_id)

    async with running(hooks):
        for number in range(8):
            hooks.emit(opened(str(number)))
            await until(lambda number=number: began.is_set() and len(told["quick"]) == number + 1)  # type: ignore[misc]
        warnings = [record.message for record in caplog.records if "too slow" in record.message]
        assert len(warnings) == 1
        assert warnings[0].endswith("slow is too slow: 2 events wait, 1 were dropped for it")
        monkeypatch.setattr(hook_runners, "_SECONDS_BETWEEN_COMPLAINTS", 0)
        hooks.emit(opened("8"))
        assert "6 were dropped for it" in caplog.text
        assert hooks.dropped == 6
        go_on.set()
    assert told["slow"] == ["0", "1", "2"]
    assert hooks.dropped == 0


async def test_stop_lets_them_finish_what_waits() -> None:
    hooks, told = Hooks(), list[str]()

    @hooks.on_connect
    async def on_loop(event: ConnectionOpened) -> None:
        await asyncio.sleep(0)
        told.append(event.connection_id)

    @hooks.on_connect
    def on_thread(event: ConnectionOpened) -> None:
        told.append(event.connection_id)

    async with running(hooks):
        for number in range(500):
            hooks.emit(opened(str(number)))
    assert len(told) == 1000


async def test_a_hook_that_does_not_let_itself_be_cancelled_does_not_hold_the_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hooks, begun, end = Hooks(), asyncio.Event(), asyncio.Event()
    ended = asyncio.Event()

    @hooks.on_connect
    async def stubborn(_: ConnectionOpened) -> None:
        begun.set()
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue
        ended.set()

    async with running(hooks, stop_seconds=0.05):
        hooks.emit(opened())
        await begun.wait()
    assert "stubborn did not end in time; 0 events were left to it" in caplog.text
    assert not ended.is_set()
    end.set()
    async with asyncio.timeout(20):
        await ended.wait()


async def test_the_life_of_hooks(caplog: pytest.LogCaptureFixture) -> None:
    hooks, told = Hooks(), list[str]()

    @hooks.on_connect
    async def note(event: ConnectionOpened) -> None:
        told.append(event.connection_id)

    hooks.emit(opened("before"))
    for name in ("first", "second"):
        async with running(hooks):
            with pytest.raises(RuntimeError, match="Hooks of its own"):
                hooks.start()
            with pytest.raises(RuntimeError, match="before the application starts"):
                hooks.on_connect(note)
            hooks.emit(opened(name))
        hooks.emit(opened("after"))
        await hooks.stop()
    assert told == ["first", "second"]
    assert caplog.records == []


async def test_where_one_gets_no_thread_none_runs() -> None:
    hooks, told = Hooks(), list[str]()

    @hooks.on_connect
    async def on_loop(event: ConnectionOpened) -> None:
        told.append(event.connection_id)

    @hooks.on_connect
    def on_thread(event: ConnectionOpened) -> None:
        told.append(event.connection_id)

    usual = threading.stack_size(1 << 46)
    try:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            hooks.start()
    finally:
        threading.stack_size(usual)
    await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("rt-hook-")])
    async with running(hooks):
        hooks.emit(opened())
    assert told == ["c"] * 2


def test_an_emit_after_the_loop_has_gone_does_not_raise() -> None:
    hooks = Hooks()

    @hooks.on_connect
    async def note(_: ConnectionOpened) -> None:
        pass

    async def begin() -> None:
        hooks.start()
        await asyncio.sleep(0)

    asyncio.run(begin())
    hooks.emit(opened())


def test_what_cannot_be_registered() -> None:
    hooks = Hooks()
    with pytest.raises(TypeError, match="no domain event"):
        hooks.on(ConnectionOpened)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="no domain event"):
        hooks.on("NotificationsRead")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no client frame"):
        hooks.on_frame(UserMessage)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="cannot be called"):
        hooks.on_connect(None)  # type: ignore[arg-type]
    for wrong in ({"time_limit": 0}, {"max_waiting": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            Hooks(**wrong)


def test_types_are_checked() -> None:
    """Mypy reads this: each `ignore` that it finds needless is an error of its own."""
    hooks = Hooks()

    def takes_read(_: NotificationsRead) -> None: ...
    async def takes_ack(_: FrameCarriedOut[Ack]) -> None: ...
    def takes_any(_: object) -> None: ...

    hooks.on(NotificationsRead)(takes_read)
    hooks.on_frame(Ack)(takes_ack)
    hooks.on(UserMessageSent)(takes_any)
    hooks.on(UserMessageSent)(takes_read)  # type: ignore[arg-type]
    hooks.on_frame(Read)(takes_ack)  # type: ignore[arg-type]
    hooks.on_connect(takes_ack)  # type: ignore[arg-type]
    hooks.on_disconnect(takes_read)  # type: ignore[arg-type]
