"""Where a notification is: each state from what really brings it about."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest

from jasaweb_rt.app import create_app
from jasaweb_rt.config import Settings
from jasaweb_rt.database import message_log, outbox
from jasaweb_rt.database.message_log import Proof, SentRange
from jasaweb_rt.database.pool import connect
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.services import Services
from tests.integration.http.conftest import Client, client_of
from tests.support import tokens
from tests.support.people import SECRET, bearer
from tests.support.sockets import WAIT_SECONDS, frame, opened, until

ADMIN = bearer("admin")


@pytest.fixture
def settings(database_url: str) -> Settings:
    # A client that has stopped reading stays connected for as long as a test takes.
    return Settings(jwt_secret=SECRET, token_secret=tokens.SECRET, port=0, database_url=database_url, pong_timeout=60.0)


@pytest.fixture
async def gateway(services: Services, idle_gateway: Gateway) -> AsyncIterator[Gateway]:
    await asyncio.to_thread(idle_gateway.start)
    yield idle_gateway
    await asyncio.to_thread(idle_gateway.stop, 1)


async def insert(connection: asyncpg.Connection, *ids: str) -> None:
    """Notifications of `client`, as any program writes them."""
    await connection.executemany(
        """insert into public.real_time_notifications (id, user_id, type, title, message)
           values ($1, 'client', 'user_message', 'Title', 'Message')""",
        [(one,) for one in ids],
    )


async def trace(client: Client, notification_id: str) -> dict[str, Any]:
    response = await client.get(f"/api/admin/notifications/{notification_id}/trace", headers=ADMIN)
    assert response.status_code == 200
    body: dict[str, Any] = response.json()
    return body


async def stage_becomes(client: Client, notification_id: str, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while found.get("stage") != stage:
                found = await trace(client, notification_id)
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not {stage}: {found}") from None
    return found


async def none_is_active(client: Client, notification_id: str) -> None:
    """Waits until it is written down that each connection has ended to which a notification was sent."""
    async with asyncio.timeout(WAIT_SECONDS):
        while "active" in [one["status"] for one in (await trace(client, notification_id))["connections"]["items"]]:
            await asyncio.sleep(0.02)


@pytest.fixture
async def commit_times(connection: asyncpg.Connection, services: Services) -> bool:
    """Whether this PostgreSQL keeps them; the embedded one does."""
    return bool(await connection.fetchval("select current_setting('track_commit_timestamp') = 'on'"))


async def test_it_is_for_administrators(client: Client, connection: asyncpg.Connection) -> None:
    await insert(connection, "n")
    path = "/api/admin/notifications/n/trace"
    assert (await client.get(path)).status_code == 401
    response = await client.get(path, headers=bearer("client"))
    assert (response.status_code, response.json()["error"]) == (403, "Only an administrator may do this")


@pytest.mark.parametrize("bad", ["x" * 201, "%00"])
async def test_an_id_that_cannot_be_one_is_refused(client: Client, bad: str) -> None:
    response = await client.get(f"/api/admin/notifications/{bad}/trace", headers=ADMIN)
    assert (response.status_code, response.json()["success"]) == (400, False)


async def test_what_is_not_there_is_a_404(client: Client, connection: asyncpg.Connection) -> None:
    await insert(connection, "deleted")
    assert (await trace(client, "deleted"))["seq"] == 1
    await connection.execute("delete from public.real_time_notifications")
    for one in ("never", "deleted"):
        response = await client.get(f"/api/admin/notifications/{one}/trace", headers=ADMIN)
        assert response.status_code == 404
        assert response.json()["error"].startswith(f"There is no notification with the id '{one}': it was deleted, ")


async def test_what_is_committed_waits_for_a_relay(
    client: Client, idle_gateway: Gateway, connection: asyncpg.Connection, database_url: str, commit_times: bool
) -> None:
    """None runs at first, then one that leads and is stuck, then one that relays."""
    await insert(connection, "first", "second")
    body = await trace(client, "second")
    since = body["committedAt"]
    assert (since is not None) == commit_times
    assert not commit_times or since >= body["notification"]["createdAt"]
    created_at = body["notification"].pop("createdAt")
    assert created_at.endswith("Z")
    assert body == {
        "notification": {"id": "second", "userId": "client", "type": "user_message", "title": "Title"},
        "stage": "waiting",
        "seq": 2,
        "numbered": "on_insert",
        "committedAt": since,
        "relayed": False,
        "waiting": {"since": since, "ahead": 1, "relayRuns": False},
        "messageLog": "durable",
        "retentionDays": 30,
        "connections": {"items": [], "total": 0, "delivered": 0},
        "readAt": None,
    }
    leader = await connect(database_url)
    try:
        assert await outbox.try_lock(leader, outbox.LEADER_LOCK)
        assert (await trace(client, "second"))["waiting"] == {"since": since, "ahead": 1, "relayRuns": True}
    finally:
        await leader.close(timeout=5)
    await asyncio.to_thread(idle_gateway.start)
    try:
        body = await stage_becomes(client, "second", "relayed")
    finally:
        await asyncio.to_thread(idle_gateway.stop, 1)
    # Relayed while nobody of that user was connected.
    assert (body["relayed"], body["waiting"], body["committedAt"]) == (True, None, since)
    assert body["connections"] == {"items": [], "total": 0, "delivered": 0}


async def test_it_is_sent_to_two_and_arrives_on_one(
    client: Client, gateway: Gateway, connection: asyncpg.Connection, commit_times: bool
) -> None:
    async with (
        opened(gateway.server, "client", user_agent_header="Phone") as phone,
        opened(gateway.server, "client", user_agent_header="Laptop") as laptop,
        opened(gateway.server, "other") as other,
    ):
        for socket in (phone, laptop, other):
            await frame(socket)
        # It is sent to and does not answer the ping behind that.
        laptop.transport.pause_reading()
        await insert(connection, "n")
        assert (await frame(phone))["id"] == "n"
        body = await stage_becomes(client, "n", "delivered")
        assert body["readAt"] is None
        # What did not arrive at once is written a moment later than what did.
        async with asyncio.timeout(WAIT_SECONDS):
            while body["connections"]["total"] < 2:
                body = await trace(client, "n")
        by_agent = {one["userAgent"]: one for one in body["connections"]["items"]}
        assert (by_agent["Phone"]["status"], by_agent["Laptop"]["status"]) == ("active", "active")
        laptop.transport.abort()
        await until(lambda: gateway.server.stats().connections == 2)
        await phone.send('{"type": "read", "data": {"ids": ["n"]}}')
        body = await stage_becomes(client, "n", "read")
        assert body["readAt"] >= body["notification"]["createdAt"]
    await none_is_active(client, "n")
    connections = (await trace(client, "n"))["connections"]
    assert (connections["total"], connections["delivered"]) == (2, 1)
    by_agent = {one["userAgent"]: one for one in connections["items"]}
    there, lost = by_agent["Phone"], by_agent["Laptop"]
    assert (there["delivered"], lost["delivered"]) == (True, False)
    assert lost["deliveredBefore"] is None
    assert (there["deliveredBefore"] is not None) == commit_times
    assert lost["status"] in {"disconnected", "error"}
    for one in (there, lost):
        assert one["clientIp"] == "127.0.0.1"
        assert one["connectedAt"] <= one["sentAt"]


async def test_where_the_log_is_off_the_list_says_nothing(
    settings: Settings, services: Services, connection: asyncpg.Connection, pool: asyncpg.Pool
) -> None:
    quiet = msgspec.structs.replace(settings, message_log="off")
    assert quiet.database_url
    gateway = Gateway(quiet, quiet.database_url)
    async with client_of(create_app(quiet, services=Services(quiet, pool, gateway))) as client:
        await asyncio.to_thread(gateway.start)
        async with opened(gateway.server, "client") as socket:
            await frame(socket)
            await insert(connection, "n")
            await frame(socket)
        # It is published before it is removed from the outbox.
        await stage_becomes(client, "n", "relayed")
        await asyncio.to_thread(gateway.stop, 1)
        body = await trace(client, "n")
    assert (body["relayed"], body["messageLog"], body["connections"]["total"]) == (True, "off", 0)


async def test_what_was_written_past_the_triggers_is_told_apart(client: Client, connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        await connection.execute("set local session_replication_role = 'replica'")
        await insert(connection, "n")
    body = await trace(client, "n")
    assert (body["stage"], body["numbered"], body["seq"]) == ("unnumbered", "never", None)
    assert (body["relayed"], body["waiting"], body["committedAt"]) == (False, None, None)


async def test_of_very_many_connections_the_first_are_listed(client: Client, connection: asyncpg.Connection) -> None:
    await insert(connection, "n", "another")
    await connection.execute(
        """insert into public.websocket_connections (id, user_id, connection_id)
           select 'row-' || n, 'client', 'node-' || n from generate_series(1, 600) n"""
    )
    for number in range(1, 601):
        sent = [SentRange(f"node-{number}", "client", 1, 2, 0, 1e9 + number)]
        assert await message_log.add_many(connection, sent) == []
    await message_log.mark_delivered(connection, [Proof(f"node-{number}", 1, 1) for number in range(1, 551)])
    body = await trace(client, "n")
    assert (body["connections"]["total"], body["connections"]["delivered"]) == (600, 550)
    assert [one["connectionId"] for one in body["connections"]["items"]] == [f"node-{n}" for n in range(1, 501)]
    assert body["connections"]["items"][0]["clientIp"] is None
    assert (await trace(client, "another"))["stage"] == "sent"


async def test_rows_of_an_older_numbering_are_not_taken_for_it(client: Client, connection: asyncpg.Connection) -> None:
    """Where our schema was dropped and made anew, a seq is given a second time."""
    await insert(connection, "old")
    await connection.execute(
        "insert into public.websocket_connections (id, user_id, connection_id) values ('row', 'client', 'node-1')"
    )
    await message_log.add_many(connection, [SentRange("node-1", "client", 1, 1, 1, 1e9)])
    await connection.execute("delete from public.real_time_notifications; delete from jasaweb_rt.counters")
    await insert(connection, "new")
    body = await trace(client, "new")
    assert (body["seq"], body["connections"]["total"]) == (1, 0)


async def test_the_schema_declares_it(client: Client) -> None:
    schema = (await client.get("/schema/openapi.json")).json()
    responses = schema["paths"]["/api/admin/notifications/{notification_id}/trace"]["get"]["responses"]
    assert set(responses) == {"200", "400", "401", "403", "404", "429", "503"}
