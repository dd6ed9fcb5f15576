"""Client frames on their way into the program, where it cannot keep up."""

from jasaweb_rt._core import ClientFrame, FanoutServer
from jasaweb_rt.dispatch import Dispatch
from tests.support.sockets import opened, until
from tests.support.tokens import SECRET


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
    dispatch = Dispatch(lambda: None, server, SECRET, None)  # type: ignore[arg-type, return-value]
    for _ in range(10_001):
        dispatch.put(found[0])
