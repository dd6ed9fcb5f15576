"""Who gets which frame."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jasaweb_rt._core import FanoutServer
from tests.core.conftest import StartServer
from tests.support.sockets import frame, frames, opened_many
from tests.support.tokens import SECRET

USERS = [("anna", "client"), ("budi", "client"), ("citra", "admin"), ("dewi", "client")]


def message(**fields: object) -> str:
    return json.dumps(fields)


async def test_a_users_connections_get_it_and_nobody_else(server: FanoutServer) -> None:
    async with opened_many(server, *USERS, count=5) as sockets:
        assert server.broadcast_to_user("anna", message(to="anna")) == 5
        assert server.broadcast_to_user("budi", message(to="budi").encode()) == 5
        assert server.broadcast_to_all(message(to="all")) == 20
        for user_id, own in sockets.items():
            for socket in own:
                expected = [user_id, "all"] if user_id in {"anna", "budi"} else ["all"]
                assert [(await frame(socket))["to"] for _ in expected] == expected


async def test_audiences(server: FanoutServer) -> None:
    async with opened_many(server, *USERS) as sockets:
        assert server.broadcast_to_admins(message(to="admins")) == 1
        assert server.broadcast_to_clients(message(to="clients")) == 3
        assert server.broadcast_to_users(["anna", "citra", "nobody"], message(to="two")) == 2
        assert server.broadcast_many([("anna", message(n=1)), ("budi", message(n=2)), ("anna", message(n=3))]) == 3
        (citra,) = [info for info in server.connections() if info.user_id == "citra"]
        assert server.send(citra.connection_id, message(to="one")) == 1
        assert server.send(f"{server.node_id}-ffff00", message(to="none")) == 0
        assert server.send("nonsense", message(to="none")) == 0
        assert server.broadcast_to_all(message(end=True)) == 4
        assert await frames(sockets["anna"][0], 5) == [
            {"to": "clients"}, {"to": "two"}, {"n": 1}, {"n": 3}, {"end": True},
        ]  # fmt: skip
        assert await frames(sockets["budi"][0], 3) == [{"to": "clients"}, {"n": 2}, {"end": True}]
        assert await frames(sockets["citra"][0], 4) == [{"to": "admins"}, {"to": "two"}, {"to": "one"}, {"end": True}]
        assert await frames(sockets["dewi"][0], 2) == [{"to": "clients"}, {"end": True}]


async def test_an_absent_user_costs_nothing(server: FanoutServer) -> None:
    assert server.broadcast_to_user("nobody", "{}") == 0
    assert server.stats().deliveries == 0


def test_a_frame_must_be_text() -> None:
    server = FanoutServer(token_secret=SECRET)
    server.start()
    try:
        with pytest.raises(ValueError, match="UTF-8"):
            server.broadcast_to_all(b"\xff")
    finally:
        server.stop(0)


async def test_sizes_around_every_form_of_the_length(server: FanoutServer) -> None:
    async with opened_many(server, ("anna", "client")) as sockets:
        for size in (0, 1, 123, 124, 65_533, 65_534, 1_000_000):
            server.broadcast_to_user("anna", f'"{"x" * size}"')
            assert await asyncio.wait_for(sockets["anna"][0].recv(), 10) == f'"{"x" * size}"'


async def test_a_burst_keeps_its_order_and_loses_nothing(server: FanoutServer) -> None:
    async with opened_many(server, ("anna", "client"), count=3) as sockets:
        for number in range(3000):
            server.broadcast_to_user("anna", str(number))
        for socket in sockets["anna"]:
            received = [await asyncio.wait_for(socket.recv(), 10) for _ in range(3000)]
            assert received == [str(number) for number in range(3000)]
    stats = server.stats()
    assert stats.deliveries >= 9000
    assert stats.writes < stats.deliveries


SENDS = st.lists(
    st.one_of(
        st.tuples(st.just("user"), st.sampled_from(["anna", "budi", "citra", "dewi", "nobody"])),
        st.tuples(st.just("users"), st.lists(st.sampled_from(["anna", "budi", "citra"]), unique=True, max_size=3)),
        st.tuples(st.just("role"), st.sampled_from(["admin", "client"])),
        st.tuples(st.just("all"), st.none()),
    ),
    max_size=40,
)


@pytest.mark.parametrize("workers", [1, 2, 5])
async def test_random_audiences_get_exactly_their_frames_in_order(start_server: StartServer, workers: int) -> None:
    """Against the naive model: for each send, the list of users that it is for."""
    server = start_server(workers=workers)
    roles = dict(USERS)
    loop = asyncio.get_running_loop()
    async with opened_many(server, *USERS, count=2) as sockets:

        @settings(
            max_examples=40,
            deadline=None,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        )
        @given(sends=SENDS)
        def check(sends: list[tuple[str, object]]) -> None:
            expected: dict[str, list[int]] = {user_id: [] for user_id in roles}
            for number, (kind, audience) in enumerate(sends):
                body = message(n=number)
                match kind, audience:
                    case "user", str(user_id):
                        meant, queued = [user_id], server.broadcast_to_user(user_id, body)
                    case "users", list(user_ids):
                        meant, queued = user_ids, server.broadcast_to_users(user_ids, body)
                    case "role", str(role):
                        send = server.broadcast_to_admins if role == "admin" else server.broadcast_to_clients
                        meant, queued = [user_id for user_id in roles if roles[user_id] == role], send(body)
                    case _:
                        meant, queued = list(roles), server.broadcast_to_all(body)
                present = [user_id for user_id in meant if user_id in roles]
                assert queued == 2 * len(present)
                for user_id in present:
                    expected[user_id].append(number)
            server.broadcast_to_all(message(end=True))
            for user_id, own in sockets.items():
                for socket in own:
                    reading = frames(socket, len(expected[user_id]) + 1)
                    received = asyncio.run_coroutine_threadsafe(reading, loop).result(20)
                    assert received == [*({"n": number} for number in expected[user_id]), {"end": True}]

        await asyncio.to_thread(check)
