"""`Realtime` in a process that has no server: it stores as any does, and says what it cannot do."""

from collections.abc import Callable

import asyncpg
import pytest

from jasaweb_rt import Realtime
from jasaweb_rt.exceptions import ServerStoppedError
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.realtime import NewNotification
from tests.support.sockets import frame, opened


async def test_without_a_server_it_stores_and_the_server_of_another_pushes(
    gateway: Gateway, connection: asyncpg.Connection
) -> None:
    realtime = Realtime()
    async with opened(gateway.server, "anna") as anna, opened(gateway.server, "citra", "admin") as citra:
        assert [(await frame(socket))["type"] for socket in (anna, citra)] == ["sync"] * 2
        async with connection.transaction():
            one = await realtime.notify("anna", "admin_alert", title="1", message="m", connection=connection)
            many = [NewNotification(user_id="anna", type="admin_alert", title="2", message="m")]
            two = await realtime.notify_many(many, connection)
            three = await realtime.notify_role("admin", "admin_alert", title="3", message="m", connection=connection)
            four = await realtime.notify_users(["anna"], "admin_alert", title="4", message="m", connection=connection)
        assert [(await frame(anna))["id"] for _ in range(3)] == [one, *two, *four]
        assert [(await frame(citra))["id"]] == three


@pytest.mark.parametrize(
    "send",
    [
        lambda realtime: realtime.broadcast_to_user("anna", "{}"),
        lambda realtime: realtime.broadcast_to_users(["anna"], "{}"),
        lambda realtime: realtime.broadcast_many([("anna", "{}")]),
        lambda realtime: realtime.broadcast_to_admins("{}"),
        lambda realtime: realtime.broadcast_to_clients("{}"),
        lambda realtime: realtime.broadcast_to_all("{}"),
    ],
)
async def test_direct_sends_need_the_process_of_the_server(send: Callable[[Realtime], int]) -> None:
    with pytest.raises(ServerStoppedError, match=r"a cluster, by Realtime\.connect; notify works without one"):
        send(Realtime())


async def test_a_server_can_be_attached_later(gateway: Gateway) -> None:
    realtime = Realtime()
    async with opened(gateway.server, "anna") as anna:
        assert (await frame(anna))["type"] == "sync"
        realtime.attach(gateway.server)
        assert realtime.broadcast_to_user("anna", '{"type": "progress"}') == 1
        assert await frame(anna) == {"type": "progress"}
        realtime.attach(None)
        with pytest.raises(ServerStoppedError):
            realtime.broadcast_to_user("anna", "{}")
