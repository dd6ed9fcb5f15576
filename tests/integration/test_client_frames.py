"""Frames from clients: what they do, and for whom. The refused ones: tests/e2e/test_wrong_input.py."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest
from websockets.asyncio.client import ClientConnection

from jasaweb_rt import dispatch
from jasaweb_rt.database import projects
from jasaweb_rt.database.projects import NewProject
from jasaweb_rt.gateway import Gateway
from tests.support.databases import add_users
from tests.support.sockets import frame, frames, opened

PROJECT_UPDATE = {"projectId": "p", "newStatus": "review"}
ANNOUNCEMENT = {"title": "Maintenance", "message": "Tonight at ten"}
ALERT = {"event": "disk_full", "message": "One percent is left"}


@pytest.fixture(autouse=True)
async def project(gateway: Gateway, connection: asyncpg.Connection) -> None:
    await projects.insert_missing(connection, [NewProject("p", "anna", "Site", "company", "in_progress")])


async def joined(stack: AsyncExitStack, gateway: Gateway, user_id: str, role: str = "client") -> ClientConnection:
    """A socket that is live: nothing waits in it."""
    socket = await stack.enter_async_context(opened(gateway.server, user_id, role))
    assert (await frame(socket))["type"] == "sync"
    return socket


async def send(socket: ClientConnection, kind: str, data: dict[str, Any], ref: str = "r-1") -> None:
    await socket.send(json.dumps({"type": kind, "data": data, "timestamp": "2026-01-01T00:00:00.000Z", "id": ref}))


async def nothing_waits(gateway: Gateway, *sockets: ClientConnection) -> None:
    gateway.server.broadcast_to_all('{"type": "mark"}')
    for socket in sockets:
        assert await frame(socket) == {"type": "mark"}


async def test_an_admins_project_update_changes_the_project(gateway: Gateway, connection: asyncpg.Connection) -> None:
    async with AsyncExitStack() as stack:
        anna, budi, citra = (
            await joined(stack, gateway, "anna"),
            await joined(stack, gateway, "budi"),
            await joined(stack, gateway, "citra", "admin"),
        )
        await send(citra, "project_update", PROJECT_UPDATE)
        told = await frame(anna)
        assert (told["type"], told["seq"], told["unread"]) == ("project_update", 1, 1)
        assert told["data"] == {
            "title": "Project updated",
            "projectId": "p",
            "projectName": "Site",
            "oldStatus": "in_progress",
            "newStatus": "review",
            "message": 'Project "Site" status updated to review',
        }
        alert = await frame(citra)
        assert (alert["type"], alert["data"]["event"]) == ("admin_alert", "project_status_change")
        assert alert["data"]["message"] == 'Project "Site" status changed to review by User citra'
        await nothing_waits(gateway, budi)
    changed = await projects.get(connection, "p")
    assert changed is not None
    assert changed.status == "review"


@pytest.mark.parametrize(
    ("audience", "reached"),
    [
        ({}, {"citra", "dewi"}),
        ({"audience": "admins"}, {"citra", "dewi"}),
        ({"audience": "clients"}, {"anna", "budi"}),
        ({"audience": "all"}, {"anna", "budi", "citra", "dewi"}),
    ],
)
async def test_an_announcement_reaches_its_audience_and_nobody_else(
    gateway: Gateway, connection: asyncpg.Connection, audience: dict[str, str], reached: set[str]
) -> None:
    await add_users(connection, ("dewi", "admin"))  # who is away, and finds it later
    async with AsyncExitStack() as stack:
        sockets = {name: await joined(stack, gateway, name) for name in ("anna", "budi")}
        sockets["citra"] = await joined(stack, gateway, "citra", "admin")
        more = {"priority": "critical", "actionUrl": "https://status.example.org/"}
        await send(sockets["citra"], "system_announcement", {**ANNOUNCEMENT, **more, **audience})
        for name in reached & set(sockets):
            announced = await frame(sockets[name])
            assert (announced["type"], announced["seq"]) == ("system_announcement", 1)
            assert announced["data"] == {**ANNOUNCEMENT, **more}
        rows = await connection.fetch("select user_id from public.real_time_notifications")
        assert sorted(row["user_id"] for row in rows) == sorted(reached)
        await nothing_waits(gateway, *sockets.values())


async def test_an_alert_reaches_the_admins(gateway: Gateway, connection: asyncpg.Connection) -> None:
    async with AsyncExitStack() as stack:
        anna, citra = await joined(stack, gateway, "anna"), await joined(stack, gateway, "citra", "admin")
        await send(citra, "admin_alert", {**ALERT, "projectId": "p", "requiresAction": True})
        await send(citra, "admin_alert", ALERT)
        first, second = await frames(citra, 2)
        assert first["data"] == {**ALERT, "title": "disk_full", "projectId": "p", "requiresAction": True}
        assert second["data"] == {**ALERT, "title": "disk_full", "requiresAction": False}
        await nothing_waits(gateway, anna)


async def test_messages_between_people(gateway: Gateway) -> None:
    async with AsyncExitStack() as stack:
        anna, citra = await joined(stack, gateway, "anna"), await joined(stack, gateway, "citra", "admin")
        await send(anna, "user_message", {"toUserId": "citra", "subject": "Logo", "content": "Make it bigger"})
        message = await frame(citra)
        assert (message["type"], message["seq"]) == ("user_message", 1)
        assert message["data"] == {
            "title": "Logo",
            "message": "Make it bigger",
            "fromUserId": "anna",
            "fromUserName": "User anna",
            "toUserId": "citra",
            "subject": "Logo",
            "content": "Make it bigger",
        }
        await send(citra, "user_message", {"toUserId": "anna", "subject": "Re: Logo", "content": "No"})
        assert (await frame(anna))["data"]["content"] == "No"
        await nothing_waits(gateway, anna, citra)


async def test_an_ack_is_at_most_of_what_was_sent(gateway: Gateway) -> None:
    async with AsyncExitStack() as stack:
        anna, citra = await joined(stack, gateway, "anna"), await joined(stack, gateway, "citra", "admin")
        await send(citra, "user_message", {"toUserId": "anna", "subject": "s", "content": "c"})
        assert (await frame(anna))["seq"] == 1
        await send(anna, "ack", {"seq": 1})
        await send(anna, "ack", {"seq": 2}, ref="beyond")
        error = (await frame(anna))["data"]
        assert (error["code"], error["ref"]) == ("invalid_data", "beyond")
        await nothing_waits(gateway, anna)


async def test_the_role_is_what_the_database_says_now(gateway: Gateway, connection: asyncpg.Connection) -> None:
    async with AsyncExitStack() as stack:
        anna, citra = await joined(stack, gateway, "anna", "admin"), await joined(stack, gateway, "citra", "admin")
        await send(anna, "project_update", PROJECT_UPDATE)
        assert (await frame(anna))["data"]["code"] == "forbidden"
        await connection.execute("update public.users set role = 'client' where id = 'citra'")
        await send(citra, "project_update", PROJECT_UPDATE)
        assert (await frame(citra))["data"]["code"] == "forbidden"
        await connection.execute("delete from public.users where id = 'budi'")
        await connection.execute("update public.users set role = 'admin' where id = 'anna'")
        await send(anna, "project_update", PROJECT_UPDATE)
        assert {(await frame(anna))["type"] for _ in range(2)} == {"project_update", "admin_alert"}


async def test_who_is_gone_may_do_nothing(gateway: Gateway, connection: asyncpg.Connection) -> None:
    # Else the deletion would be heard of, and might end the connection first.
    await connection.execute("alter table public.users disable trigger user")
    async with AsyncExitStack() as stack:
        budi = await joined(stack, gateway, "budi")
        await connection.execute("delete from public.users where id = 'budi'")
        await send(budi, "user_message", {"toUserId": "citra", "subject": "s", "content": "c"})
        assert (await frame(budi))["data"]["code"] == "forbidden"


async def test_a_handler_that_fails_harms_nobody_else(
    gateway: Gateway, connection: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await connection.execute("alter table public.real_time_notifications add check (type <> 'admin_alert')")
    async with AsyncExitStack() as stack:
        anna, citra = await joined(stack, gateway, "anna"), await joined(stack, gateway, "citra", "admin")
        refused: list[tuple[str, dict[str, Any]]] = [("admin_alert", ALERT), ("project_update", PROJECT_UPDATE)]
        for kind, data in refused:
            await send(citra, kind, data)
            error = (await frame(citra))["data"]
            assert error == {"code": "internal", "message": "Internal server error", "ref": "r-1"}
        await send(anna, "user_message", {"toUserId": "citra", "subject": "s", "content": "c"})
        await send(citra, "user_message", {"toUserId": "anna", "subject": "s", "content": "c"})
        assert [(await frame(socket))["type"] for socket in (anna, citra)] == ["user_message"] * 2
    assert await connection.fetchval("select status::text from public.projects where id = 'p'") == "in_progress"
    assert "a project_update frame could not be carried out" in caplog.text


async def test_a_handler_that_hangs_holds_nobody_up_and_is_ended(
    gateway: Gateway, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        anna, citra = await joined(stack, gateway, "anna"), await joined(stack, gateway, "citra", "admin")
        async with connection.transaction():
            await connection.execute("select from public.projects where id = 'p' for update")
            await send(citra, "project_update", PROJECT_UPDATE)
            await send(anna, "user_message", {"toUserId": "citra", "subject": "s", "content": "c"})
            assert (await frame(citra))["type"] == "user_message"
        assert (await frame(citra))["type"] == "admin_alert"
        assert (await frame(anna))["type"] == "project_update"
        monkeypatch.setattr(dispatch, "_HANDLING_SECONDS", 0.2)
        async with connection.transaction():
            await connection.execute("select from public.projects where id = 'p' for update")
            await send(citra, "project_update", {"projectId": "p", "newStatus": "completed"}, ref="late")
            assert (await frame(citra))["data"] == {
                "code": "unavailable",
                "message": "Try again later",
                "ref": "late",
            }
        await nothing_waits(gateway, anna, citra)
    assert await connection.fetchval("select status::text from public.projects where id = 'p'") == "review"


async def test_a_users_frames_are_carried_out_in_order(gateway: Gateway, connection: asyncpg.Connection) -> None:
    async with AsyncExitStack() as stack:
        anna, citra = await joined(stack, gateway, "anna"), await joined(stack, gateway, "citra", "admin")
        for number in range(30):
            await send(anna, "user_message", {"toUserId": "citra", "subject": str(number), "content": "c"})
        async with asyncio.timeout(20):
            assert [item["data"]["subject"] for item in await frames(citra, 30)] == [str(n) for n in range(30)]
