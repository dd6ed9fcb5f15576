"""Opening and closing: the guide's unit cases for socket and token, and the limits of one connection."""

import asyncio
import errno
import time
from collections.abc import Callable

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode

from jasaweb_rt._core import ConnectionInfo, FanoutServer, ServerStoppedError
from tests.core.conftest import StartServer
from tests.support.sockets import WAIT_SECONDS, closed, frame, opened, opened_many, socket_url, until
from tests.support.tokens import SECRET, connection_token


async def test_a_valid_token_is_welcomed(server: FanoutServer) -> None:
    async with connect(socket_url(server, f"?token={connection_token('user-1')}")) as socket:
        welcome = await frame(socket)
    assert welcome["type"] == "system_announcement"
    assert welcome["data"] == {
        "title": "Connected",
        "message": "Real-time updates are now active",
        "priority": "low",
    }
    assert set(welcome) == {"type", "data", "timestamp", "id"}


@pytest.mark.parametrize("carrier", ["token", "jwt", "header", "subprotocol"])
async def test_every_way_to_carry_a_token(server: FanoutServer, carrier: str) -> None:
    token = connection_token("user-1")
    match carrier:
        case "header":
            opening = connect(socket_url(server), additional_headers={"Authorization": f"Bearer {token}"})
        case "subprotocol":
            opening = connect(socket_url(server), subprotocols=["jasaweb.v1", f"bearer.{token}"])  # type: ignore[list-item]
        case name:
            opening = connect(socket_url(server, f"?{name}={token}"))
    async with opening as socket:
        assert (await frame(socket))["data"]["title"] == "Connected"
        assert socket.subprotocol == ("jasaweb.v1" if carrier == "subprotocol" else None)
        assert [info.user_id for info in server.connections()] == ["user-1"]


@pytest.mark.parametrize(
    "token", ["", "invalid", connection_token("user-1", secret="x" * 32), connection_token("user-1", exp=1)]
)
async def test_an_invalid_token_is_closed_with_1008(server: FanoutServer, token: str) -> None:
    async with connect(socket_url(server, f"?token={token}")) as socket:
        assert await closed(socket) == (1008, "Invalid authentication")
    assert server.stats().connections_opened == 0


async def test_a_plain_request_gets_426(server: FanoutServer) -> None:
    host, port = server.address
    async with httpx.AsyncClient(timeout=WAIT_SECONDS) as client:
        response = await client.get(f"http://{host}:{port}/ws")
        assert (response.status_code, response.json()) == (426, {"success": False, "error": "Upgrade required"})
        assert (await client.get(f"http://{host}:{port}/elsewhere")).status_code == 404


async def test_a_closed_connection_is_forgotten(server: FanoutServer) -> None:
    async with opened_many(server, ("user-1", "client"), count=2) as sockets:
        assert server.stats().connections == 2
        await sockets["user-1"][0].close()
        await until(lambda: len(server.connections()) == 1)
        assert server.broadcast_to_user("user-1", "{}") == 1
    await until(lambda: server.connections() == [])
    stats = server.stats()
    assert (stats.connections, stats.users, server.broadcast_to_user("user-1", "{}")) == (0, 0, 0)


async def test_what_is_known_of_a_connection(server: FanoutServer) -> None:
    async with opened(server, "user-1", "admin", user_agent_header="browser/1"):
        (info,) = server.connections()
    assert info.connection_id.startswith(f"{server.node_id}-")
    assert (info.user_id, info.role, info.name) == ("user-1", "admin", "User-1")
    assert (info.client_address, info.user_agent) == ("127.0.0.1", "browser/1")
    assert abs(info.connected_at - time.time()) < 60
    assert info.last_activity >= info.connected_at


async def test_an_administrator_closes_a_connection(server: FanoutServer) -> None:
    async with opened(server, "user-1") as socket:
        (info,) = server.connections()
        assert server.disconnect(info.connection_id)
        assert await closed(socket) == (4500, "Disconnected by an administrator")
    await until(lambda: not server.connections())
    assert not server.disconnect(info.connection_id)
    with pytest.raises(ValueError, match="code: 4242"):
        server.disconnect(info.connection_id, 4242)


async def test_the_idlest_connection_gives_way(start_server: StartServer) -> None:
    server = start_server(max_connections_per_user=2)
    async with opened(server, "user-1") as first, opened(server, "user-1") as second:
        older, newer = (info.connection_id for info in sorted(server.connections(), key=_number))
        while _activity(server, older) <= _activity(server, newer):
            await (await first.ping())
        async with opened(server, "user-1"):
            assert await closed(second) == (4004, "Replaced by a newer connection")
            assert server.broadcast_to_user("user-2", "{}") == 0
            await until(lambda: server.stats().connections == 2)


def _number(info: ConnectionInfo) -> int:
    return int(info.connection_id.rpartition("-")[2], 16)


def _activity(server: FanoutServer, connection_id: str) -> float:
    return next(info.last_activity for info in server.connections() if info.connection_id == connection_id)


async def test_a_session_ends_at_its_time(start_server: StartServer) -> None:
    server = start_server(ping_interval=0.0, pong_timeout=0.2)
    end = None
    for seconds in (1, 4, 16):
        token = connection_token("user-1", session_exp=int(time.time()) + seconds)
        async with connect(socket_url(server, f"?token={token}")) as socket:
            end = await closed(socket)
        # Unless it was over before the server had looked at the token.
        if end != (1008, "Invalid authentication"):
            break
    assert end == (4001, "Session expired")


async def test_pings_are_answered_and_a_silent_peer_is_closed(start_server: StartServer) -> None:
    # Patient with a client that shares its thread with this test.
    patient, strict = (start_server(ping_interval=0.1, pong_timeout=seconds) for seconds in (WAIT_SECONDS, 0.3))
    async with opened(patient, "lively"), opened(strict, "silent") as silent:
        # The client library answers pings when it reads them; this one stops to.
        silent.transport.pause_reading()
        await until(lambda: not strict.connections())
        (info,) = patient.connections()
        await until(lambda: patient.connections()[0].last_activity - info.last_activity > 0.3)
        silent.transport.resume_reading()
        assert await closed(silent) == (4003, "No pong")


async def test_binary_is_refused(server: FanoutServer) -> None:
    async with opened(server, "user-1") as socket:
        await socket.send(b"\x00")
        assert await closed(socket) == (1003, "Binary frames are not accepted")


async def test_invalid_utf8_is_refused(server: FanoutServer) -> None:
    async with opened(server, "user-1") as socket:
        socket.transport.write(Frame(Opcode.TEXT, b"\xff\xff").serialize(mask=True))
        assert (await closed(socket))[0] == 1007


async def test_a_message_beyond_the_limit_is_refused(start_server: StartServer) -> None:
    server = start_server(max_message_bytes=1000)
    async with opened(server, "user-1") as socket:
        await socket.send("x" * 1001)
        assert (await closed(socket))[0] == 1009


async def test_too_many_messages_are_refused(start_server: StartServer) -> None:
    server = start_server(message_rate=1, message_burst=5)
    received: list[tuple[str, str, str, bytes]] = []
    server.on_message(received.extend)
    async with opened(server, "user-1") as socket:
        # Some seconds may pass meanwhile.
        for number in range(50):
            await socket.send(str(number))
        assert await closed(socket) == (1008, "Rate limit exceeded")
    await until(lambda: len(received) >= 5)
    assert [entry[3] for entry in received][:5] == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_client_that_does_not_read_is_closed_and_nobody_else(start_server: StartServer) -> None:
    server = start_server(send_queue_bytes=65_536)
    payload = '"' + "x" * 60_000 + '"'
    async with (
        opened(server, "user-1", max_queue=1, compression=None) as slow,
        opened(server, "user-1", max_queue=None, compression=None) as quick,
    ):
        slow.transport.pause_reading()
        sent = 0
        while server.stats().slow_consumers == 0:
            sent += server.broadcast_to_user("user-1", payload) > 0
            assert len(await asyncio.wait_for(quick.recv(), 10)) == len(payload)
        slow.transport.resume_reading()
        assert await closed(slow) == (4002, "Slow consumer")
        await until(lambda: server.stats().connections == 1)
        assert sent > 1


async def test_the_twentieth_refused_frame_ends_the_connection(server: FanoutServer) -> None:
    async with opened(server, "user-1") as socket:
        (info,) = server.connections()
        for _ in range(19):
            assert server.refuse(info.connection_id, '{"type":"error"}')
            assert await frame(socket) == {"type": "error"}
        server.refuse(info.connection_id, '{"type":"error"}')
        assert await closed(socket) == (1008, "Rate limit exceeded")


async def test_frames_from_clients_come_in_batches_with_their_sender(server: FanoutServer) -> None:
    received: list[tuple[str, str, str, bytes]] = []
    server.on_message(received.extend)
    async with opened(server, "user-1", "admin") as socket:
        (info,) = server.connections()
        await socket.send("hello")
        await socket.send(["in ", "fragments"])
        await until(lambda: len(received) == 2)
    assert received == [
        (info.connection_id, "user-1", "admin", b"hello"),
        (info.connection_id, "user-1", "admin", b"in fragments"),
    ]
    with pytest.raises(RuntimeError, match="one callback"):
        server.on_message(received.extend)


async def test_a_callback_that_fails_is_reported_and_goes_on(
    server: FanoutServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: reported.append(report.exc_value))
    received: list[bytes] = []

    def callback(batch: list[tuple[str, str, str, bytes]]) -> None:
        received.extend(entry[3] for entry in batch)
        if received == [b"bad"]:
            raise KeyError("mine")

    server.on_message(callback)
    async with opened(server, "user-1") as socket:
        await socket.send("bad")
        await until(lambda: any(isinstance(error, KeyError) for error in reported))
        await socket.send("good")
        await until(lambda: received == [b"bad", b"good"])


async def test_a_stop_under_load_tells_everyone_when_to_come_back(start_server: StartServer) -> None:
    server = start_server()
    users = [(f"user-{number}", "client") for number in range(200)]
    received = 0

    async def end_of(socket: ClientConnection) -> tuple[int, str]:
        nonlocal received
        try:
            while True:
                await socket.recv()
                received += 1
        except websockets.ConnectionClosed as end:
            return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")

    async with opened_many(server, *users) as sockets:
        flooding = asyncio.create_task(asyncio.to_thread(_flood, server, lambda: received))
        ends = [asyncio.create_task(end_of(each[0])) for each in sockets.values()]
        await until(lambda: server.stats().deliveries > 20_000)
        await asyncio.to_thread(server.stop, 10)
        codes = await asyncio.gather(*ends)
        await flooding
    assert {code for code, _ in codes} == {1001}
    delays = {int(reason.removeprefix("Server shutting down; retry after ").removesuffix(" ms")) for _, reason in codes}
    assert len(delays) > 10


def _flood(server: FanoutServer, received: Callable[[], int]) -> None:
    """Sends to all until the server has stopped, no more ahead of them than they read in a moment."""
    try:
        while True:
            if (stats := server.stats()).connections == 0 or stats.deliveries - received() < 20_000:
                server.broadcast_to_all('{"type":"project_update"}')
            time.sleep(0.0005)
    except ServerStoppedError:
        pass


def test_bad_limits_are_refused_by_name() -> None:
    for limits, name in [
        ({"workers": 0}, "workers"),
        ({"send_queue_bytes": 1}, "send_queue_bytes"),
        ({"host": "nowhere"}, "host"),
        ({"trusted_proxies": ["10.0.0.0/99"]}, "trusted_proxies"),
        ({"pong_timeout": -1.0}, "pong_timeout"),
    ]:
        with pytest.raises(ValueError, match=name):
            FanoutServer(token_secret=SECRET, **limits)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="token_secret: must have at least 32 bytes"):
        FanoutServer(token_secret="short")


def test_a_taken_port_is_an_oserror(server: FanoutServer) -> None:
    with pytest.raises(OSError, match="cannot listen") as raised:
        FanoutServer(token_secret=SECRET, port=server.address[1]).start()
    assert raised.value.errno == errno.EADDRINUSE


def test_calls_outside_of_its_life_are_refused() -> None:
    server = FanoutServer(token_secret=SECRET)
    with pytest.raises(ServerStoppedError):
        server.broadcast_to_all("{}")
    server.start()
    with pytest.raises(RuntimeError, match="started already"):
        server.start()
    server.stop(1)
    server.stop(1)
    with pytest.raises(ServerStoppedError):
        server.broadcast_to_all("{}")


async def test_a_client_goes_on_at_its_own_pace_after_a_foreign_close(server: FanoutServer) -> None:
    async with opened(server, "user-1") as socket:
        await socket.close(1000, "bye")
    with pytest.raises(websockets.ConnectionClosed):
        await socket.send("late")
    await until(lambda: server.stats().connections_closed == 1)


async def test_without_a_bound_of_its_own_a_server_takes_what_fits_into_its_open_files(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (4, 4))
    server, unbounded = start_server(), start_server(max_connections=0)
    async with opened_many(server, ("anna", "client"), count=3), opened_many(unbounded, ("anna", "client"), count=4):
        with pytest.raises(websockets.InvalidStatus, match="503"):
            await connect(socket_url(server, f"?token={connection_token('anna')}"))
        assert server.stats().refusals.server_full == 1
