"""The inbox that `RealtimePlugin` brings: what clients read where too much was missed, by the application's log-in."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from litestar import Litestar, Request, get
from litestar.config.csrf import CSRFConfig
from litestar.exceptions import ImproperlyConfiguredException

from jasaweb_rt import RealtimePlugin
from jasaweb_rt.client import RealtimeClient
from jasaweb_rt.config import Settings
from jasaweb_rt.database.notifications import NewNotification, insert_many
from tests.support.asgi import served
from tests.support.bad_json import faults_of
from tests.support.databases import add_users
from tests.support.tokens import SECRET

MISSED = 700


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(jwt_secret=SECRET, token_secret=SECRET, database_url=database_url, port=0, drain_seconds=1)


@pytest.fixture(autouse=True)
async def filled(connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"), ("budi", "client"))


def who(request: Request[Any, Any, Any]) -> str | None:
    return request.headers.get("x-user")


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = Litestar(plugins=[RealtimePlugin(settings, identify=who)], logging_config=None)
    async with served(app) as url, httpx.AsyncClient(base_url=url, headers={"x-user": "anna"}, timeout=30) as http:
        yield http


async def store(connection: asyncpg.Connection, count: int) -> list[str]:
    new = [
        NewNotification(
            user_id="anna", type="project_update", title=f"Step {number}", message="Done", data={"n": number}
        )
        for number in range(1, count + 1)
    ]
    return await insert_many(connection, new)


async def test_the_caller_pages_through_the_inbox_and_marks_it_read(
    http: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    ids = await store(connection, 3)
    response = await http.get("/api/notifications", params={"after": 1, "limit": 1})
    assert response.headers["cache-control"] == "no-store"
    page = response.json()
    assert [(item["id"], item["seq"], item["title"], item["data"]) for item in page["items"]] == [
        (ids[1], 2, "Step 2", {"n": 2})
    ]
    assert (page["headSeq"], page["unread"], page["total"]) == (3, 3, 3)
    read = await http.post("/api/notifications/read", json={"upTo": 2})
    assert (read.status_code, read.json()["unread"]) == (200, 1)
    unread = await http.get("/api/notifications", params={"unread": "true"})
    assert [item["seq"] for item in unread.json()["items"]] == [3]
    other = await http.get("/api/notifications", headers={"x-user": "budi"})
    assert (other.json()["items"], other.json()["headSeq"]) == ([], 0)


async def test_nobody_and_wrong_input_are_refused(http: httpx.AsyncClient) -> None:
    refused = await http.get("/api/notifications", headers={"x-user": "not-in-the-table-users"})
    assert (refused.status_code, refused.json()) == (401, {"success": False, "error": "Authentication required"})
    assert (await http.post("/api/notifications/read", json={"upTo": 1}, headers={"x-user": "x"})).status_code == 401
    for path in ("/api/notifications?after=-1", "/api/notifications?limit=0", "/api/notifications?limit=501"):
        wrong = await http.get(path)
        assert (wrong.status_code, wrong.json()["success"]) == (400, False)
    assert (await http.post("/api/notifications/read", json={"ids": [], "upTo": 1})).status_code == 400
    # As the form of a foreign page could send it.
    plain = await http.post("/api/notifications/read", content='{"upTo": 1}', headers={"content-type": "text/plain"})
    assert plain.status_code == 415


class TheirRequest(Request[Any, Any, Any]):
    """As an application may have one of its own."""

    @property
    def person(self) -> str | None:
        return self.headers.get("x-user")


async def test_input_is_read_strictly_and_the_applications_request_stays_its_own(settings: Settings) -> None:
    def their_word(request: Request[Any, Any, Any]) -> str | None:
        assert isinstance(request, TheirRequest)
        return request.person

    app = Litestar(
        plugins=[RealtimePlugin(settings, identify=their_word)], request_class=TheirRequest, logging_config=None
    )
    async with served(app) as url, httpx.AsyncClient(base_url=url, headers={"x-user": "anna"}, timeout=30) as http:
        for fault in faults_of({"upTo": 1}):
            headers = {"Content-Type": "application/json"}
            wrong = await http.post("/api/notifications/read", content=fault.text, headers=headers)
            assert wrong.status_code == 400, fault.name
            assert fault.words in wrong.json()["error"], fault.name
        wrong = await http.get("/api/notifications?moreOfIt=1")
        assert (wrong.status_code, "moreOfIt" in wrong.json()["error"]) == (400, True)
        assert (await http.post("/api/notifications/read", json={"upTo": 1})).status_code == 200


async def test_a_client_who_missed_too_much_gets_through(
    http: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await store(connection, MISSED)
    token = (await http.post("/api/websocket/token")).json()

    async def fetch_page(after: int, limit: int) -> dict[str, Any]:
        page: dict[str, Any] = (await http.get("/api/notifications", params={"after": after, "limit": limit})).json()
        return page

    seen: list[int] = []
    async with RealtimeClient(token["connectionUrl"], token["token"], last_seq=0, fetch_page=fetch_page) as client:
        async for frame in client:
            if "seq" in frame:
                seen.append(frame["seq"])
            if seen and seen[-1] == MISSED:
                break
    assert seen == list(range(1, MISSED + 1))


async def test_the_applications_csrf_protection_holds_for_what_changes_something(settings: Settings) -> None:
    app = Litestar(
        plugins=[RealtimePlugin(settings, identify=who)],
        csrf_config=CSRFConfig(secret="s" * 32),
        logging_config=None,
    )
    async with served(app) as url, httpx.AsyncClient(base_url=url, headers={"x-user": "anna"}, timeout=30) as http:
        refused = await http.post("/api/notifications/read", json={"upTo": 1})
        assert refused.status_code == 403
        assert (await http.get("/api/notifications")).status_code == 200
        # As realtime.js does it.
        read = await http.post(
            "/api/notifications/read", json={"upTo": 1}, headers={"x-csrftoken": http.cookies["csrftoken"]}
        )
        assert read.status_code == 200


async def test_it_can_stand_elsewhere_or_be_left_to_the_application(settings: Settings) -> None:
    @get("/api/notifications")
    async def mine() -> str:
        return "mine"

    with pytest.raises(ImproperlyConfiguredException):
        Litestar([mine], plugins=[RealtimePlugin(settings, identify=who)])
    headers = {"x-user": "anna"}
    elsewhere = RealtimePlugin(settings, identify=who, inbox_path="/rt/inbox")
    app = Litestar([mine], plugins=[elsewhere], logging_config=None)
    async with served(app) as url, httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as http:
        assert (await http.get("/rt/inbox")).json()["headSeq"] == 0
        assert (await http.get("/api/notifications")).text == "mine"
    left = RealtimePlugin(settings, identify=who, inbox_path=None)
    app = Litestar([mine], plugins=[left], logging_config=None)
    async with served(app) as url, httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as http:
        assert (await http.get("/api/notifications")).text == "mine"
        assert (await http.post("/api/notifications/read")).status_code == 404
