"""Client frames on their way into the program, where it cannot keep up."""

from jasaweb_rt._core import ClientFrame, FanoutServer
from jasaweb_rt.dispatch import Dispatch
from jasaweb_rt.messages import ClientMessage
from tests.support.sockets import opened, until


class Untouched:
    """Handlers that no frame comes to."""

    async def carry_out(self, frame: ClientFrame, message: ClientMessage, ref: str | None) -> None:
        raise AssertionError(frame)


async def test_frames_that_nobody_can_be_told_about_stop_no_others(server: FanoutServer) -> None:
    server.fileno()
    found: list[ClientFrame] = []

    def look() -> bool:
        found.extend(event for event in server.drain_events() if isinstance(event, ClientFrame))
        return bool(found)

    async with opened(server, "user-1") as socket:
        await socket.send("{}")
        await until(look)
    server.stop(0)
    # No database is asked: the frames only wait, and the one too many is refused to a connection that has gone.
    dispatch = Dispatch(server, Untouched(), lambda _: None)
    for _ in range(10_001):
        dispatch.put(found[0])
