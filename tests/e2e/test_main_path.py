"""From log-in to a frame, through the front door."""

import asyncio
import json
from typing import Any

import asyncpg
import httpx
from websockets.asyncio.client import connect

from tests.support.live_sockets import socket_of, sockets_of
from tests.support.people import PASSWORD, bearer
from tests.support.sockets import frame


async def log_in(http: httpx.AsyncClient, user_id: str) -> None:
    response = await http.post(
        "/api/auth/login",
        json={"email": f"{user_id}@jasaweb.test", "password": PASSWORD},
        headers={"Origin": str(http.base_url)},
    )
    assert response.status_code == 200


async def test_a_client_logs_in_and_sees_what_an_admin_changes(http: httpx.AsyncClient) -> None:
    await log_in(http, "client")
    issued = (await http.post("/api/websocket/token")).json()
    assert issued["connectionUrl"] == f"{str(http.base_url).replace('http', 'ws').rstrip('/')}/ws"
    async with (
        socket_of(http, "admin") as admin,
        connect(f"{issued['connectionUrl']}?token={issued['token']}") as socket,
    ):
        assert (await frame(socket))["type"] == "system_announcement"
        assert (await frame(socket))["type"] == "sync"
        changed = await http.patch("/api/projects/p-client", json={"status": "review"}, headers=bearer("admin"))
        assert changed.status_code == 200
        told = await frame(socket)
        assert (told["type"], told["seq"], told["unread"]) == ("project_update", 1, 1)
        assert told["data"] == {
            "title": "Project updated",
            "projectId": "p-client",
            "projectName": "School site",
            "oldStatus": "in_progress",
            "newStatus": "review",
            "message": 'Project "School site" status updated to review',
        }
        alert = await frame(admin)
        assert (alert["type"], alert["data"]["event"]) == ("admin_alert", "project_status_change")
        # By cookie: the CSRF header is needed, and the log-in page's GET has set the token.
        refused = await http.post("/api/notifications/read", json={"ids": [told["id"]]})
        assert (refused.status_code, refused.json()["success"]) == (403, False)
        await http.get("/api/projects")
        read = await http.post(
            "/api/notifications/read",
            json={"ids": [told["id"]]},
            headers={"x-csrftoken": http.cookies["csrftoken"]},
        )
        assert read.json()["unread"] == 0
        seen = await frame(socket)
        assert (seen["type"], seen["data"]["ids"], seen["data"]["unread"]) == ("read", [told["id"]], 0)
        assert seen["data"]["rev"] == read.json()["rev"]


async def test_a_foreign_insert_is_pushed_to_its_user_and_nobody_else(
    http: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    async with sockets_of(http, "client", "other") as (client, other):
        await connection.execute(
            "insert into public.real_time_notifications (id, user_id, type, title, message) values"
            " ('n-1', 'client', 'user_message', 'Hello', 'From SQL'),"
            " ('n-2', 'other', 'user_message', 'Other', 'Theirs')"
        )
        assert (await frame(client))["data"] == {"title": "Hello", "message": "From SQL"}
        assert (await frame(other))["data"] == {"title": "Other", "message": "Theirs"}


async def test_what_a_client_may_not_do(http: httpx.AsyncClient) -> None:
    assert (await http.post("/api/websocket/token")).json() == {"success": False, "error": "Authentication required"}
    refused = await http.patch("/api/projects/p-client", json={"status": "review"}, headers=bearer("client"))
    assert (refused.status_code, refused.json()["success"]) == (403, False)
    response = await http.get("/ws")
    assert (response.status_code, response.json()) == (426, {"success": False, "error": "Upgrade required"})


async def test_a_session_opens_no_socket(http: httpx.AsyncClient) -> None:
    url = str(http.base_url).replace("http", "ws").rstrip("/") + "/ws"
    for token in ("nonsense", bearer("client")["Authorization"].removeprefix("Bearer ")):
        async with connect(f"{url}?token={token}") as socket:
            await socket.wait_closed()
            assert (socket.close_code, socket.close_reason) == (1008, "Invalid authentication")


async def test_forged_forwarding_headers_are_not_believed(http: httpx.AsyncClient) -> None:
    forged = {"X-Forwarded-Host": "evil.test", "X-Forwarded-Proto": "https", "X-Forwarded-For": "127.0.0.1"}
    issued = (await http.post("/api/websocket/token", headers={**bearer("client"), **forged})).json()
    assert issued["connectionUrl"] == f"{str(http.base_url).replace('http', 'ws').rstrip('/')}/ws"


async def test_readiness_tells_details_to_the_metrics_networks_only(http: httpx.AsyncClient) -> None:
    async def ready(**headers: str) -> tuple[int, Any]:
        response = await http.get("/readyz", headers=headers)
        return response.status_code, response.json()

    async def becomes(answer: dict[str, Any], **headers: str) -> None:
        # A database that takes too long to answer is none for the moment.
        async with asyncio.timeout(20):
            while await ready(**headers) != (200, answer):
                await asyncio.sleep(0.02)

    checks = {"database": "ok", "relay": "ok", "listener": "ok", "disk": "ok", "draining": False}
    await becomes({"success": True, "checks": checks})
    await becomes({"success": True}, **{"X-Forwarded-For": "127.0.0.1"})
    assert (await http.get("/healthz")).json() == {"success": True}


async def test_bodies_stream_through_and_errors_keep_their_shape(http: httpx.AsyncClient) -> None:
    body = json.dumps({"ids": ["x" * 1_100_000]})
    response = await http.post(
        "/api/notifications/read", content=body, headers={**bearer("client"), "Content-Type": "application/json"}
    )
    assert (response.status_code, list(response.json())) == (413, ["success", "error"])
    response = await http.get("/none")
    assert (response.status_code, response.json()) == (404, {"success": False, "error": "Not found"})
    assert "server" not in response.headers
    response = await http.head("/healthz")
    assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "16")
