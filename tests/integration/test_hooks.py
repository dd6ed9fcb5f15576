"""Hooks over real sockets and a real database: each thing that happens is told once, and a bad hook harms nobody."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NoReturn

import asyncpg
import httpx
import pytest
import websockets.sync.client

from jasaweb_rt.app import create_app
from jasaweb_rt.config import Settings
from jasaweb_rt.database import notifications
from jasaweb_rt.domain.midtrans import signature
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.hooks import (
    AdminsAlerted,
    AnnouncementMade,
    BroadcastMade,
    ConnectionClosed,
    ConnectionOpened,
    DomainEvent,
    FrameCarriedOut,
    Hooks,
    InvoiceStatusChanged,
    NotificationsRead,
    ProjectStatusChanged,
    UserMessageSent,
)
from jasaweb_rt.messages import ClientMessage
from jasaweb_rt.services import Services
from tests.support import people
from tests.support.people import bearer, insert_people
from tests.support.sockets import frame, opened, socket_url, until
from tests.support.tokens import SECRET, connection_token

KEY = "SB-Mid-server-of-the-tests"


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(
        jwt_secret=people.SECRET,
        token_secret=SECRET,
        database_url=database_url,
        port=0,
        drain_seconds=1,
        midtrans_server_key=KEY,
    )


@pytest.fixture(autouse=True)
async def filled(connection: asyncpg.Connection) -> None:
    await insert_people(connection)
    await connection.execute("update public.invoices set midtrans_order_id = 'order-' || id")


class Running:
    """An application with a gateway beside it."""

    def __init__(self, gateway: Gateway, http: httpx.AsyncClient) -> None:
        self.server = gateway.server
        self.http = http


@asynccontextmanager
async def application(settings: Settings, hooks: Hooks) -> AsyncIterator[Running]:
    app = create_app(settings, hooks=hooks)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]  # stricter scopes of its own
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://rt.test") as http:
        yield Running(app.state.services.node, http)


class Ledger:
    """What hooks were told: those of each class of event or of frame by itself, and those of all of a kind."""

    def __init__(self, hooks: Hooks) -> None:
        self.domain = list[DomainEvent]()
        self.frames = list[FrameCarriedOut[ClientMessage]]()
        self.opened = list[ConnectionOpened]()
        self.closed = list[ConnectionClosed]()
        self.by_class = dict[type, list[object]]()
        hooks.on(DomainEvent)(self.domain.append)
        hooks.on_frame(ClientMessage)(self.frames.append)
        hooks.on_connect(self.opened.append)
        hooks.on_disconnect(self.closed.append)
        for event in DomainEvent.__subclasses__():
            hooks.on(event)(self._async_note(event))
        for message in ClientMessage.__subclasses__():
            hooks.on_frame(message)(self._async_note(message))

    def _async_note(self, kind: type) -> Callable[[object], Any]:
        told = self.by_class.setdefault(kind, [])

        async def note(event: object) -> None:
            told.append(event)

        return note


def payment(status: str) -> dict[str, str]:
    order, code, amount = "order-i-other", "200", "7.00"
    return {
        "order_id": order,
        "status_code": code,
        "gross_amount": amount,
        "transaction_status": status,
        "signature_key": signature(order, code, amount, KEY),
    }


async def send(socket: Any, kind: str, data: dict[str, Any], ref: str = "r") -> None:
    await socket.send(json.dumps({"type": kind, "data": data, "id": ref}))


async def test_each_frame_and_each_domain_event_reaches_its_hook_once(
    settings: Settings, connection: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = Hooks()

    def fails(_: object) -> NoReturn:
        raise ValueError("as planned")

    def failures() -> int:
        return sum("fails has failed" in record.getMessage() for record in caplog.records)

    hooks.on(DomainEvent)(fails)
    hooks.on_frame(ClientMessage)(fails)
    ledger = Ledger(hooks)
    async with application(settings, hooks) as running:
        http, admin = running.http, bearer("admin")
        # Twice each: a request that changes nothing is told to nobody.
        for _ in range(2):
            await http.patch("/api/projects/p-client", json={"status": "review"}, headers=admin)
            await http.post("/api/webhooks/midtrans", json=payment("settlement"))
            await http.post("/api/notifications/read", json={"upTo": 1}, headers=bearer("client"))
            await http.patch("/api/invoices/i-client", json={"status": "paid"}, headers=admin)
        message = {"toUserId": "admin", "subject": "by HTTP", "content": "c"}
        assert (await http.post("/api/messages", json=message, headers=bearer("client"))).status_code == 201
        broadcast = {"audience": {"users": ["client"]}, "type": "admin_alert", "title": "t", "message": "m"}
        for durable in (True, False):
            body = {**broadcast, "durable": durable, "data": {"a": 1}}
            assert (await http.post("/api/admin/websocket/broadcast", json=body, headers=admin)).status_code == 200
        async with opened(running.server, "admin", "admin") as socket:
            await until(lambda: len(ledger.opened) == 1)
            [ids] = await connection.fetch(
                "select id from public.real_time_notifications where user_id = 'admin' limit 1"
            )
            await send(socket, "project_update", {"projectId": "p-client", "newStatus": "completed"}, "r-1")
            await send(socket, "system_announcement", {"title": "t", "message": "m", "audience": "clients"})
            await send(socket, "admin_alert", {"event": "e", "message": "m", "projectId": "p-other"})
            await send(socket, "user_message", {"toUserId": "client", "subject": "s", "content": "c"})
            await send(socket, "ack", {"seq": 0})
            await send(socket, "read", {"ids": [ids["id"], "unknown"]})
            await send(socket, "refresh", {"token": connection_token("admin", "admin")})
            await until(lambda: len(ledger.frames) == 7)

        # The stop gives hooks a second; what is told then is told once too often.
        def all_told() -> bool:
            by_class = sum(len(told) for told in ledger.by_class.values())
            return (len(ledger.domain), by_class, len(ledger.closed), failures()) == (13, 13 + 7, 1, 13 + 7)

        await until(all_told, "every hook")
    assert [type(event) for event in ledger.domain] == [
        ProjectStatusChanged,
        InvoiceStatusChanged,
        ProjectStatusChanged,
        NotificationsRead,
        InvoiceStatusChanged,
        UserMessageSent,
        BroadcastMade,
        BroadcastMade,
        ProjectStatusChanged,
        AnnouncementMade,
        AdminsAlerted,
        UserMessageSent,
        NotificationsRead,
    ]
    http_project, invoice, paid_project, http_read, by_hand, http_message, *others = ledger.domain
    stored, sent, project, announced, alerted, by_frame, read = others
    assert http_project == ProjectStatusChanged(
        project_id="p-client",
        project_name="School site",
        owner_id="client",
        old_status="in_progress",
        new_status="review",
        by="Admin",
    )
    assert isinstance(invoice, InvoiceStatusChanged)
    assert (invoice.invoice_id, invoice.owner_id, invoice.by) == ("i-other", "other", "Midtrans")
    assert (invoice.old_status, invoice.new_status, str(invoice.amount)) == ("unpaid", "paid", "7.00")
    assert invoice.paid_at is not None
    assert isinstance(paid_project, ProjectStatusChanged)
    assert (paid_project.project_id, paid_project.by) == ("p-other", "Midtrans")
    assert http_read == NotificationsRead(user_id="client", ids=None, up_to=1, unread=0, rev=2)
    assert isinstance(by_hand, InvoiceStatusChanged)
    assert (by_hand.invoice_id, by_hand.new_status, by_hand.by) == ("i-client", "paid", "Admin")
    assert isinstance(http_message, UserMessageSent)
    assert (http_message.message.subject, http_message.message.from_user_id) == ("by HTTP", "client")
    assert stored == BroadcastMade(
        audience=("client",),
        type="admin_alert",
        title="t",
        message="m",
        data={"a": 1},
        durable=True,
        count=1,
        by="Admin",
    )
    assert isinstance(sent, BroadcastMade)
    assert (sent.durable, sent.count) == (False, 0)
    assert isinstance(project, ProjectStatusChanged)
    assert (project.old_status, project.new_status, project.by) == ("review", "completed", "Admin")
    assert isinstance(announced, AnnouncementMade)
    assert (announced.announcement.title, announced.audience, announced.recipients) == ("t", "clients", 2)
    assert isinstance(alerted, AdminsAlerted)
    assert (alerted.alert.project_id, alerted.recipients, alerted.by) == ("p-other", 2, "Admin")
    assert isinstance(by_frame, UserMessageSent)
    assert (by_frame.message.from_user_id, by_frame.message.to_user_id, by_frame.message.content) == (
        "admin",
        "client",
        "c",
    )
    assert isinstance(read, NotificationsRead)
    assert (read.user_id, read.ids, read.up_to) == ("admin", (ids["id"], "unknown"), None)
    # Every kind there is was told, to the hook of its own as to the one for all.
    for kind, told in ledger.by_class.items():
        every = [event for event in ledger.domain if type(event) is kind]
        assert told == every + [event for event in ledger.frames if type(event.message) is kind]
        assert told, kind
    assert {(item.connection_id, item.user_id) for item in ledger.frames} == {(ledger.opened[0].connection_id, "admin")}
    assert [item.ref for item in ledger.frames] == ["r-1", *["r"] * 6]
    assert (ledger.opened[0].user_id, ledger.opened[0].role, ledger.opened[0].name) == ("admin", "admin", "Admin")
    [end] = ledger.closed
    assert (end.connection_id, end.code, end.status) == (ledger.opened[0].connection_id, 1000, "disconnected")
    assert failures() == 13 + 7


async def test_what_is_refused_or_rolled_back_is_told_to_nobody(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    hooks = Hooks()
    ledger = Ledger(hooks)
    await connection.execute("alter table public.real_time_notifications add check (type <> 'project_update')")
    await connection.execute("alter table public.real_time_notifications add check (type <> 'payment_update')")
    async with application(settings, hooks) as running, AsyncExitStack() as stack:
        http = running.http
        responses = [
            await http.patch("/api/projects/p-client", json={"status": "review"}, headers=bearer("admin")),
            await http.patch("/api/projects/p-client", json={"status": "review"}, headers=bearer("client")),
            await http.post("/api/webhooks/midtrans", json=payment("settlement")),
            await http.post("/api/notifications/read", json={"upTo": 9}, headers=bearer("client")),
        ]
        assert [response.status_code for response in responses] == [500, 403, 500, 200]
        admin = await stack.enter_async_context(opened(running.server, "admin", "admin"))
        client = await stack.enter_async_context(opened(running.server, "client"))
        assert [(await frame(socket))["type"] for socket in (admin, client)] == ["sync"] * 2
        refused: list[tuple[Any, str, dict[str, Any], str]] = [
            (admin, "project_update", {"projectId": "p-client", "newStatus": "review"}, "internal"),
            (admin, "project_update", {"projectId": "none", "newStatus": "review"}, "not_found"),
            (admin, "system_announcement", {"title": "t"}, "invalid_data"),
            (client, "admin_alert", {"event": "e", "message": "m"}, "forbidden"),
            (client, "user_message", {"toUserId": "other", "subject": "s", "content": "c"}, "forbidden"),
            (client, "refresh", {"token": "none"}, "invalid_token"),
        ]
        for socket, kind, data, code in refused:
            await send(socket, kind, data)
            assert (await frame(socket))["data"]["code"] == code
        await stack.aclose()
        await until(lambda: len(ledger.opened) == len(ledger.closed) == 2, "the ends")
    assert ledger.domain == []
    assert ledger.frames == []
    assert len(ledger.opened) == len(ledger.closed) == 2


async def test_services_that_run_have_hooks_of_their_own(settings: Settings, pool: asyncpg.Pool) -> None:
    assert settings.database_url
    services = Services(settings, pool, Gateway(settings, settings.database_url))
    with pytest.raises(ValueError, match="to the node of the services"):
        create_app(settings, services=services, hooks=Hooks())


async def test_hooks_that_spin_delay_no_durable_frame_and_no_stop(settings: Settings, database_url: str) -> None:
    """One holds the application's event loop, one a thread; meanwhile a foreign program commits, and it is pushed."""
    hooks = Hooks()
    spinning, seen, released = threading.Event(), threading.Event(), threading.Event()
    told, pushed = list[str](), list[tuple[dict[str, Any], bool]]()

    @hooks.on(ProjectStatusChanged)
    async def spins_the_loop(_: ProjectStatusChanged) -> None:
        spinning.set()
        deadline = time.monotonic() + 30
        while not seen.is_set() and time.monotonic() < deadline:
            pass
        released.set()

    @hooks.on(ProjectStatusChanged)
    def spins_a_thread(_: ProjectStatusChanged) -> None:
        deadline = time.monotonic() + 50
        while time.monotonic() < deadline and not ended.is_set():
            pass

    @hooks.on(ProjectStatusChanged)
    def notes(event: ProjectStatusChanged) -> None:
        told.append(event.project_id)

    async def commit() -> None:
        own = await asyncpg.connect(database_url)
        await notifications.insert_many(
            own, [notifications.NewNotification(user_id="client", type="user_message", title="t", message="m", id="n")]
        )
        await own.close()

    def watch(url: str) -> None:
        headers = {"Authorization": f"Bearer {connection_token('client')}"}
        with websockets.sync.client.connect(url, additional_headers=headers) as socket:
            socket.recv(timeout=20), socket.recv(timeout=20)
            connected.set()
            spinning.wait(20)
            asyncio.run(commit())
            got = json.loads(socket.recv(timeout=20))
            pushed.append((got, released.is_set()))
            seen.set()

    connected, ended = threading.Event(), threading.Event()
    try:
        async with application(settings, hooks) as running:
            watching = threading.Thread(target=watch, args=(socket_url(running.server),))
            watching.start()
            await until(connected.is_set)
            await running.http.patch("/api/projects/p-other", json={"status": "review"}, headers=bearer("admin"))
            await until(seen.is_set)
            await asyncio.to_thread(watching.join, 20)
            assert released.is_set()
            [(got, was_released)] = pushed
            assert (got["id"], got["seq"], was_released) == ("n", 1, False)
            await until(lambda: told == ["p-other"], "the hook that does not spin")
            assert not ended.is_set()
    finally:
        ended.set()
