"""Wrong input to every route that takes any: refused by the name of what is wrong, and nothing changes."""

import json
from urllib.parse import quote

import asyncpg
import pytest

from jasaweb_rt.config import Settings
from jasaweb_rt.gateway import Gateway
from tests.integration.http.conftest import Client
from tests.support import tokens
from tests.support.bad_json import faults_of
from tests.support.payments import KEY
from tests.support.people import SECRET, bearer
from tests.support.routes import MISSING, ROUTES, Route, named
from tests.support.snapshot import snapshot_of_all


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(
        jwt_secret=SECRET, token_secret=tokens.SECRET, port=0, database_url=database_url, midtrans_server_key=KEY
    )


API = [route for route in ROUTES if route.path.startswith("/api/")]
WITH_BODY = [route for route in ROUTES if route.reads_body]
WITH_ID = [route for route in API if "{" in route.path]
# The provider of payments sends more than is looked at, and may send more still.
OPEN = ("/api/webhooks/midtrans",)


OTHER_KINDS = [
    None,
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/msgpack",
    "application/jsonp",
    "application/json; charset=utf-16",
    "text/plain, application/json",
]
BAD_IDS = ["\0", "a\0b", "x" * 201, "' or 1=1 --", "%", "😀", "../x", "a/b", "\ud800", "", "1e400"]


def headers_of(route: Route) -> dict[str, str]:
    return {**bearer("admin"), "Content-Type": "application/json", **route.headers}


@pytest.mark.parametrize("route", WITH_BODY, ids=named)
async def test_a_wrong_body(
    client: Client, connection: asyncpg.Connection, subtests: pytest.Subtests, route: Route
) -> None:
    before = await snapshot_of_all(connection)
    body = route.body if route.path not in OPEN else {"order_id": "order-i-other", **route.body}
    for fault in faults_of(body):
        if route.path in OPEN and fault.name in ("an unknown field", "a very long name"):
            continue
        with subtests.test(fault.name):
            answer = await client.request(route.method, route.target, content=fault.text, headers=headers_of(route))
            assert (answer.status_code, list(answer.json())) == (400, ["success", "error"]), answer.text
            assert fault.words in answer.json()["error"]
            assert len(answer.content) < 40_000
    assert await snapshot_of_all(connection) == before


@pytest.mark.parametrize("route", WITH_BODY, ids=named)
async def test_a_body_of_another_kind(
    client: Client, connection: asyncpg.Connection, subtests: pytest.Subtests, route: Route
) -> None:
    before = await snapshot_of_all(connection)
    for kind in OTHER_KINDS:
        with subtests.test(kind or "no kind"):
            headers = {name: value for name, value in headers_of(route).items() if name != "Content-Type"}
            headers |= {} if kind is None else {"Content-Type": kind}
            content = json.dumps(route.body)
            answer = await client.request(route.method, route.target, content=content, headers=headers)
            assert answer.status_code == 415, answer.text
            assert "application/json" in answer.json()["error"]
    assert await snapshot_of_all(connection) == before


@pytest.mark.parametrize("route", WITH_BODY, ids=named)
async def test_no_body(client: Client, connection: asyncpg.Connection, route: Route) -> None:
    before = await snapshot_of_all(connection)
    answer = await client.request(route.method, route.target, headers=headers_of(route))
    assert (answer.status_code, answer.json()["error"]) == (400, "The body is missing")
    assert await snapshot_of_all(connection) == before


@pytest.mark.parametrize("route", WITH_BODY, ids=named)
async def test_a_body_that_is_too_large(client: Client, connection: asyncpg.Connection, route: Route) -> None:
    before = await snapshot_of_all(connection)
    content = b'{"a":"' + b"a" * 1_000_000 + b'"}'
    answer = await client.request(route.method, route.target, content=content, headers=headers_of(route))
    assert (answer.status_code, answer.json()["error"]) == (413, "The body is too large")
    assert await snapshot_of_all(connection) == before


@pytest.mark.parametrize("route", API, ids=named)
async def test_a_wrong_query(
    client: Client, connection: asyncpg.Connection, subtests: pytest.Subtests, route: Route
) -> None:
    before = await snapshot_of_all(connection)
    name = route.query[0] if route.query else "x"
    faults = [("an unknown name", "moreOfIt=1", "moreOfIt"), ("no value", "moreOfIt", "moreOfIt")]
    faults += [("bytes that are no UTF-8", f"{name}=%ff", "UTF-8"), ("a surrogate", f"{name}=%ed%a0%80", "UTF-8")]
    faults += [("too many", "&".join(f"x{n}=1" for n in range(500)), "parameters"), ("a NUL's name", "%00=1", "x00")]
    for known in route.query:
        faults.append((f"{known} twice", f"{known}=1&{known}=1", known))
        faults.append((f"{known} with a NUL", f"{known}=a%00", known))
        if known not in ("search", "userId"):
            wrong = ["", "x", "-1", "1e400", "9" * 1000, "1.5", "%F0%9F%98%80", "NaN", "0x1", "%5B%5D"]
            faults += [(f"{known}={value[:9]}", f"{known}={value}", known) for value in wrong]
        faults.append((f"{known} that is very long", f"{known}={'x' * 2000}", known))
    for fault, query, words in faults:
        if fault == "userId that is very long":
            continue  # nobody has such an id
        with subtests.test(fault):
            url = f"{route.target}?{query}"
            answer = await client.request(route.method, url, json=route.body, headers=headers_of(route))
            assert (answer.status_code, list(answer.json())) == (400, ["success", "error"]), answer.text
            assert words in answer.json()["error"]
    assert await snapshot_of_all(connection) == before


@pytest.mark.parametrize("route", WITH_ID, ids=named)
async def test_an_id_that_is_none(
    client: Client, gateway: Gateway, connection: asyncpg.Connection, subtests: pytest.Subtests, route: Route
) -> None:
    before = await snapshot_of_all(connection)
    for bad in BAD_IDS:
        with subtests.test(ascii(bad)[:20]):
            encoded = quote(bad.encode("utf-8", "surrogatepass"), safe="")
            url = route.path.partition("{")[0] + encoded + route.path.partition("}")[2]
            answer = await client.request(route.method, url, json=route.body, headers=headers_of(route))
            assert answer.status_code in (400, 404, 405), answer.text
            assert list(answer.json()) == ["success", "error"]
    assert await snapshot_of_all(connection) == before


async def test_ids_are_parameters_and_not_part_of_a_statement(client: Client, connection: asyncpg.Connection) -> None:
    """What would end a string, a comment or a statement finds nothing, wherever it may be given."""
    before = await snapshot_of_all(connection)
    for text in ("' or '1'='1", "'; drop table users; --", "$1", "%s", "{0}", "\\'", "/*", "p-client'"):
        messages = {"toUserId": text, "subject": text, "content": text}
        assert (await client.post("/api/messages", json=messages, headers=bearer("admin"))).status_code == 404
        found = await client.get("/api/users", params={"search": text}, headers=bearer("admin"))
        assert (found.status_code, found.json()["total"]) == (200, 0)
        read = await client.post("/api/notifications/read", json={"ids": [text, MISSING]}, headers=bearer("admin"))
        assert read.status_code == 200
        log_in = {"email": text, "password": text}
        answer = await client.post("/api/auth/login", json=log_in, headers={"Origin": "http://rt.test"})
        assert answer.status_code == 401
    assert await snapshot_of_all(connection) == before
