"""Whom one may write to, and writing."""

from typing import Any

import asyncpg
import pytest

from jasaweb_rt.database import notifications
from tests.integration.http.conftest import Client
from tests.support.people import bearer, session_token

WORDS = {"subject": "Logo", "content": "Make it <b>bigger</b>"}


async def stored(connection: asyncpg.Connection, user_id: str) -> list[tuple[str, str, str, Any]]:
    page = await notifications.inbox(connection, user_id)
    return [(item.type, item.title, item.message, item.data) for item in page.items]


async def count(connection: asyncpg.Connection) -> int:
    found: int = await connection.fetchval("select count(*) from public.real_time_notifications")
    return found


async def names(client: Client, who: str, query: str = "") -> tuple[list[str], int]:
    response = await client.get(f"/api/users{query}", headers=bearer(who))
    assert response.status_code == 200
    body = response.json()
    return [item["id"] for item in body["items"]], body["total"]


async def test_a_client_sees_the_administrators_without_their_address(client: Client) -> None:
    body = (await client.get("/api/users", headers=bearer("client"))).json()
    assert body == {
        "items": [
            {"id": "admin", "name": "Admin", "role": "admin"},
            {"id": "second-admin", "name": "Second-Admin", "role": "admin"},
        ],
        "total": 2,
    }


async def test_an_administrator_sees_everyone_else_with_their_address(client: Client) -> None:
    body = (await client.get("/api/users", headers=bearer("admin"))).json()
    assert [item["id"] for item in body["items"]] == ["client", "other", "second-admin"]
    assert body["items"][0] == {"id": "client", "name": "Client", "role": "client", "email": "client@jasaweb.test"}


async def test_contacts_are_searched_and_paged(client: Client) -> None:
    assert await names(client, "admin", "?search=OTHE") == (["other"], 1)
    assert await names(client, "admin", "?search=client@") == (["client"], 1)
    assert await names(client, "admin", "?search=%25") == ([], 0)
    assert await names(client, "client", "?search=second") == (["second-admin"], 1)
    assert await names(client, "client", "?search=other") == ([], 0)
    assert await names(client, "client", "?search=jasaweb") == ([], 0)  # an address says nothing to a client
    assert await names(client, "admin", "?limit=1&offset=1") == (["other"], 3)
    assert await names(client, "admin", "?offset=9") == ([], 3)


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "offset=-1", "search=%00", f"search={'x' * 201}"])
async def test_bounds_of_the_contacts_are_named(client: Client, query: str) -> None:
    response = await client.get(f"/api/users?{query}", headers=bearer("admin"))
    assert (response.status_code, response.json()["success"]) == (400, False)
    assert query.partition("=")[0] in response.json()["error"]


@pytest.mark.parametrize(
    ("sender", "recipient"), [("client", "admin"), ("admin", "other"), ("admin", "second-admin"), ("admin", "admin")]
)
async def test_a_message_arrives_as_the_frames_does(
    client: Client, connection: asyncpg.Connection, sender: str, recipient: str
) -> None:
    response = await client.post("/api/messages", json={"toUserId": recipient, **WORDS}, headers=bearer(sender))
    assert (response.status_code, response.json()) == (201, {"success": True})
    assert await stored(connection, recipient) == [
        (
            "user_message",
            WORDS["subject"],
            WORDS["content"],
            {"fromUserId": sender, "fromUserName": sender.title(), "toUserId": recipient, **WORDS},
        )
    ]
    assert await count(connection) == 1


@pytest.mark.parametrize(
    ("sender", "changed", "status", "words"),
    [
        ("client", {"toUserId": "other"}, 403, "administrators only"),
        ("client", {"toUserId": "client"}, 403, "administrators only"),
        ("client", {"toUserId": "nobody"}, 403, "administrators only"),
        ("admin", {"toUserId": "nobody"}, 404, "no such user"),
        ("client", {"toUserId": ""}, 400, "toUserId"),
        ("client", {"toUserId": "admin\0"}, 400, "toUserId"),
        ("client", {"subject": ""}, 400, "subject"),
        ("client", {"subject": "s" * 201}, 400, "subject"),
        ("client", {"content": ""}, 400, "content"),
        ("client", {"content": "\0"}, 400, "content"),
        ("client", {"content": "é" * 33_000}, 400, "65536"),
        ("client", {"content": 1}, 400, "content"),
        ("client", {"fromUserId": "admin"}, 400, "fromUserId"),
    ],
)
async def test_a_wrong_message_is_told_to_nobody(
    client: Client, connection: asyncpg.Connection, sender: str, changed: dict[str, Any], status: int, words: str
) -> None:
    body = {"toUserId": "admin", **WORDS} | changed
    response = await client.post("/api/messages", json=body, headers=bearer(sender))
    assert (response.status_code, response.json()["success"]) == (status, False)
    assert words in response.json()["error"]
    assert await count(connection) == 0


async def test_nobody_writes_and_nobody_is_listed(client: Client, connection: asyncpg.Connection) -> None:
    for response in (
        await client.get("/api/users"),
        await client.post("/api/messages", json={"toUserId": "admin", **WORDS}),
    ):
        assert (response.status_code, response.json()["error"]) == (401, "Authentication required")
    client.cookies.set("auth_token", session_token("client"))
    response = await client.post("/api/messages", json={"toUserId": "admin", **WORDS})
    assert response.status_code == 403
    assert "CSRF" in response.json()["error"]
    assert await count(connection) == 0


async def test_the_schema_declares_the_errors(client: Client) -> None:
    paths = (await client.get("/schema/openapi.json")).json()["paths"]
    assert {"400", "401", "403", "404", "409", "429"} <= set(paths["/api/messages"]["post"]["responses"])
    assert {"400", "401", "403", "429"} <= set(paths["/api/users"]["get"]["responses"])
