"""The web application in a process without sockets, as a program of its own may serve it."""

from collections.abc import Callable

import asyncpg
import httpx
import msgspec
import pytest

from jasaweb_rt import create_app
from jasaweb_rt.app_node import AppNode
from jasaweb_rt.config import Settings
from jasaweb_rt.domain.events import BroadcastMade
from jasaweb_rt.exceptions import ServerStoppedError
from jasaweb_rt.hooks import Hooks
from tests.support import tokens
from tests.support.people import SECRET, bearer, insert_people
from tests.support.sockets import until

WORD = {"audience": "clients", "type": "system_announcement", "title": "T", "message": "M"}


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(jwt_secret=SECRET, token_secret=tokens.SECRET, role="app", database_url=database_url)


async def test_its_own_requests_are_told_to_its_hooks(settings: Settings, connection: asyncpg.Connection) -> None:
    await insert_people(connection)
    hooks, told = Hooks(), list[BroadcastMade]()
    hooks.on(BroadcastMade)(lambda event: told.append(event))
    app = create_app(settings, hooks=hooks)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]  # stricter scopes of its own
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://rt.test") as http:
        answer = await http.post("/api/admin/websocket/broadcast", json=WORD, headers=bearer("admin"))
        assert answer.json() == {"durable": True, "count": 2}
        await until(lambda: told, "the hook")
        ready = await http.get("/readyz")
        assert ready.json() == {"success": True, "checks": {"database": "ok", "disk": "ok", "draining": False}}
    assert [event.count for event in told] == [2]


async def test_there_is_no_way_to_sockets_and_it_says_so(settings: Settings) -> None:
    node = AppNode(settings)
    calls: list[Callable[[], object]] = [
        lambda: node.realtime.broadcast_to_user("anna", "{}"),
        lambda: node.realtime.broadcast_to_all("{}"),
        lambda: node.disconnect("n-1", 4500),
    ]
    for call in calls:
        with pytest.raises(ServerStoppedError, match="set JASAWEB_RT_NATS_URL, for the gateways too"):
            call()


async def test_its_keys_are_replaced(settings: Settings) -> None:
    node = AppNode(settings)
    node.replace_keys(msgspec.structs.replace(settings.keys, token_secret="another key of the tests, as long"))
    assert node.keys.current.token_secret == "another key of the tests, as long"
