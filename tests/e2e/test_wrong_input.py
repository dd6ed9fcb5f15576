"""Wrong input, by every way in: each has its clear answer, changes nothing, reaches nobody, and is forgotten.

What one route or one decoder refuses beyond this is tested beside it (tests/unit/test_messages.py,
tests/integration/http).
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from jasaweb_rt.database import invoices
from jasaweb_rt.database.invoices import NewInvoice
from tests.support.live_sockets import connection_token, nothing_waits, socket_of, socket_url, sockets_of
from tests.support.payments import midtrans_body
from tests.support.people import PASSWORD, bearer, session_token
from tests.support.snapshot import snapshot
from tests.support.sockets import closed, frame

BYSTANDERS = ("client", "other", "admin", "second-admin")
PROJECT_UPDATE = {"projectId": "p-client", "newStatus": "review"}
ANNOUNCEMENT = {"title": "Maintenance", "message": "Tonight at ten"}
ALERT = {"event": "disk_full", "message": "One percent is left"}
MESSAGE = {"toUserId": "admin", "subject": "Logo", "content": "Make it bigger"}


@pytest.fixture(autouse=True)
async def stored(http: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    """Orders to be paid, one that was refunded, and something unread of each client."""
    await invoices.insert_missing(connection, [NewInvoice("i-refunded", "p-client", Decimal(9), "refunded")])
    await connection.execute("update public.invoices set midtrans_order_id = 'order-' || id")
    await connection.execute(
        "insert into public.real_time_notifications (id, user_id, type, title, message)"
        " select 'n-' || name, name, 'user_message', 'Hello', 'World' from unnest(array['client', 'other']) name"
    )


@pytest.fixture
async def bystanders(http: httpx.AsyncClient, stored: None) -> AsyncIterator[list[ClientConnection]]:
    """A socket of everyone."""
    async with sockets_of(http, *BYSTANDERS) as sockets:
        yield sockets


@asynccontextmanager
async def unchanged(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """The database holds the same after the block as before."""
    before = await snapshot(connection)
    yield
    assert await snapshot(connection) == before


class WrongFrame(NamedTuple):
    name: str
    sender: str
    sent: str
    code: str
    words: str
    ref: str | None = "mine"


def wrong(name: str, sender: str, kind: str, data: object, code: str, words: str) -> WrongFrame:
    return WrongFrame(name, sender, json.dumps({"type": kind, "data": data, "id": "mine"}), code, words)


NO_FRAME = "A frame is a JSON object with `type` and `data`"


def no_frame(name: str, sent: str, words: str = NO_FRAME) -> WrongFrame:
    return WrongFrame(name, "client", sent, "invalid_frame", words, None)


def invalid(name: str, kind: str, data: object, words: str, sender: str = "admin") -> WrongFrame:
    return wrong(name, sender, kind, data, "invalid_data", words)


ADMINS_ONLY = "Only an administrator may do this"
WRONG_FRAMES = [
    no_frame("malformed JSON", '{"type": "read", "data"', "not valid JSON"),
    no_frame("nothing at all", "", "not valid JSON"),
    no_frame("not an object", '["read", {}]'),
    no_frame("nested without end", "[" * 50_000, "nested too deep"),
    no_frame("no type", '{"data": {}, "id": "mine"}'),
    no_frame("no data", '{"type": "read", "id": "mine"}'),
    no_frame("a type that is no text", '{"type": 5, "data": {}, "id": "mine"}'),
    wrong("unknown type", "client", "dance", {}, "unknown_type", "not known"),
    wrong("a type that only the server sends", "admin", "payment_update", {}, "unknown_type", "not known"),
    wrong("a control frame of the server's", "client", "sync", {}, "unknown_type", "not known"),
    WrongFrame("an id that is no text", "client", '{"type":"x","data":{},"id":7}', "unknown_type", "not known", None),
    invalid("data that is no object", "read", [], "object"),
    invalid("data that is null", "read", None, "object"),
    invalid("missing field: newStatus", "project_update", {"projectId": "p-client"}, "newStatus"),
    invalid("missing field: title", "system_announcement", {"message": "m"}, "title"),
    invalid("missing field: event", "admin_alert", {"message": "m"}, "event"),
    invalid("missing field: content", "user_message", {"toUserId": "admin", "subject": "s"}, "content", "client"),
    invalid("missing field: seq", "ack", {}, "seq", "client"),
    invalid("missing field: token", "refresh", {}, "token", "client"),
    invalid("missing field: ids or upTo", "read", {}, "either `ids` or `upTo`", "client"),
    invalid("both ids and upTo", "read", {"ids": ["n-client"], "upTo": 1}, "either `ids` or `upTo`", "client"),
    invalid("wrong type: newStatus", "project_update", {**PROJECT_UPDATE, "newStatus": 5}, "newStatus"),
    invalid("wrong type: requiresAction", "admin_alert", {**ALERT, "requiresAction": "yes"}, "requiresAction"),
    invalid("wrong type: ids", "read", {"ids": "n-client"}, "ids", "client"),
    invalid("wrong type: one of the ids", "read", {"ids": ["n-client", 5]}, "ids", "client"),
    invalid("wrong type: seq", "ack", {"seq": "1"}, "seq", "client"),
    invalid("unknown field of project_update", "project_update", {**PROJECT_UPDATE, "name": "x"}, "name"),
    invalid(
        "unknown field of user_message", "user_message", {**MESSAGE, "fromUserId": "admin"}, "fromUserId", "client"
    ),
    invalid("unknown field of read", "read", {"upTo": 1, "userId": "other"}, "userId", "client"),
    invalid("unknown status", "project_update", {**PROJECT_UPDATE, "newStatus": "finished"}, "newStatus"),
    invalid("unknown priority", "system_announcement", {**ANNOUNCEMENT, "priority": "urgent"}, "priority"),
    invalid("unknown audience", "system_announcement", {**ANNOUNCEMENT, "audience": "nobody"}, "audience"),
    invalid("a script for a link", "system_announcement", {**ANNOUNCEMENT, "actionUrl": "javascript:x"}, "actionUrl"),
    invalid("an empty subject", "user_message", {**MESSAGE, "subject": ""}, "subject", "client"),
    invalid("a subject that is too long", "user_message", {**MESSAGE, "subject": "s" * 201}, "subject", "client"),
    invalid("what PostgreSQL cannot keep", "user_message", {**MESSAGE, "content": "a\0b"}, "content", "client"),
    invalid("no ids", "read", {"ids": []}, "ids", "client"),
    invalid("too many ids", "read", {"ids": ["n"] * 501}, "ids", "client"),
    invalid("a negative upTo", "read", {"upTo": -1}, "upTo", "client"),
    invalid("an upTo beyond 64 bits", "read", {"upTo": 2**63}, "upTo", "client"),
    invalid("an ack beyond what was sent", "ack", {"seq": 2}, "seq", "client"),
    wrong(
        "unknown project", "admin", "project_update", {**PROJECT_UPDATE, "projectId": "p-none"}, "not_found", "project"
    ),
    wrong(
        "alert of an unknown project", "admin", "admin_alert", {**ALERT, "projectId": "p-none"}, "not_found", "project"
    ),
    wrong("a client's own project", "client", "project_update", PROJECT_UPDATE, "forbidden", ADMINS_ONLY),
    wrong("a foreign project", "other", "project_update", PROJECT_UPDATE, "forbidden", ADMINS_ONLY),
    wrong("an announcement from a client", "client", "system_announcement", ANNOUNCEMENT, "forbidden", ADMINS_ONLY),
    wrong("an alert from a client", "client", "admin_alert", ALERT, "forbidden", ADMINS_ONLY),
    wrong(
        "a message to a stranger", "client", "user_message", {**MESSAGE, "toUserId": "other"}, "forbidden", "may write"
    ),
    wrong("a message to nobody", "client", "user_message", {**MESSAGE, "toUserId": "nobody"}, "forbidden", "may write"),
    wrong("an admin's to nobody", "admin", "user_message", {**MESSAGE, "toUserId": "nobody"}, "not_found", "user"),
    wrong("a refresh by nonsense", "client", "refresh", {"token": "nonsense"}, "invalid_token", "not valid"),
    wrong("by a session", "client", "refresh", {"token": session_token("client")}, "invalid_token", "not valid"),
]


async def right_frame_works(socket: ClientConnection, recipient: ClientConnection, subject: str) -> None:
    """Sends a message that is allowed, and sees it arrive."""
    data = {"toUserId": "second-admin", "subject": subject, "content": "c"}
    await socket.send(json.dumps({"type": "user_message", "data": data, "id": "right"}))
    assert (await frame(recipient))["data"]["subject"] == subject


async def test_a_wrong_frame(
    http: httpx.AsyncClient,
    connection: asyncpg.Connection,
    bystanders: list[ClientConnection],
    subtests: pytest.Subtests,
) -> None:
    for case in WRONG_FRAMES:
        with subtests.test(case.name):
            async with socket_of(http, case.sender) as socket:
                async with unchanged(connection):
                    await socket.send(case.sent)
                    error = await frame(socket)
                    assert error["type"] == "error"
                    assert (error["data"]["code"], error["data"]["ref"]) == (case.code, case.ref)
                    assert case.words in error["data"]["message"]
                    await nothing_waits(http, socket, *bystanders)
                await right_frame_works(socket, bystanders[-1], case.name)


async def test_a_refresh_with_another_users_token(
    http: httpx.AsyncClient, connection: asyncpg.Connection, bystanders: list[ClientConnection]
) -> None:
    token = await connection_token(http, "other")
    async with socket_of(http, "client") as socket, unchanged(connection):
        await socket.send(json.dumps({"type": "refresh", "data": {"token": token}, "id": "mine"}))
        error = (await frame(socket))["data"]
        assert error == {"code": "invalid_token", "message": "The token is another user's", "ref": "mine"}
        await nothing_waits(http, socket, *bystanders)


@pytest.mark.parametrize("ids", [["n-other"], ["n-none"]])
async def test_a_read_of_foreign_ids_is_passed_over(
    http: httpx.AsyncClient, connection: asyncpg.Connection, bystanders: list[ClientConnection], ids: list[str]
) -> None:
    """No error, since a notification may have been deleted meanwhile; and no telling of what others have."""
    async with socket_of(http, "client") as socket:
        async with unchanged(connection):
            await socket.send(json.dumps({"type": "read", "data": {"ids": ids}, "id": "mine"}))
            response = await http.post("/api/notifications/read", json={"ids": ids}, headers=bearer("client"))
            assert (response.status_code, response.json()["unread"]) == (200, 1)
            # A user's frames are carried out in order, so the answer to this one comes after the other's effect.
            await socket.send('{"type": "dance", "data": {}, "id": "last"}')
            assert (await frame(socket))["data"]["ref"] == "last"
            await nothing_waits(http, socket, *bystanders)
        await right_frame_works(socket, bystanders[-1], "after it")


async def test_what_ends_the_connection(
    http: httpx.AsyncClient, connection: asyncpg.Connection, bystanders: list[ClientConnection]
) -> None:
    big = json.dumps({"type": "user_message", "data": {**MESSAGE, "content": "x" * 65_536}})
    ends: list[tuple[str | bytes, tuple[int, str]]] = [
        (big, (1009, "Message too big")),
        (b'{"type": "read", "data": {"upTo": 1}}', (1003, "Binary frames are not accepted")),
    ]
    async with unchanged(connection):
        for sent, end in ends:
            async with socket_of(http, "client") as socket:
                await socket.send(sent)
                assert await closed(socket) == end
        await nothing_waits(http, *bystanders)


async def test_twenty_wrong_frames_in_a_minute_end_the_connection(
    http: httpx.AsyncClient, connection: asyncpg.Connection, bystanders: list[ClientConnection]
) -> None:
    async with socket_of(http, "client") as socket, unchanged(connection):
        for number in range(19):
            await socket.send(json.dumps({"type": "system_announcement", "data": ANNOUNCEMENT, "id": str(number)}))
            assert (await frame(socket))["data"]["ref"] == str(number)
        await nothing_waits(http, socket)
        await socket.send("{")
        assert await closed(socket) == (1008, "Rate limit exceeded")
        await nothing_waits(http, *bystanders[1:])


class WrongRequest(NamedTuple):
    name: str
    who: str | None
    method: str
    path: str
    body: Any
    """Sent as JSON; bytes are sent as they are."""
    status: int
    words: str


PROJECT = "/api/projects/p-client"
INVOICE = "/api/invoices/i-client"
MESSAGES = "/api/messages"
PAID = {"status": "paid"}
READ = "/api/notifications/read"
BROADCAST = "/api/admin/websocket/broadcast"
WORD = {"audience": "all", "type": "system_announcement", **ANNOUNCEMENT}
LOG_IN = {"email": "client@jasaweb.test", "password": PASSWORD}
WRONG_REQUESTS = [
    WrongRequest("malformed JSON", "admin", "PATCH", PROJECT, b'{"status":', 400, "JSON"),
    WrongRequest("invalid UTF-8", "admin", "PATCH", PROJECT, b'{"status":"\xff"}', 400, "JSON"),
    WrongRequest("nested without end", "client", "POST", MESSAGES, b"[" * 100_000, 400, "too deep"),
    WrongRequest("no body", "admin", "PATCH", PROJECT, b"", 400, "The body is missing"),
    WrongRequest("not an object", "admin", "PATCH", PROJECT, ["review"], 400, "object"),
    WrongRequest("missing field", "admin", "PATCH", PROJECT, {}, 400, "status"),
    WrongRequest("wrong type of field", "admin", "PATCH", PROJECT, {"status": 5}, 400, "status"),
    WrongRequest("unknown field", "admin", "PATCH", PROJECT, {"status": "review", "name": "x"}, 400, "name"),
    WrongRequest("unknown status", "admin", "PATCH", PROJECT, {"status": "finished"}, 400, "status"),
    WrongRequest("unknown project", "admin", "PATCH", "/api/projects/none", {"status": "review"}, 404, "project"),
    WrongRequest("a client's own project", "client", "PATCH", PROJECT, {"status": "review"}, 403, ADMINS_ONLY),
    WrongRequest("a foreign project", "other", "PATCH", PROJECT, {"status": "review"}, 403, ADMINS_ONLY),
    WrongRequest("nobody", None, "PATCH", PROJECT, {"status": "review"}, 401, "Authentication required"),
    WrongRequest("an invoice that is not paid", "admin", "PATCH", INVOICE, {"status": "unpaid"}, 400, "status"),
    WrongRequest("another amount", "admin", "PATCH", INVOICE, {**PAID, "amount": 1}, 400, "amount"),
    WrongRequest("a refunded invoice", "admin", "PATCH", "/api/invoices/i-refunded", PAID, 409, "refunded"),
    WrongRequest("an unknown invoice", "admin", "PATCH", "/api/invoices/none", PAID, 404, "invoice"),
    WrongRequest("a client's own invoice", "client", "PATCH", INVOICE, PAID, 403, ADMINS_ONLY),
    WrongRequest("a foreign invoice", "other", "PATCH", INVOICE, PAID, 403, ADMINS_ONLY),
    WrongRequest("a message to a stranger", "client", "POST", MESSAGES, {**MESSAGE, "toUserId": "other"}, 403, "may"),
    WrongRequest("a message to nobody", "client", "POST", MESSAGES, {**MESSAGE, "toUserId": "none"}, 403, "may"),
    WrongRequest("an admin's to nobody", "admin", "POST", MESSAGES, {**MESSAGE, "toUserId": "none"}, 404, "user"),
    WrongRequest("a message of nobody", None, "POST", MESSAGES, MESSAGE, 401, "Authentication required"),
    WrongRequest("another's name", "client", "POST", MESSAGES, {**MESSAGE, "fromUserId": "x"}, 400, "fromUserId"),
    WrongRequest("an empty message", "client", "POST", MESSAGES, {**MESSAGE, "content": ""}, 400, "content"),
    WrongRequest("what cannot be kept", "client", "POST", MESSAGES, {**MESSAGE, "content": "a\0"}, 400, "content"),
    WrongRequest("a method that there is not", "admin", "DELETE", PROJECT, None, 405, "not allowed"),
    WrongRequest("a read of nothing", "client", "POST", READ, {}, 400, "either `ids` or `upTo`"),
    WrongRequest("a read of both", "client", "POST", READ, {"ids": ["n-client"], "upTo": 1}, 400, "either"),
    WrongRequest("a read beyond 64 bits", "client", "POST", READ, {"upTo": 2**63}, 400, "upTo"),
    WrongRequest("another's name in a read", "client", "POST", READ, {"upTo": 1, "userId": "other"}, 400, "userId"),
    WrongRequest("an oversize body", "client", "POST", READ, {"ids": ["n" * 1_100_000]}, 413, "too large"),
    WrongRequest("an announcement from a client", "client", "POST", BROADCAST, WORD, 403, ADMINS_ONLY),
    WrongRequest("to an unknown audience", "admin", "POST", BROADCAST, {**WORD, "audience": "nobody"}, 400, "audience"),
    WrongRequest(
        "to an unknown user", "admin", "POST", BROADCAST, {**WORD, "audience": {"users": ["x"]}}, 404, "exist"
    ),
    WrongRequest("a token for nobody", None, "POST", "/api/websocket/token", None, 401, "Authentication required"),
    WrongRequest("a log-in from nowhere", None, "POST", "/api/auth/login", LOG_IN, 403, "Origin"),
]


def payment(name: str, status: int, words: str, *signed: str, **changed: Any) -> WrongRequest:
    """A settlement whose order, amount and code were well signed, then `changed`; what becomes None is left out."""
    body = midtrans_body("settlement", *signed, **changed)
    body = {key: value for key, value in body.items() if value is not None}
    return WrongRequest(name, None, "POST", "/api/webhooks/midtrans", body, status, words)


WRONG_PAYMENTS = [
    WrongRequest("malformed JSON", None, "POST", "/api/webhooks/midtrans", b'{"order_id"', 400, "JSON"),
    WrongRequest("invalid UTF-8", None, "POST", "/api/webhooks/midtrans", b'{"order_id":"\xff"}', 400, "JSON"),
    WrongRequest("not an object", None, "POST", "/api/webhooks/midtrans", [], 400, "object"),
    payment("no signature", 400, "signature_key", signature_key=None),
    payment("bad signature", 403, "signature", signature_key="0" * 128),
    payment("signed with another key", 403, "signature", order_id="order-i-client"),
    payment("signed for another amount", 403, "signature", gross_amount="1.00"),
    payment("signed for another code", 403, "signature", status_code="201"),
    payment("wrong amount", 409, "amount", "order-i-other", "7.01"),
    payment("unknown invoice", 404, "no invoice", "order-none"),
    payment("an order that is no text", 400, "order_id", order_id=7),
    payment("an amount that is no amount", 400, "gross_amount", gross_amount="seven"),
    payment("an unknown status", 400, "transaction_status", transaction_status="dancing"),
    payment("a payment under another code", 400, "201", "order-i-other", "7.00", "201"),
]


async def send(http: httpx.AsyncClient, case: WrongRequest) -> httpx.Response:
    headers = {} if case.who is None else bearer(case.who)
    if isinstance(case.body, bytes):
        headers["Content-Type"] = "application/json"
        return await http.request(case.method, case.path, content=case.body, headers=headers)
    return await http.request(case.method, case.path, json=case.body, headers=headers)


@pytest.mark.parametrize("cases", [WRONG_REQUESTS, WRONG_PAYMENTS], ids=["requests", "payments"])
async def test_a_wrong_request(
    http: httpx.AsyncClient,
    connection: asyncpg.Connection,
    bystanders: list[ClientConnection],
    subtests: pytest.Subtests,
    cases: list[WrongRequest],
) -> None:
    for case in cases:
        with subtests.test(case.name):
            async with unchanged(connection):
                response = await send(http, case)
                assert (response.status_code, list(response.json())) == (case.status, ["success", "error"])
                assert response.json()["success"] is False
                assert case.words in response.json()["error"]
                await nothing_waits(http, *bystanders)


WRONG_UPGRADES: list[tuple[str, str | None, int, str]] = [
    ("last_seq=x", None, 400, "last_seq"),
    ("last_seq=-1", None, 400, "last_seq"),
    ("last_seq=0&epoch=%00", None, 400, "epoch"),
    ("batch=2", None, 400, "batch"),
    ("", "http://evil.test", 403, "Origin"),
]


async def test_a_wrong_upgrade(http: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for query, origin, status, words in WRONG_UPGRADES:
        url = f"{socket_url(http)}?token={await connection_token(http, 'client')}&{query}"
        with subtests.test(query or origin):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(url, origin=None if origin is None else Origin(origin)):
                    pass
            response = refused.value.response
            assert response.status_code == status
            assert words in json.loads(response.body)["error"]


async def test_a_change_from_a_foreign_page(
    http: httpx.AsyncClient, connection: asyncpg.Connection, bystanders: list[ClientConnection]
) -> None:
    """By cookie, without the CSRF header."""
    cookie = {"Cookie": f"auth_token={session_token('admin')}"}
    async with unchanged(connection):
        changes: list[tuple[str, str, dict[str, Any]]] = [
            ("PATCH", PROJECT, {"status": "review"}),
            ("PATCH", INVOICE, PAID),
            ("POST", BROADCAST, WORD),
            ("POST", MESSAGES, MESSAGE),
        ]
        for method, path, body in changes:
            response = await http.request(method, path, json=body, headers=cookie)
            assert response.status_code == 403
            assert "CSRF" in response.json()["error"]
        await nothing_waits(http, *bystanders)
