"""Whose frame is carried out when. The server and the handlers are the test's own."""

import asyncio
from typing import Any, cast

import msgspec
import pytest

from jasaweb_rt import dispatch
from jasaweb_rt._core import ClientFrame, FanoutServer
from jasaweb_rt.dispatch import WORKERS, Dispatch
from jasaweb_rt.messages import Ack, ClientMessage


class Frame(msgspec.Struct, frozen=True):
    """As the core's `ClientFrame`, which only the core can make."""

    user_id: str
    frame: bytes
    connection_id: str = "c"
    role: str = "client"
    session_id: str | None = None


class Server:
    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def send(self, _: str, frame: bytes) -> int:
        self.told.append(msgspec.json.decode(frame)["data"])
        return 1


class Handlers:
    """Notes each frame; those of a user in `held` wait until they are released."""

    def __init__(self, *held: str) -> None:
        self.held = {user_id: asyncio.Event() for user_id in held}
        self.done: list[tuple[str, int]] = []

    async def carry_out(self, frame: ClientFrame, message: ClientMessage, _: str | None) -> None:
        if frame.user_id in self.held:
            await self.held[frame.user_id].wait()
        assert isinstance(message, Ack)
        self.done.append((frame.user_id, message.seq))


def ack(user_id: str, seq: int) -> ClientFrame:
    return cast("ClientFrame", Frame(user_id, b'{"type": "ack", "data": {"seq": %d}}' % seq))


def dispatching(handlers: Handlers) -> tuple[Dispatch, Server]:
    server = Server()
    return Dispatch(cast("FanoutServer", server), handlers, lambda _: None), server


async def settle(handlers: Handlers, count: int) -> None:
    async with asyncio.timeout(20):
        while len(handlers.done) < count:
            await asyncio.sleep(0)


async def test_a_user_waits_for_their_own_frames_only() -> None:
    held = [f"held-{n}" for n in range(WORKERS - 1)]
    handlers = Handlers(*held)
    waiting, _ = dispatching(handlers)
    for user_id in held:
        waiting.put(ack(user_id, 1))
        waiting.put(ack(user_id, 2))
    for seq in range(3):
        waiting.put(ack("free", seq))
    workers = [asyncio.create_task(waiting.run()) for _ in range(WORKERS)]
    await settle(handlers, 3)
    assert handlers.done == [("free", 0), ("free", 1), ("free", 2)]
    for event in handlers.held.values():
        event.set()
    await settle(handlers, 3 + 2 * len(held))
    for user_id in held:
        assert [seq for who, seq in handlers.done if who == user_id] == [1, 2]
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def test_a_user_with_many_frames_takes_turns_with_the_others() -> None:
    handlers = Handlers()
    waiting, _ = dispatching(handlers)
    for seq in range(3):
        waiting.put(ack("busy", seq))
    waiting.put(ack("quiet", 0))
    worker = asyncio.create_task(waiting.run())
    await settle(handlers, 4)
    assert handlers.done == [("busy", 0), ("quiet", 0), ("busy", 1), ("busy", 2)]
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def test_a_worker_that_was_stopped_leaves_the_rest_to_the_next() -> None:
    handlers = Handlers("anna")
    waiting, _ = dispatching(handlers)
    waiting.put(ack("anna", 1))
    waiting.put(ack("anna", 2))
    worker = asyncio.create_task(waiting.run())
    await asyncio.sleep(0)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    handlers.held["anna"].set()
    worker = asyncio.create_task(waiting.run())
    await settle(handlers, 1)
    assert handlers.done == [("anna", 2)]
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def test_too_many_are_refused_and_not_dropped_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_MAX_WAITING", 2)
    waiting, server = dispatching(Handlers())
    for seq in range(3):
        waiting.put(ack("anna", seq))
    assert [error["code"] for error in server.told] == ["overloaded"]
    assert waiting.refused == 1
