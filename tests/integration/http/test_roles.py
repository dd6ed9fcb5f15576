"""Every route against everyone: its status, that it shows nobody what is another's, and that a refusal changes nothing.

Where an id belongs to somebody else, the answer is the one for an id that nothing has.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest
from litestar import Litestar

from jasaweb_rt import RealtimePlugin
from jasaweb_rt.app import create_app
from jasaweb_rt.config import Settings
from jasaweb_rt.database import invoices, users
from jasaweb_rt.database.users import NewUser
from jasaweb_rt.gateway import Gateway
from tests.integration.http.conftest import Client
from tests.support import tokens
from tests.support.asgi import served
from tests.support.credentials import log_out, sessions_of_nobody
from tests.support.payments import KEY
from tests.support.people import SECRET, password_hash, session_token
from tests.support.routes import MISSING, PLUGIN_ROUTES, ROUTES, Route, named, routes_of
from tests.support.snapshot import snapshot_of_all
from tests.support.sockets import WAIT_SECONDS

SAFE = {"GET"}
OWNED = {
    "client": ("p-client", "i-client", "n-client", "School site", "client@jasaweb.test"),
    "other": ("p-other", "i-other", "n-other", "News site", "other@jasaweb.test"),
}


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(
        jwt_secret=SECRET,
        token_secret=tokens.SECRET,
        port=0,
        database_url=database_url,
        midtrans_server_key=KEY,
    )


@pytest.fixture(autouse=True)
async def stored(gateway: Gateway, connection: asyncpg.Connection) -> None:
    """One more client, an order to be paid, a log-out, and something unread of each client, which was relayed."""
    await log_out(connection)
    await users.insert_missing(connection, [NewUser("third", "third@jasaweb.test", password_hash(), "T", "client")])
    await connection.execute("update public.invoices set midtrans_order_id = 'order-' || id")
    await connection.execute(
        "insert into public.real_time_notifications (id, user_id, type, title, message)"
        " select 'n-' || name, name, 'user_message', 'Hello', 'World' from unnest(array['client', 'other']) name"
    )
    assert await invoices.list_for(connection, "client")
    async with asyncio.timeout(WAIT_SECONDS):
        while await connection.fetchval("select count(*) from jasaweb_rt.outbox"):
            await asyncio.sleep(0.01)


@asynccontextmanager
async def unchanged(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Every table holds the same after the block as before."""
    before = await snapshot_of_all(connection)
    yield
    assert await snapshot_of_all(connection) == before


async def ask(
    client: Client, route: Route, token: str | None, *, url: str | None = None, cookie: bool = False
) -> httpx.Response:
    headers: dict[str, str] = dict(route.headers)
    if token is not None and not cookie:
        headers["Authorization"] = f"Bearer {token.encode('ascii', 'replace').decode()}"
    elif token is not None:
        client.cookies.set("auth_token", token)
        if route.method not in SAFE:
            await client.get("/client/dashboard")
            headers["x-csrftoken"] = client.cookies.get("csrftoken") or ""
    try:
        return await client.request(route.method, url or route.target, json=route.body, headers=headers)
    finally:
        client.cookies.clear()


def shows_only(answer: httpx.Response, whose: str | None) -> None:
    """Nothing of a client's is in an answer to somebody else."""
    for owner, owned in OWNED.items():
        for mark in owned if owner != whose else ():
            assert mark not in answer.text, f"{whose or 'nobody'} is shown {mark}"


def test_every_route_stands_in_the_table() -> None:
    app = create_app(Settings(jwt_secret=SECRET, token_secret=tokens.SECRET, database_url="postgresql://none/none"))
    assert routes_of(app) == {(route.method, route.path) for route in ROUTES}
    plugin = RealtimePlugin(
        Settings(jwt_secret=SECRET, token_secret=tokens.SECRET, database_url="postgresql://none/none"),
        identify=lambda _: None,
    )
    theirs = routes_of(Litestar(logging_config=None)) - {("GET", "/")}
    ours = routes_of(Litestar(plugins=[plugin], logging_config=None)) - theirs
    assert ours == {(route.method, route.path) for route in PLUGIN_ROUTES}


@pytest.mark.parametrize("cookie", [False, True], ids=["bearer", "cookie"])
@pytest.mark.parametrize("route", ROUTES, ids=named)
async def test_who_may(
    client: Client, connection: asyncpg.Connection, subtests: pytest.Subtests, route: Route, cookie: bool
) -> None:
    # First those who are refused, so that what the others change is not taken for theirs.
    for fault, token in {"no session": None, **sessions_of_nobody()}.items():
        with subtests.test(fault):
            await _refused_or_public(client, connection, route, route.nobody, token, None, cookie=cookie)
    people: list[tuple[str, int, str]] = [
        ("another client", route.other, session_token("other")),
        ("another client who claims to be an administrator", route.other, session_token("other", role="admin")),
        ("the client", route.client, session_token("client")),
        ("the client who claims to be an administrator", route.client, session_token("client", role="admin")),
    ]
    for who, status, token in people:
        with subtests.test(who):
            whose = "client" if who.startswith("the client") else "other"
            await _refused_or_public(client, connection, route, status, token, whose, cookie=cookie)
    with subtests.test("an administrator who claims to be a client"):
        answer = await ask(client, route, session_token("admin", role="client"), cookie=cookie)
        assert answer.status_code == route.admin, answer.text


async def _refused_or_public(
    client: Client,
    connection: asyncpg.Connection,
    route: Route,
    status: int,
    token: str | None,
    whose: str | None,
    *,
    cookie: bool,
) -> None:
    if route.method in SAFE or status >= 300:
        async with unchanged(connection):
            answer = await ask(client, route, token, cookie=cookie)
    else:
        answer = await ask(client, route, token, cookie=cookie)
    assert answer.status_code == status, answer.text
    if route.path not in ("/api/auth/login", "/api/webhooks/midtrans"):  # there it is the body that says who one is
        shows_only(answer, whose)


@pytest.mark.parametrize("route", [route for route in ROUTES if "{" in route.path and "/api/" in route.path], ids=named)
async def test_a_foreign_id_is_answered_as_one_that_nothing_has(client: Client, route: Route) -> None:
    token = session_token("other")
    missing = route.path.partition("{")[0] + MISSING + route.path.partition("}")[2]
    theirs, none = await ask(client, route, token), await ask(client, route, token, url=missing)
    assert (theirs.status_code, theirs.text) == (none.status_code, none.text)


async def test_what_is_marked_as_read_is_ones_own(client: Client, connection: asyncpg.Connection) -> None:
    """No refusal, since a notification may have been deleted meanwhile; and no telling of what others have."""
    (route,) = (route for route in ROUTES if route.path == "/api/notifications/read")
    async with unchanged(connection):
        theirs = await ask(client, route, session_token("other"))
        none = await ask(client, route._replace(body={"ids": [MISSING]}), session_token("other"))
    assert (theirs.status_code, theirs.json()) == (200, none.json())


@pytest.mark.parametrize("route", ROUTES, ids=named)
async def test_options_tell_the_methods_and_no_more(
    client: Client, connection: asyncpg.Connection, route: Route
) -> None:
    async with unchanged(connection):
        answer = await client.options(route.target)
    if answer.status_code == 204:
        assert route.method in answer.headers["allow"]
        assert answer.content == b""
    else:  # what a guard of a whole group of routes says
        assert (answer.status_code, answer.json()["error"]) == (route.nobody, "Authentication required")
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("route", PLUGIN_ROUTES, ids=named)
async def test_who_may_in_another_application(
    gateway: Gateway, settings: Settings, connection: asyncpg.Connection, subtests: pytest.Subtests, route: Route
) -> None:
    """By the application's own log-in: here, a header."""
    plugin = RealtimePlugin(settings, identify=lambda request: request.headers.get("x-user"))
    app = Litestar(plugins=[plugin], logging_config=None)
    statuses: Mapping[str | None, int] = {
        None: route.nobody,
        "deleted": route.nobody,
        "": route.nobody,
        "other": route.other,
        "admin": route.admin,
        "client": route.client,
    }
    async with served(app) as url, httpx.AsyncClient(base_url=url, timeout=30) as http:
        for who, status in statuses.items():
            with subtests.test(who or "nobody"):
                headers = {} if who is None else {"x-user": who}
                before = await snapshot_of_all(connection)
                answer = await http.request(route.method, route.target, json=route.body, headers=headers)
                assert answer.status_code == status, answer.text
                shows_only(answer, who)
                if who != "client":  # the one whose notification may be marked
                    assert await snapshot_of_all(connection) == before
