"""The samples of the implementation guide against the running program, each test named after its sample.

docs/guide.md says where the other samples live and what shows them.
"""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.protocol import State

from tests.support.databases import add_users
from tests.support.live_sockets import connection_token, nothing_waits, socket_url, sockets_of
from tests.support.payments import midtrans_body
from tests.support.people import bearer, session_token
from tests.support.sockets import closed, frame


async def token_by_cookie(http: httpx.AsyncClient, user_id: str) -> httpx.Response:
    """The token route as the guide's clients call it: the session's cookie, and no other header."""
    return await http.post("/api/websocket/token", headers={"Cookie": f"auth_token={session_token(user_id)}"})


class TestTokenRoute:
    """Step 3, `POST /api/websocket/token`."""

    async def test_without_a_session(self, http: httpx.AsyncClient) -> None:
        """Step 3: `errorResponse('Authentication required', 401)`."""
        response = await http.post("/api/websocket/token")
        assert (response.status_code, response.json()["error"]) == (401, "Authentication required")

    async def test_with_a_session(self, http: httpx.AsyncClient) -> None:
        """Step 3: a token for 300 s and where to take it, to the cookie alone."""
        before = datetime.now(UTC)
        response = await token_by_cookie(http, "client")
        after = datetime.now(UTC)
        assert response.status_code == 200
        body = response.json()
        assert body["connectionUrl"] == f"ws://{http.base_url.netloc.decode()}/ws"
        # The token's own clock has whole seconds.
        lifetime, second = timedelta(seconds=300), timedelta(seconds=1)
        assert before - second < datetime.fromisoformat(body["expiresAt"]) - lifetime <= after
        async with connect(f"{body['connectionUrl']}?token={body['token']}") as socket:
            assert (await frame(socket))["data"]["title"] == "Connected"


class TestWebSocketHandler:
    """Step 4, `GET /ws`."""

    @pytest.mark.parametrize("headers", [{}, {"Connection": "Upgrade", "Upgrade": "h2c"}])
    async def test_upgrade_required(self, http: httpx.AsyncClient, headers: dict[str, str]) -> None:
        """Step 4: `new Response('Upgrade required', { status: 426 })`, in the shape that all our errors have."""
        response = await http.get("/ws", headers=headers)
        assert (response.status_code, response.json()["error"]) == (426, "Upgrade required")

    @pytest.mark.parametrize("word", ["websocket", "WebSocket"])
    async def test_upgrade(self, http: httpx.AsyncClient, word: str) -> None:
        """Step 4: `upgradeHeader.toLowerCase() === 'websocket'`, then 101."""
        reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
        writer.write(
            (
                f"GET /ws?token={await connection_token(http, 'client')} HTTP/1.1\r\nHost: rt\r\nUpgrade: {word}\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            ).encode()
        )
        async with asyncio.timeout(20):
            assert await reader.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
        writer.close()
        await writer.wait_closed()


class TestProjectService:
    """Step 6, `ProjectService.updateProjectStatus(projectId, newStatus, updatedBy)`."""

    async def test_update_project_status(self, http: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
        """Step 6: the row, the owner's `project_update` and the administrators' `admin_alert`, field by field."""
        before = await connection.fetchrow("select status::text, updated_at from public.projects where id = 'p-client'")
        async with sockets_of(http, "client", "client", "other", "admin", "second-admin") as sockets:
            first, second, other, *admins = sockets
            response = await http.patch("/api/projects/p-client", json={"status": "review"}, headers=bearer("admin"))
            assert (response.status_code, response.json()["status"]) == (200, "review")
            told = {
                "title": "Project updated",
                "projectId": "p-client",
                "projectName": "School site",
                "oldStatus": "in_progress",
                "newStatus": "review",
                "message": 'Project "School site" status updated to review',
            }
            for socket in (first, second):
                update = await frame(socket)
                assert (update["type"], update["data"]) == ("project_update", told)
                assert uuid.UUID(update["id"])
                assert datetime.fromisoformat(update["timestamp"]).tzinfo == UTC
            for socket in admins:
                alert = await frame(socket)
                assert (alert["type"], alert["data"]) == (
                    "admin_alert",
                    {
                        "title": "Project status changed",
                        "event": "project_status_change",
                        "message": 'Project "School site" status changed to review by Admin',
                        "projectId": "p-client",
                        "requiresAction": False,
                    },
                )
            await nothing_waits(http, first, second, other, *admins)
        after = await connection.fetchrow("select status::text, updated_at from public.projects where id = 'p-client'")
        assert (before["status"], after["status"]) == ("in_progress", "review")
        assert after["updated_at"] > before["updated_at"]

    async def test_project_not_found(self, http: httpx.AsyncClient) -> None:
        """Step 6: `throw new Error('Project not found')`."""
        response = await http.patch("/api/projects/p-none", json={"status": "review"}, headers=bearer("admin"))
        assert (response.status_code, response.json()["error"]) == (404, "There is no such project")


class TestInvoiceService:
    """Step 7, `InvoiceService.processPaymentSuccess(invoiceId)`; what calls it is the payment provider's webhook."""

    async def test_process_payment_success(self, http: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
        """Step 7: the row, and the owner's `payment_update`, field by field."""
        await connection.execute("update public.invoices set midtrans_order_id = 'order-' || id")
        async with sockets_of(http, "client", "other") as (client, other):
            paid = midtrans_body("settlement", "order-i-client", "1500000.50")
            response = await http.post("/api/webhooks/midtrans", json=paid)
            assert response.status_code == 200
            update = await frame(client)
            assert update["type"] == "payment_update"
            paid_at = update["data"].pop("paidAt")
            assert update["data"] == {
                "title": "Payment received",
                "message": 'The payment for "School site" was received',
                "invoiceId": "i-client",
                "projectId": "p-client",
                "projectName": "School site",
                "amount": 1500000.5,
                "status": "paid",
            }
            await nothing_waits(http, client, other)
        stored = await connection.fetchrow("select status::text, paid_at from public.invoices where id = 'i-client'")
        assert stored["status"] == "paid"
        assert datetime.fromisoformat(paid_at) == stored["paid_at"].replace(tzinfo=UTC)


class TestUnitTestExample:
    """Testing, "Unit Test Example", with a real socket and a real token where the guide has mocks."""

    async def test_should_handle_connection_with_valid_token(self, http: httpx.AsyncClient) -> None:
        """Unit tests: what is sent first contains `system_announcement`, and messages are listened to."""
        async with connect(f"{socket_url(http)}?token={await connection_token(http, 'client')}") as socket:
            welcome = await frame(socket)
            assert welcome["type"] == "system_announcement"
            assert welcome["data"] == {
                "title": "Connected",
                "message": "Real-time updates are now active",
                "priority": "low",
            }
            assert (await frame(socket))["type"] == "sync"
            await socket.send('{"type": "dance", "data": {}, "id": "listened-to"}')
            assert (await frame(socket))["data"]["ref"] == "listened-to"

    async def test_should_reject_connection_with_invalid_token(self, http: httpx.AsyncClient) -> None:
        """Unit tests: `expect(mockWs.close).toHaveBeenCalledWith(1008, 'Invalid authentication')`."""
        async with connect(f"{socket_url(http)}?token=invalid") as socket:
            assert await closed(socket) == (1008, "Invalid authentication")


class TestIntegrationTestExample:
    """Testing, "Integration Test Example"."""

    async def test_should_connect_and_receive_messages(
        self, http: httpx.AsyncClient, connection: asyncpg.Connection
    ) -> None:
        """Integration test: a new user's cookie buys a token, the token a socket, and the socket speaks first."""
        await add_users(connection, ("test-user", "client"))
        token = (await token_by_cookie(http, "test-user")).json()["token"]
        async with connect(f"{socket_url(http)}?token={token}") as socket:
            assert socket.state is State.OPEN
            assert (await frame(socket))["type"] == "system_announcement"
        assert socket.close_code == 1000
