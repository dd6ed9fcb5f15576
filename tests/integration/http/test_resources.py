"""Projects, invoices, notifications."""

import asyncio
from typing import Any

import asyncpg
import pytest

from jasaweb_rt.database import notifications
from jasaweb_rt.database.notifications import NewNotification
from tests.integration.http.conftest import Client
from tests.support.people import bearer


async def stored(connection: asyncpg.Connection, user_id: str) -> list[tuple[str, str, Any]]:
    page = await notifications.inbox(connection, user_id)
    return [(item.type, item.message, item.data) for item in page.items]


async def test_lists_show_each_their_own_and_an_admin_all(client: Client) -> None:
    for who, projects in [("client", ["p-client"]), ("other", ["p-other"]), ("admin", ["p-client", "p-other"])]:
        body = (await client.get("/api/projects", headers=bearer(who))).json()
        assert sorted(item["id"] for item in body["items"]) == projects
        assert body["total"] == len(projects)
        body = (await client.get("/api/invoices", headers=bearer(who))).json()
        assert sorted(item["projectId"] for item in body["items"]) == projects
        assert body["total"] == len(projects)


async def test_a_project_and_an_invoice_as_they_go_out(client: Client) -> None:
    project = (await client.get("/api/projects", headers=bearer("client"))).json()["items"][0]
    assert project.pop("createdAt").endswith("Z")
    assert project.pop("updatedAt").endswith("Z")
    assert project == {
        "id": "p-client",
        "userId": "client",
        "name": "School site",
        "type": "sekolah",
        "status": "in_progress",
        "url": "https://school.example",
    }
    invoice = (await client.get("/api/invoices", headers=bearer("client"))).json()["items"][0]
    assert invoice.pop("createdAt").endswith("Z")
    assert invoice == {
        "id": "i-client",
        "projectId": "p-client",
        "projectName": "School site",
        "amount": 1500000.5,
        "status": "unpaid",
        "paidAt": None,
    }


async def test_an_administrator_sees_whose_project_it_is(client: Client, connection: asyncpg.Connection) -> None:
    owner = await connection.fetchval("select name from public.users where id = 'client'")
    response = await client.get("/api/projects", headers=bearer("admin"))
    names = {item["id"]: item["ownerName"] for item in response.json()["items"]}
    assert names["p-client"] == owner
    response = await client.patch("/api/projects/p-client", json={"status": "review"}, headers=bearer("admin"))
    assert response.json()["ownerName"] == owner


async def test_a_status_change_tells_the_owner_and_the_admins(client: Client, connection: asyncpg.Connection) -> None:
    response = await client.patch("/api/projects/p-client", json={"status": "review"}, headers=bearer("admin"))
    assert response.status_code == 200
    assert (response.json()["id"], response.json()["status"]) == ("p-client", "review")
    assert await stored(connection, "client") == [
        (
            "project_update",
            'Project "School site" status updated to review',
            {
                "projectId": "p-client",
                "projectName": "School site",
                "oldStatus": "in_progress",
                "newStatus": "review",
                "message": 'Project "School site" status updated to review',
            },
        )
    ]
    alert = (
        "admin_alert",
        'Project "School site" status changed to review by Admin',
        {
            "event": "project_status_change",
            "message": 'Project "School site" status changed to review by Admin',
            "projectId": "p-client",
            "requiresAction": False,
        },
    )
    assert await stored(connection, "admin") == [alert]
    assert await stored(connection, "second-admin") == [alert]
    assert await stored(connection, "other") == []


async def test_the_same_status_tells_nobody(client: Client, connection: asyncpg.Connection) -> None:
    response = await client.patch("/api/projects/p-client", json={"status": "in_progress"}, headers=bearer("admin"))
    assert response.status_code == 200
    assert await stored(connection, "client") == []


@pytest.mark.parametrize(
    ("who", "project", "body", "status"),
    [
        ("client", "p-client", {"status": "review"}, 403),
        ("other", "p-client", {"status": "review"}, 403),
        ("admin", "p-none", {"status": "review"}, 404),
        ("admin", "p-client", {"status": "finished"}, 400),
        ("admin", "p-client", {}, 400),
        ("admin", "p-client", {"status": "review", "name": "x"}, 400),
        ("admin", "p%00", {"status": "review"}, 400),
    ],
)
async def test_a_change_that_is_not_allowed_changes_nothing(
    client: Client, connection: asyncpg.Connection, who: str, project: str, body: dict[str, str], status: int
) -> None:
    response = await client.patch(f"/api/projects/{project}", json=body, headers=bearer(who))
    assert (response.status_code, response.json()["success"]) == (status, False)
    assert await stored(connection, "client") == []
    assert await connection.fetchval("select status::text from public.projects where id = 'p-client'") == "in_progress"


async def test_changes_at_once_all_arrive(client: Client, connection: asyncpg.Connection) -> None:
    """Each transaction locks its project first and the counters of the same admins last."""
    statuses = ["review", "completed", "in_progress", "pending_payment"] * 3
    responses = await asyncio.gather(
        *(
            client.patch(f"/api/projects/{project}", json={"status": status}, headers=bearer("admin"))
            for project in ("p-client", "p-other")
            for status in statuses
        )
    )
    assert {response.status_code for response in responses} == {200}
    told = len(await stored(connection, "client")) + len(await stored(connection, "other"))
    assert told == len(await stored(connection, "admin")) == len(await stored(connection, "second-admin"))
    assert told > 2


async def fill(connection: asyncpg.Connection, count: int) -> list[str]:
    return await notifications.insert_many(
        connection,
        [
            NewNotification(user_id="client", type="user_message", title=f"T{n}", message="M", data={"n": n})
            for n in range(1, count + 1)
        ],
    )


async def test_the_inbox_is_paged_in_order(client: Client, connection: asyncpg.Connection) -> None:
    ids = await fill(connection, 5)
    body = (await client.get("/api/notifications?after=1&limit=2", headers=bearer("client"))).json()
    assert [(item["id"], item["seq"], item["data"]) for item in body["items"]] == [
        (ids[1], 2, {"n": 2}),
        (ids[2], 3, {"n": 3}),
    ]
    assert {key: body[key] for key in ("total", "headSeq", "unread")} == {"total": 5, "headSeq": 5, "unread": 5}
    item = body["items"][0]
    assert list(item) == ["id", "seq", "type", "title", "message", "data", "readAt", "createdAt"]
    assert (item["readAt"], item["createdAt"][-1]) == (None, "Z")
    nobodys = (await client.get("/api/notifications", headers=bearer("other"))).json()
    assert (nobodys["items"], nobodys["total"], nobodys["headSeq"], nobodys["unread"]) == ([], 0, 0, 0)


async def test_read_state_by_ids_and_up_to(client: Client, connection: asyncpg.Connection) -> None:
    ids = await fill(connection, 5)
    response = await client.post("/api/notifications/read", json={"ids": [ids[4], "none"]}, headers=bearer("client"))
    assert (response.status_code, response.json()["unread"]) == (200, 4)
    response = await client.post("/api/notifications/read", json={"upTo": 3}, headers=bearer("client"))
    assert response.json()["unread"] == 1
    body = (await client.get("/api/notifications?unread=true", headers=bearer("client"))).json()
    assert ([item["seq"] for item in body["items"]], body["total"]) == ([4], 1)
    assert response.json()["rev"] == body["rev"]


async def test_nobody_marks_what_is_anothers(client: Client, connection: asyncpg.Connection) -> None:
    ids = await fill(connection, 1)
    await client.post("/api/notifications/read", json={"ids": ids}, headers=bearer("other"))
    assert (await client.get("/api/notifications", headers=bearer("client"))).json()["unread"] == 1


@pytest.mark.parametrize("body", [{}, {"ids": [], "upTo": 1}, {"ids": []}, {"upTo": -1}, {"upTo": 2**63}, {"ids": [1]}])
async def test_a_malformed_mark_is_refused(client: Client, body: object) -> None:
    response = await client.post("/api/notifications/read", json=body, headers=bearer("client"))
    assert (response.status_code, response.json()["success"]) == (400, False)


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=501", "limit"), ("after=-1", "after"), ("after=x", "after"), ("unread=x", "unread")],
)
async def test_bounds_of_a_page_are_named(client: Client, query: str, field: str) -> None:
    response = await client.get(f"/api/notifications?{query}", headers=bearer("client"))
    assert (response.status_code, response.json()["success"]) == (400, False)
    assert field in response.json()["error"]


async def test_odd_data_of_a_foreign_program_does_not_spoil_the_page(
    client: Client, connection: asyncpg.Connection
) -> None:
    deep = "[" * 900 + "]" * 900
    await connection.execute(
        "insert into public.real_time_notifications (id, user_id, type, title, message, data) "
        "select 'n' || n, 'client', 'user_message', 't', 'm', data::jsonb from unnest($1::text[]) "
        "with ordinality as odd (data, n)",
        ["1e400", deep, "[1]", '"text"', '{"a": 1}'],
    )
    body = (await client.get("/api/notifications", headers=bearer("client"))).json()
    assert [item["data"] for item in body["items"]][2:] == [[1], "text", {"a": 1}]


@pytest.mark.parametrize("path", ["/api/projects", "/api/invoices", "/api/notifications", "/api/auth/me"])
async def test_nothing_is_shown_to_nobody(client: Client, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 401
    assert response.json() == {"success": False, "error": "Authentication required"}
