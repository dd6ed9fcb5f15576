"""An administrator marks an invoice as paid: all that a reported payment does, and nothing where it is not allowed."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from jasaweb_rt.database.invoices import InvoiceStatus
from tests.integration.http.conftest import Client
from tests.support.payments import state, told
from tests.support.people import bearer, session_token

PATH = "/api/invoices/i-other"
PAID = {"status": "paid"}


UNCHANGED = ("unpaid", "pending_payment", None, 0)


async def test_a_payment_by_hand_does_all_that_a_reported_one_does(
    client: Client, connection: asyncpg.Connection
) -> None:
    response = await client.patch(PATH, json=PAID, headers=bearer("admin"))
    assert response.status_code == 200
    invoice = response.json()
    assert invoice == (await client.get("/api/invoices", headers=bearer("other"))).json()["items"][0]
    assert (invoice["id"], invoice["status"]) == ("i-other", "paid")
    assert abs(datetime.fromisoformat(invoice["paidAt"]) - datetime.now(UTC)) < timedelta(minutes=1)
    (kind, payment), (second_kind, project) = await told(connection, "other")
    assert (kind, payment["status"], payment["paidAt"]) == ("payment_update", "paid", invoice["paidAt"])
    assert (second_kind, project["newStatus"]) == ("project_update", "in_progress")
    alerts = [
        (
            "admin_alert",
            {"event": event, "message": message, "projectId": "p-other", "requiresAction": False},
        )
        for event, message in [
            ("payment_status_change", 'Invoice for "News site" changed to paid by Admin'),
            ("project_status_change", 'Project "News site" status changed to in_progress by Admin'),
        ]
    ]
    for admin in ("admin", "second-admin"):
        assert await told(connection, admin) == alerts
    assert await told(connection, "client") == []


async def test_a_project_that_does_not_wait_for_it_stays(client: Client, connection: asyncpg.Connection) -> None:
    response = await client.patch("/api/invoices/i-client", json=PAID, headers=bearer("admin"))
    assert response.json()["status"] == "paid"
    assert [kind for kind, _ in await told(connection, "client")] == ["payment_update"]
    assert [data["event"] for _, data in await told(connection, "admin")] == ["payment_status_change"]
    assert await connection.fetchval("select status::text from projects where id = 'p-client'") == "in_progress"


async def test_twice_and_all_at_once_is_as_once(client: Client, connection: asyncpg.Connection) -> None:
    responses = await asyncio.gather(*(client.patch(PATH, json=PAID, headers=bearer("admin")) for _ in range(8)))
    assert {(response.status_code, response.text) for response in responses} == {(200, responses[0].text)}
    assert len(await told(connection, "other")) == len(await told(connection, "admin")) == 2


@pytest.mark.parametrize("status", ["unpaid", "pending", "failed", "expired"])
async def test_what_may_still_be_paid(client: Client, connection: asyncpg.Connection, status: InvoiceStatus) -> None:
    await connection.execute("update invoices set status = $1 where id = 'i-other'", status)
    assert (await client.patch(PATH, json=PAID, headers=bearer("admin"))).status_code == 200
    assert (await state(connection))[0] == "paid"


@pytest.mark.parametrize("status", ["cancelled", "refunded", "partial_refunded"])
async def test_what_was_taken_back_cannot_be_paid(
    client: Client, connection: asyncpg.Connection, status: InvoiceStatus
) -> None:
    await connection.execute("update invoices set status = $1 where id = 'i-other'", status)
    response = await client.patch(PATH, json=PAID, headers=bearer("admin"))
    assert response.status_code == 409
    assert response.json() == {"success": False, "error": f"This invoice is {status}; it cannot be marked as paid"}
    assert await state(connection) == (status, "pending_payment", None, 0)


@pytest.mark.parametrize(
    ("who", "path", "body", "status"),
    [
        ("client", PATH, PAID, 403),
        ("other", PATH, PAID, 403),
        ("admin", "/api/invoices/i-none", PAID, 404),
        ("admin", "/api/invoices/i%00", PAID, 400),
        ("admin", PATH, {}, 400),
        ("admin", PATH, {"status": "unpaid"}, 400),
        ("admin", PATH, {"status": "refunded"}, 400),
        ("admin", PATH, {"status": "paid", "amount": 1}, 400),
        ("admin", PATH, ["paid"], 400),
    ],
)
async def test_a_wrong_request_changes_nothing(
    client: Client, connection: asyncpg.Connection, who: str, path: str, body: Any, status: int
) -> None:
    response = await client.patch(path, json=body, headers=bearer(who))
    assert (response.status_code, response.json()["success"]) == (status, False)
    assert await state(connection) == UNCHANGED


async def test_nobody_marks_and_a_cookie_needs_the_csrf_header(client: Client, connection: asyncpg.Connection) -> None:
    response = await client.patch(PATH, json=PAID)
    assert (response.status_code, response.json()["error"]) == (401, "Authentication required")
    client.cookies.set("auth_token", session_token("admin"))
    response = await client.patch(PATH, json=PAID)
    assert response.status_code == 403
    assert "CSRF" in response.json()["error"]
    assert await state(connection) == UNCHANGED


@pytest.mark.parametrize("untold", ["payment_update", "admin_alert"])
async def test_what_cannot_be_told_is_not_done(client: Client, connection: asyncpg.Connection, untold: str) -> None:
    await connection.execute(f"alter table public.real_time_notifications add check (type <> '{untold}')")
    assert (await client.patch(PATH, json=PAID, headers=bearer("admin"))).status_code == 500
    assert await state(connection) == UNCHANGED


async def test_the_schema_declares_the_errors(client: Client) -> None:
    paths = (await client.get("/schema/openapi.json")).json()["paths"]
    responses = paths["/api/invoices/{invoice_id}"]["patch"]["responses"]
    assert {"400", "401", "403", "404", "409", "429"} <= set(responses)
