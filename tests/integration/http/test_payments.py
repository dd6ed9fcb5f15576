"""The payment webhook: what it does, and that what is wrong with a request changes nothing."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from jasaweb_rt.config import Settings
from tests.integration.http.conftest import Client
from tests.support.payments import KEY, state, told
from tests.support.payments import midtrans_body as body
from tests.support.people import SECRET, bearer, session_token


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(
        jwt_secret=SECRET, token_secret="t" * 40, port=0, database_url=database_url, midtrans_server_key=KEY
    )


@pytest.fixture(autouse=True)
async def orders(client: Client, connection: asyncpg.Connection) -> None:
    await connection.execute("update public.invoices set midtrans_order_id = 'order-' || id")


async def post(client: Client, notification: dict[str, Any]) -> httpx.Response:
    return await client.post("/api/webhooks/midtrans", json=notification)


async def test_a_payment_pays_the_invoice_moves_the_project_and_tells(
    client: Client, connection: asyncpg.Connection
) -> None:
    response = await post(client, body("settlement", fraud_status="accept"))
    assert response.status_code == 200
    assert response.json() == {"success": True, "invoiceId": "i-other", "status": "paid"}
    invoice = (await client.get("/api/invoices", headers=bearer("other"))).json()["items"][0]
    assert invoice["status"] == "paid"
    assert abs(datetime.fromisoformat(invoice["paidAt"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert await told(connection, "other") == [
        (
            "payment_update",
            {
                "invoiceId": "i-other",
                "projectId": "p-other",
                "projectName": "News site",
                "amount": 7,
                "status": "paid",
                "paidAt": invoice["paidAt"],
            },
        ),
        (
            "project_update",
            {
                "projectId": "p-other",
                "projectName": "News site",
                "oldStatus": "pending_payment",
                "newStatus": "in_progress",
                "message": 'Project "News site" status updated to in_progress',
            },
        ),
    ]
    for admin in ("admin", "second-admin"):
        alerts = await told(connection, admin)
        assert [(kind, alert["event"], alert["projectId"], alert["requiresAction"]) for kind, alert in alerts] == [
            ("admin_alert", "payment_status_change", "p-other", False),
            ("admin_alert", "project_status_change", "p-other", False),
        ]
        assert alerts[0][1]["message"] == 'Invoice for "News site" changed to paid by Midtrans'
    assert await told(connection, "client") == []


async def test_a_project_that_does_not_wait_for_it_stays(client: Client, connection: asyncpg.Connection) -> None:
    response = await post(client, body("capture", "order-i-client", "1500000.50", fraud_status="accept"))
    assert response.json()["status"] == "paid"
    assert [kind for kind, _ in await told(connection, "client")] == ["payment_update"]
    assert [data["event"] for _, data in await told(connection, "admin")] == ["payment_status_change"]
    assert await connection.fetchval("select status::text from projects where id = 'p-client'") == "in_progress"


async def test_twice_and_all_at_once_is_as_once(client: Client, connection: asyncpg.Connection) -> None:
    responses = await asyncio.gather(*(post(client, body("settlement")) for _ in range(8)))
    assert {(response.status_code, response.json()["status"]) for response in responses} == {(200, "paid")}
    before = await state(connection)
    assert (await post(client, body("settlement"))).status_code == 200
    assert await state(connection) == before
    assert len(await told(connection, "other")) == len(await told(connection, "admin")) == 2


async def test_a_late_pending_takes_nothing_back_and_a_refund_does(
    client: Client, connection: asyncpg.Connection
) -> None:
    await post(client, body("settlement"))
    paid_at = (await state(connection))[2]
    for late in ("pending", "expire", "deny"):
        response = await post(client, body(late, code="201"))
        assert (response.status_code, response.json()["status"]) == (200, "paid")
    for refund, status in [("partial_refund", "partial_refunded"), ("refund", "refunded")]:
        assert (await post(client, body(refund))).json()["status"] == status
    assert (await post(client, body("settlement"))).json()["status"] == "refunded"
    assert (await state(connection))[:3] == ("refunded", "in_progress", paid_at)
    updates = [data["status"] for kind, data in await told(connection, "other") if kind == "payment_update"]
    assert updates == ["paid", "partial_refunded", "refunded"]


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"signature_key": "0" * 128}, 403, "signature"),
        ({"signature_key": ""}, 400, "signature_key"),
        ({"transaction_status": "dancing"}, 400, "transaction_status"),
        ({"gross_amount": 7}, 400, "gross_amount"),
        ({"gross_amount": "-7.00"}, 400, "gross_amount"),
        ({"order_id": None}, 400, "order_id"),
        ({"order_id": "order-\0"}, 400, "order_id"),
    ],
)
async def test_a_wrong_request_changes_nothing(
    client: Client, connection: asyncpg.Connection, changed: dict[str, Any], status: int, words: str
) -> None:
    response = await post(client, body("settlement") | changed)
    assert (response.status_code, response.json()["success"]) == (status, False)
    assert words in response.json()["error"]
    assert await state(connection) == ("unpaid", "pending_payment", None, 0)


@pytest.mark.parametrize(
    ("order", "amount", "status", "error"),
    [
        ("order-none", "7.00", 404, "There is no invoice of this order"),
        ("order-i-other", "7.01", 409, "The amount is not that of the invoice"),
        ("order-i-other", "700", 409, "The amount is not that of the invoice"),
    ],
)
async def test_an_unknown_order_and_a_wrong_amount(
    client: Client, connection: asyncpg.Connection, order: str, amount: str, status: int, error: str
) -> None:
    response = await post(client, body("settlement", order, amount))
    assert (response.status_code, response.json()) == (status, {"success": False, "error": error})
    assert await state(connection) == ("unpaid", "pending_payment", None, 0)


async def test_an_order_of_two_invoices_is_refused(client: Client, connection: asyncpg.Connection) -> None:
    await connection.execute("update public.invoices set midtrans_order_id = 'same', amount = 7")
    response = await post(client, body("settlement", "same"))
    assert response.status_code == 409
    assert await state(connection) == ("unpaid", "pending_payment", None, 0)


async def test_a_session_is_neither_needed_nor_enough(client: Client, connection: asyncpg.Connection) -> None:
    client.cookies.set("auth_token", session_token("other"))
    assert (await post(client, body("settlement") | {"signature_key": "x"})).status_code == 403
    assert (await post(client, body("settlement"))).status_code == 200


async def test_what_cannot_be_told_is_not_done(client: Client, connection: asyncpg.Connection) -> None:
    await connection.execute("alter table public.real_time_notifications add check (type <> 'payment_update')")
    assert (await post(client, body("settlement"))).status_code == 500
    assert await state(connection) == ("unpaid", "pending_payment", None, 0)


class TestWithoutAKey:
    @pytest.fixture
    def settings(self, database_url: str) -> Settings:
        return Settings(jwt_secret=SECRET, token_secret="t" * 40, port=0, database_url=database_url)

    async def test_payments_are_not_taken(self, client: Client, connection: asyncpg.Connection) -> None:
        response = await post(client, body("settlement"))
        assert response.status_code == 503
        assert "JASAWEB_RT_MIDTRANS_SERVER_KEY" in response.json()["error"]
        assert await state(connection) == ("unpaid", "pending_payment", None, 0)
