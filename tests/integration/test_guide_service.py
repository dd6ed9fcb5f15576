"""The implementation guide's `WebSocketService` (step 2), method by method, over real sockets and a real database.

Who may send which frame, and what it does, is shown in full by test_client_frames.py.
"""

import uuid
from datetime import datetime

import pytest
from websockets.asyncio.client import ClientConnection, connect

from jasaweb_rt.gateway import Gateway
from jasaweb_rt.messages import AdminAlert, Envelope, SystemAnnouncement, now_timestamp, uuid7
from tests.support.sockets import closed, frame, frames, opened_many, socket_url, until
from tests.support.tokens import SECRET, connection_token

PEOPLE = [("anna", "client"), ("budi", "client"), ("citra", "admin")]


def message(text: str) -> Envelope:
    """A `WebSocketMessage` of the guide: all four fields are the caller's."""
    data = {"title": "Hello", "message": text, "priority": "low"}
    return Envelope(type="system_announcement", data=data, timestamp=now_timestamp(), id=uuid7())


async def texts(socket: ClientConnection, count: int) -> list[str]:
    """The texts of the next `count` frames."""
    return [item["data"]["message"] for item in await frames(socket, count)]


@pytest.mark.parametrize("parameter", ["token", "jwt"])
async def test_handle_connection(gateway: Gateway, parameter: str) -> None:
    """Step 2, `handleConnection`: a token by either name; an id of its own; the welcome before anything else."""
    url = socket_url(gateway.server, f"?{parameter}={connection_token('anna')}")
    async with connect(url) as first, connect(url) as second:
        for socket in (first, second):
            welcome = await frame(socket)
            assert list(welcome) == ["type", "data", "timestamp", "id"]
            assert welcome["type"] == "system_announcement"
            assert welcome["data"] == {
                "title": "Connected",
                "message": "Real-time updates are now active",
                "priority": "low",
            }
            assert uuid.UUID(welcome["id"])
            assert datetime.fromisoformat(welcome["timestamp"]).tzinfo is not None
        connections = gateway.server.connections()
        assert [connection.user_id for connection in connections] == ["anna", "anna"]
        assert len({connection.connection_id for connection in connections}) == 2


@pytest.mark.parametrize(
    "token", [None, "", "invalid", connection_token("anna", secret=SECRET[::-1]), connection_token("anna", exp=1)]
)
async def test_validate_token(gateway: Gateway, token: str | None) -> None:
    """Step 2, `validateToken`: `ws.close(1008, 'Invalid authentication')`, and nothing is kept of it."""
    async with connect(socket_url(gateway.server, "" if token is None else f"?token={token}")) as socket:
        assert await closed(socket) == (1008, "Invalid authentication")
    assert gateway.server.connections() == []


async def test_send_message(gateway: Gateway) -> None:
    """Step 2, `sendMessage`: to this connection alone; to one that is not open it is nothing, and no error."""
    async with opened_many(gateway.server, ("anna", "client"), count=2) as sockets:
        first, second = sockets["anna"]
        await frame(first), await frame(second)
        ids = [connection.connection_id for connection in gateway.server.connections()]
        sent = message("to one")
        assert [gateway.server.send(connection_id, sent) for connection_id in ids] == [1, 1]
        for socket in (first, second):
            assert await frame(socket) == {
                "type": sent.type,
                "data": sent.data,
                "timestamp": sent.timestamp,
                "id": sent.id,
            }
        await first.close()
        await until(lambda: gateway.server.stats().connections == 1)
        assert sorted(gateway.server.send(connection_id, message("again")) for connection_id in ids) == [0, 1]
        assert await texts(second, 1) == ["again"]


async def test_broadcast_to_user(gateway: Gateway) -> None:
    """Step 2, `broadcastToUser`: all of a user's connections and nobody else's; an absent user is no error."""
    async with opened_many(gateway.server, *PEOPLE, count=3) as sockets:
        for own in sockets.values():
            for socket in own:
                await frame(socket)
        assert gateway.realtime.broadcast_to_user("anna", message("to anna")) == 3
        assert gateway.realtime.broadcast_to_user("nobody", message("to nobody")) == 0
        assert gateway.realtime.broadcast_to_all(message("to all")) == 9
        for name, own in sockets.items():
            for socket in own:
                expected = ["to anna", "to all"] if name == "anna" else ["to all"]
                assert await texts(socket, len(expected)) == expected


async def test_broadcast_to_admins(gateway: Gateway) -> None:
    """Step 2, `broadcastToAdmins`, which the guide leaves to the reader: the administrators, as the database has it."""
    # budi's token calls him an administrator, and `users` does not.
    people = [("anna", "client"), ("budi", "admin"), ("citra", "admin")]
    async with opened_many(gateway.server, *people) as sockets:
        for own in sockets.values():
            for socket in own:
                await frame(socket)
        alert = AdminAlert(event="disk_full", message="One percent is left", requires_action=True)
        assert gateway.realtime.broadcast_to_admins(alert) == 1
        gateway.realtime.broadcast_to_all(SystemAnnouncement(title="Last", message="last"))
        received = await frame(sockets["citra"][0])
        assert received["type"] == "admin_alert"
        assert received["data"] == {"event": "disk_full", "message": "One percent is left", "requiresAction": True}
        for own in sockets.values():
            for socket in own:
                assert await texts(socket, 1) == ["last"]


async def test_handle_message(gateway: Gateway) -> None:
    """Step 2, `handleMessage`: an administrator's announcement goes to the administrators; a client's is refused.

    Where the guide logs a malformed, unknown or forbidden message and says nothing, its sender is told.
    """
    announcement = '{"type": "system_announcement", "data": {"title": "Tonight", "message": "at ten"}, "id": "r-1"}'
    async with opened_many(gateway.server, *PEOPLE) as sockets:
        [anna], [budi], [citra] = sockets.values()
        for socket in (anna, budi, citra):
            await frame(socket)
        await citra.send(announcement)
        assert (await frame(citra))["data"]["title"] == "Tonight"
        for sent, code in [
            (announcement, "forbidden"),
            ("{", "invalid_frame"),
            ('{"type": "system_announcement"}', "invalid_frame"),
            ('{"type": "unhandled", "data": {}}', "unknown_type"),
        ]:
            await anna.send(sent)
            error = await frame(anna)
            assert (error["type"], error["data"]["code"]) == ("error", code)
        gateway.realtime.broadcast_to_all(message("last"))
        for socket in (anna, budi, citra):
            assert await texts(socket, 1) == ["last"]


async def test_handle_disconnect(gateway: Gateway) -> None:
    """Step 2, `handleDisconnect`: the connection is forgotten, and with a user's last one the user."""
    async with opened_many(gateway.server, ("anna", "client"), count=2) as sockets:
        first, second = sockets["anna"]
        await first.close()
        await until(lambda: gateway.server.stats().connections == 1)
        assert gateway.realtime.broadcast_to_user("anna", message("who is there")) == 1
        await second.close()
        await until(lambda: gateway.server.stats().connections == 0)
        assert gateway.realtime.broadcast_to_user("anna", message("who is there")) == 0
    assert (gateway.server.connections(), gateway.server.stats().users) == ([], 0)
