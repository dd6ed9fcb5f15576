"""The administrator's routes, on a gateway with real sockets."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from websockets.asyncio.client import ClientConnection

from jasaweb_rt.gateway import Gateway
from tests.integration.http.conftest import Client
from tests.support.people import bearer, session_token
from tests.support.sockets import closed, frame, opened, until

ADMIN = bearer("admin")
STATUS = "/api/admin/websocket/status"
CONNECTIONS = "/api/admin/websocket/connections"
BROADCAST = "/api/admin/websocket/broadcast"
WORD = {"type": "system_announcement", "title": "Maintenance", "message": "Tonight at ten"}


@pytest.fixture
async def sockets(gateway: Gateway) -> AsyncIterator[dict[str, ClientConnection]]:
    """One socket each of an administrator and two clients, opened in this order."""
    async with AsyncExitStack() as stack:
        found = {}
        for user_id, role in [("admin", "admin"), ("client", "client"), ("other", "client")]:
            found[user_id] = await stack.enter_async_context(opened(gateway.server, user_id, role))
            assert (await frame(found[user_id]))["type"] == "sync"
        yield found


async def nothing_waits(gateway: Gateway, sockets: dict[str, ClientConnection]) -> None:
    gateway.server.broadcast_to_all('{"type": "mark"}')
    for socket in sockets.values():
        assert await frame(socket) == {"type": "mark"}


async def rows(connection: asyncpg.Connection) -> list[str]:
    found = await connection.fetch("select user_id from public.real_time_notifications order by user_id")
    return [row["user_id"] for row in found]


async def test_the_status_counts(client: Client, gateway: Gateway, sockets: dict[str, ClientConnection]) -> None:
    gateway.server.broadcast_to_all('{"type": "mark"}')
    for socket in sockets.values():
        await frame(socket)
    response = await client.get(STATUS, headers=ADMIN)
    assert response.status_code == 200
    body = response.json()
    assert (body["connections"], body["users"], body["connectionsOpened"]) == (3, 3, 3)
    assert (body["nodeId"], body["draining"]) == (gateway.server.node_id, False)
    assert body["deliveries"] >= 3
    assert [body[name] for name in ("framesDropped", "sendsRefused", "eventsDropped", "slowConsumers")] == [0] * 4
    assert body["backlogHighWaterBytes"] > 0
    assert body["rates"]["connectionsOpened"] > 0
    assert set(body["rates"]) < set(body)


async def test_the_connections_are_listed_filtered_and_paged(
    client: Client, sockets: dict[str, ClientConnection]
) -> None:
    body = (await client.get(CONNECTIONS, headers=ADMIN)).json()
    assert body["total"] == 3
    assert [item["userId"] for item in body["items"]] == ["admin", "client", "other"]
    item = body["items"][1]
    assert (item["role"], item["name"], item["clientAddress"]) == ("client", "Client", "127.0.0.1")
    assert (item["lastSeq"], item["queuedBytes"]) == (0, 0)
    assert item["userAgent"].startswith("Python/")
    for moment in (item["connectedAt"], item["lastActivity"]):
        assert abs(datetime.fromisoformat(moment) - datetime.now(UTC)) < timedelta(minutes=1)
    for query, users in [
        ("userId=other", ["other"]),
        ("userId=nobody", []),
        ("role=client", ["client", "other"]),
        ("role=admin&userId=other", []),
        ("search=OTH", ["other"]),
        ("search=127.0.0&role=admin", ["admin"]),
    ]:
        body = (await client.get(f"{CONNECTIONS}?{query}", headers=ADMIN)).json()
        assert ([item["userId"] for item in body["items"]], body["total"]) == (users, len(users))
    body = (await client.get(f"{CONNECTIONS}?limit=1&offset=1", headers=ADMIN)).json()
    assert ([item["userId"] for item in body["items"]], body["total"]) == (["client"], 3)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "offset=-1", "role=king", f"search={'x' * 201}", "search=%00", "userid=client"]
)
async def test_bounds_of_the_list_are_named(client: Client, gateway: Gateway, query: str) -> None:
    response = await client.get(f"{CONNECTIONS}?{query}", headers=ADMIN)
    assert (response.status_code, response.json()["success"]) == (400, False)
    assert query.partition("=")[0] in response.json()["error"]


async def test_a_connection_is_closed_for_good(
    client: Client, gateway: Gateway, sockets: dict[str, ClientConnection]
) -> None:
    found = (await client.get(f"{CONNECTIONS}?userId=client", headers=ADMIN)).json()["items"][0]["connectionId"]
    response = await client.delete(f"{CONNECTIONS}/{found}", headers=ADMIN)
    assert (response.status_code, response.content) == (204, b"")
    assert await closed(sockets.pop("client")) == (4500, "Disconnected by an administrator")
    await nothing_waits(gateway, sockets)
    # Its socket is closed a moment before the server forgets it.
    await until(lambda: gateway.server.stats().connections == 2)
    again = await client.delete(f"{CONNECTIONS}/{found}", headers=ADMIN)
    assert (again.status_code, again.json()["error"]) == (404, "There is no such connection")


@pytest.mark.parametrize("name", ["none", "a-b", "%00", "x" * 200, "é"])
async def test_an_unknown_connection_is_a_404(client: Client, gateway: Gateway, name: str) -> None:
    assert (await client.delete(f"{CONNECTIONS}/{name}", headers=ADMIN)).status_code == 404


AUDIENCES: list[tuple[Any, list[str]]] = [
    ("all", ["admin", "client", "other", "second-admin"]),
    ("admins", ["admin", "second-admin"]),
    ("clients", ["client", "other"]),
    ({"users": ["other", "second-admin", "other"]}, ["other", "second-admin"]),
]


@pytest.mark.parametrize(("audience", "reached"), AUDIENCES)
async def test_a_durable_broadcast_is_stored_for_its_audience(
    client: Client,
    connection: asyncpg.Connection,
    gateway: Gateway,
    sockets: dict[str, ClientConnection],
    audience: Any,
    reached: list[str],
) -> None:
    body = {"audience": audience, **WORD, "data": {"priority": "high"}}
    response = await client.post(BROADCAST, json=body, headers=ADMIN)
    assert response.status_code == 200
    assert response.json() == {"durable": True, "count": len(reached)}
    assert await rows(connection) == reached
    for name in set(reached) & set(sockets):
        pushed = await frame(sockets[name])
        assert (pushed["type"], pushed["seq"]) == ("system_announcement", 1)
        assert pushed["data"] == {"title": "Maintenance", "message": "Tonight at ten", "priority": "high"}
    await nothing_waits(gateway, sockets)


@pytest.mark.parametrize(("audience", "reached"), AUDIENCES)
async def test_a_direct_broadcast_reaches_who_is_connected(
    client: Client,
    connection: asyncpg.Connection,
    gateway: Gateway,
    sockets: dict[str, ClientConnection],
    audience: Any,
    reached: list[str],
) -> None:
    here = set(reached) & set(sockets)
    response = await client.post(BROADCAST, json={"audience": audience, **WORD, "durable": False}, headers=ADMIN)
    assert (response.status_code, response.json()) == (200, {"durable": False, "count": len(here)})
    for name in here:
        sent = await frame(sockets[name])
        assert list(sent) == ["type", "data", "timestamp", "id"]
        assert sent["data"] == {"title": "Maintenance", "message": "Tonight at ten"}
    await nothing_waits(gateway, sockets)
    assert await rows(connection) == []


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"audience": "nobody"}, 400, "audience"),
        ({"audience": {"users": []}}, 400, "audience"),
        ({"audience": {"users": ["client"], "more": 1}}, 400, "audience"),
        ({"audience": {"users": ["client", "nobody"]}}, 404, "does not exist"),
        ({"type": "sync"}, 400, "type"),
        ({"title": ""}, 400, "title"),
        ({"title": "t" * 201}, 400, "title"),
        ({"message": "m\0"}, 400, "message"),
        ({"message": "m" * 70_000}, 400, "65536"),
        ({"data": []}, 400, "data"),
        ({"data": {"a": "\0"}}, 400, "NUL"),
        ({"more": 1}, 400, "more"),
        ({"durable": "yes"}, 400, "durable"),
        ({"durable": "true"}, 400, "durable"),
        ({"durable": 0}, 400, "durable"),
    ],
)
async def test_a_wrong_broadcast_is_told_to_nobody(
    client: Client, connection: asyncpg.Connection, changed: dict[str, Any], status: int, words: str
) -> None:
    response = await client.post(BROADCAST, json={"audience": "all", **WORD} | changed, headers=ADMIN)
    assert (response.status_code, response.json()["success"]) == (status, False)
    assert words in response.json()["error"]
    assert await rows(connection) == []


@pytest.mark.parametrize("depth", [99, 100, 5000])
@pytest.mark.parametrize("durable", ["true", "false"])
async def test_data_may_be_nested_only_so_deep(client: Client, gateway: Gateway, depth: int, durable: str) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    content = f'{{"audience":"all","type":"user_message","title":"t","message":"m","durable":{durable},"data":{deep}}}'
    headers = {**ADMIN, "Content-Type": "application/json"}
    response = await client.post(BROADCAST, content=content, headers=headers)
    # The body's own object is a level, too.
    assert response.status_code == (200 if depth < 100 else 400)
    assert depth < 100 or response.json()["error"].startswith("`data.a` is nested too deep")


ROUTES = [
    ("GET", STATUS, None),
    ("GET", CONNECTIONS, None),
    ("DELETE", f"{CONNECTIONS}/none", None),
    ("POST", BROADCAST, {"audience": "all", **WORD}),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_only_administrators_may(
    client: Client, connection: asyncpg.Connection, method: str, path: str, body: Any
) -> None:
    response = await client.request(method, path, json=body)
    assert (response.status_code, response.json()["error"]) == (401, "Authentication required")
    claims_admin = {"Authorization": f"Bearer {session_token('client', role='admin')}"}
    response = await client.request(method, path, json=body, headers=claims_admin)
    assert (response.status_code, response.json()["success"]) == (403, False)
    assert await rows(connection) == []


async def test_changes_by_cookie_need_the_csrf_header(client: Client, connection: asyncpg.Connection) -> None:
    client.cookies.set("auth_token", session_token("admin"))
    for method, path, body in ROUTES[2:]:
        response = await client.request(method, path, json=body)
        assert response.status_code == 403
        assert "CSRF" in response.json()["error"]
    assert await rows(connection) == []


async def test_without_a_running_gateway_they_say_so(client: Client) -> None:
    for method, path, body in ROUTES[:3]:
        response = await client.request(method, path, json=body, headers=ADMIN)
        assert (response.status_code, response.json()["success"]) == (503, False)


async def test_the_schema_declares_the_errors(client: Client) -> None:
    paths = (await client.get("/schema/openapi.json")).json()["paths"]
    for method, path, _ in ROUTES:
        responses = paths[path.replace("/none", "/{connection_id}")][method.lower()]["responses"]
        assert {"401", "403", "429"} <= set(responses)
