"""Log-in, sessions, connection tokens, CSRF."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import jwt
import msgspec
import pytest
from litestar.middleware.csrf import generate_csrf_token

from jasaweb_rt.app import create_app
from jasaweb_rt.auth import session_jwt
from jasaweb_rt.config import Settings
from jasaweb_rt.database.pool import acquire
from jasaweb_rt.exceptions import TooManyRequestsError
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.services import Services
from jasaweb_rt.upkeep import Upkeep
from tests.integration.http.conftest import Client, client_of
from tests.support import tokens
from tests.support.people import PASSWORD, SECRET, bearer, session_token
from tests.support.sockets import closed, frame, opened

LOG_IN = {"email": "client@jasaweb.test", "password": PASSWORD}
ORIGIN = {"Origin": "http://rt.test"}


async def test_log_in_sets_the_session_cookie_and_answers_the_user(client: Client) -> None:
    response = await client.post("/api/auth/login", json=LOG_IN, headers=ORIGIN)
    assert response.status_code == 200
    assert response.json() == {
        "id": "client",
        "email": "client@jasaweb.test",
        "name": "Client",
        "role": "client",
    }
    cookie = response.headers["set-cookie"].lower()
    assert cookie.startswith("auth_token=")
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie
    assert response.headers["cache-control"] == "no-store"
    claims = jwt.decode(response.cookies["auth_token"], SECRET, algorithms=["HS256"])
    assert (claims["id"], claims["email"], claims["role"]) == ("client", "client@jasaweb.test", "client")
    assert (await client.get("/api/auth/me")).json()["id"] == "client"


async def test_the_cookie_is_secure_over_https(client: Client) -> None:
    response = await client.post("https://rt.test/api/auth/login", json=LOG_IN, headers={"Origin": "https://rt.test"})
    assert "secure" in response.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    ("public", "came_by", "is_secure"),
    [
        # A proxy that is not trusted, before a server that is known by https.
        ("https://rt.test", "http", True),
        # The address that is told is plain, the client is not.
        ("http://rt.test", "https", True),
        ("http://rt.test", "http", False),
    ],
)
async def test_both_cookies_go_by_the_public_address_too(
    settings: Settings,
    services: Services,
    idle_gateway: Gateway,
    pool: asyncpg.Pool,
    public: str,
    came_by: str,
    is_secure: bool,
) -> None:
    told = msgspec.structs.replace(settings, public_url=public)
    async with client_of(create_app(told, services=Services(told, pool, idle_gateway))) as client:
        session = await client.post(f"{came_by}://rt.test/api/auth/login", json=LOG_IN, headers={"Origin": public})
        page = await client.get(f"{came_by}://rt.test/login")
    for response, name in ((session, "auth_token"), (page, "csrftoken")):
        cookie = response.headers["set-cookie"].lower()
        assert (cookie.startswith(name), "secure" in cookie) == (True, is_secure)


@pytest.mark.parametrize(
    "who",
    [
        {"email": "client@jasaweb.test", "password": "wrong"},
        {"email": "nobody@jasaweb.test", "password": PASSWORD},
        {"email": "client@jasaweb.test", "password": PASSWORD + "\x01"},
    ],
)
async def test_a_wrong_log_in_says_no_more_than_that(client: Client, who: dict[str, str]) -> None:
    response = await client.post("/api/auth/login", json=who, headers=ORIGIN)
    assert response.status_code == 401
    assert response.json() == {"success": False, "error": "E-mail or password is wrong"}
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("email", ["client@jasaweb.test", "nobody@jasaweb.test"])
async def test_passwords_cannot_be_tried_for_ever(client: Client, email: str) -> None:
    wrong = {"email": email, "password": "wrong"}
    for _ in range(20):
        # Those that are right count for nothing.
        assert (await client.post("/api/auth/login", json=LOG_IN, headers=ORIGIN)).status_code == 200
    while (response := await client.post("/api/auth/login", json=wrong, headers=ORIGIN)).status_code == 401:
        pass
    assert (response.status_code, response.json()["success"]) == (429, False)
    assert 0 < int(response.headers["retry-after"]) <= 30
    # Whether there is such an account shows in nothing, not even by the right password.
    right = await client.post("/api/auth/login", json={**wrong, "password": PASSWORD}, headers=ORIGIN)
    assert (right.status_code, right.content) == (429, response.content)
    other = await client.post(
        "/api/auth/login", json={"email": "other@jasaweb.test", "password": PASSWORD}, headers=ORIGIN
    )
    assert other.status_code == 200


async def test_sessions_cannot_be_begun_for_ever(client: Client, services: Services) -> None:
    with contextlib.suppress(TooManyRequestsError):
        while True:
            services.login_limits.begin_session("client")
    while (response := await client.post("/api/auth/login", json=LOG_IN, headers=ORIGIN)).status_code == 200:
        pass
    assert (response.status_code, response.json()["success"]) == (429, False)
    assert 0 < int(response.headers["retry-after"]) <= 10
    assert "set-cookie" not in response.headers
    # Who does not know the password is told what everybody is told.
    wrong = await client.post("/api/auth/login", json={**LOG_IN, "password": "wrong"}, headers=ORIGIN)
    assert (wrong.status_code, wrong.json()["error"]) == (401, "E-mail or password is wrong")
    other = await client.post("/api/auth/login", json=LOG_IN | {"email": "other@jasaweb.test"}, headers=ORIGIN)
    assert other.status_code == 200


async def test_a_log_in_that_came_to_nothing_is_not_held_against_anybody(
    client: Client, services: Services, connection: asyncpg.Connection
) -> None:
    await connection.execute("alter table public.users rename to users_away")
    for _ in range(30):
        assert (await client.post("/api/auth/login", json=LOG_IN, headers=ORIGIN)).status_code == 500
    await connection.execute("alter table public.users_away rename to users")
    assert (await client.post("/api/auth/login", json=LOG_IN, headers=ORIGIN)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Origin": "http://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://rt.test"}, 403),
        ({"Origin": "http://rt.test:8000"}, 403),
        ({"Origin": "http://rt.test", "Content-Type": "text/plain"}, 415),
    ],
)
async def test_a_foreign_page_cannot_sign_anybody_in(client: Client, headers: dict[str, str], status: int) -> None:
    response = await client.post("/api/auth/login", json=LOG_IN, headers=headers)
    assert response.status_code == status
    assert response.json()["success"] is False


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "JSON"),
        (b"[]", ""),
        (b'{"email":"a"}', "password"),
        (b'{"email":"a","password":5}', "password"),
        (b'{"email":"a\\u0000","password":"b"}', "email"),
        (b'{"email":"a","password":"b\\u0000"}', "password"),
        (b'{"email":"a","password":"b","more":1}', "more"),
    ],
)
async def test_a_malformed_log_in_names_the_fault(client: Client, body: bytes, words: str) -> None:
    response = await client.post(
        "/api/auth/login", content=body, headers={**ORIGIN, "Content-Type": "application/json"}
    )
    assert response.status_code == 400
    assert list(response.json()) == ["success", "error"]
    assert words in response.json()["error"]


async def test_a_session_gets_a_connection_token(client: Client, settings: object) -> None:
    session = session_token("client", lifetime=900)
    before = datetime.now(UTC)
    response = await client.post("/api/websocket/token", headers={"Cookie": f"auth_token={session}"})
    after = datetime.now(UTC)
    assert response.status_code == 200
    body = response.json()
    assert list(body) == ["token", "expiresAt", "connectionUrl"]
    assert body["connectionUrl"] == "ws://rt.test/ws"
    claims = jwt.decode(body["token"], tokens.SECRET, algorithms=["HS256"], audience="websocket")
    assert (claims["sub"], claims["role"], claims["name"]) == ("client", "client", "Client")
    assert claims["session_exp"] == jwt.decode(session, SECRET, algorithms=["HS256"])["exp"]
    assert claims["exp"] - claims["iat"] == 300
    assert claims["jti"]
    # The token's own clock has whole seconds.
    issued = datetime.fromisoformat(body["expiresAt"]) - timedelta(minutes=5)
    assert before - timedelta(seconds=1) < issued <= after


async def test_a_connection_token_never_outlives_its_session(client: Client) -> None:
    session = session_token("client", lifetime=200)
    response = await client.post("/api/websocket/token", headers={"Authorization": f"Bearer {session}"})
    claims = jwt.decode(response.json()["token"], tokens.SECRET, algorithms=["HS256"], audience="websocket")
    assert claims["exp"] == claims["session_exp"] <= time.time() + 200


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ({"Host": "rt.example:9000"}, "ws://rt.example:9000/ws"),
        ({"Host": "inside", "X-Forwarded-Host": "rt.example"}, "ws://rt.example/ws"),
        ({"Host": "[::1]:8000"}, "ws://[::1]:8000/ws"),
    ],
)
async def test_the_connection_url_is_what_the_client_sees(client: Client, headers: dict[str, str], url: str) -> None:
    response = await client.post("/api/websocket/token", headers={**bearer("client"), **headers})
    assert response.json()["connectionUrl"] == url


async def test_a_host_that_is_none_is_refused(client: Client) -> None:
    response = await client.post("/api/websocket/token", headers={**bearer("client"), "Host": "a b; c"})
    assert (response.status_code, response.json()["success"]) == (400, False)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Bearer {session_token('client', secret='x' * 40)}"},
        {"Authorization": f"Bearer {session_token('client', lifetime=-1)}"},
        {"Authorization": f"Bearer {session_token('nobody')}"},
        {"Cookie": "auth_token=nonsense"},
        {"Cookie": f"other={session_token('client')}"},
        {"Authorization": "Bearer nonsense", "Cookie": f"auth_token={session_token('client')}"},
    ],
)
async def test_without_a_session_there_is_no_token(client: Client, headers: dict[str, str]) -> None:
    response = await client.post("/api/websocket/token", headers=headers)
    assert response.status_code == 401
    assert response.json() == {"success": False, "error": "Authentication required"}
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_connection_token_is_no_session(client: Client) -> None:
    now = int(time.time())
    claims = {"id": "client", "sub": "client", "aud": "websocket", "exp": now + 60}
    token = jwt.encode(claims, SECRET, algorithm="HS256")
    assert (await client.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})).status_code == 401


async def test_role_and_existence_are_read_from_the_table(client: Client, connection: asyncpg.Connection) -> None:
    claims_admin = {"Authorization": f"Bearer {session_token('client', role='admin')}"}
    assert (await client.get("/api/auth/me", headers=claims_admin)).json()["role"] == "client"
    response = await client.patch("/api/projects/p-client", json={"status": "review"}, headers=claims_admin)
    assert response.status_code == 403
    await connection.execute("delete from public.users where id = 'client'")
    assert (await client.get("/api/auth/me", headers=claims_admin)).status_code == 401


async def test_a_change_by_cookie_needs_the_csrf_header(client: Client) -> None:
    client.cookies.set("auth_token", session_token("client"))
    refused = await client.post("/api/notifications/read", json={"upTo": 1})
    assert (refused.status_code, refused.json()["success"]) == (403, False)
    assert "CSRF" in refused.json()["error"]
    await client.get("/api/projects")
    token = client.cookies["csrftoken"]
    for header, status in [(token, 200), (token[:-1] + ("0" if token[-1] != "0" else "1"), 403)]:
        response = await client.post("/api/notifications/read", json={"upTo": 1}, headers={"x-csrftoken": header})
        assert response.status_code == status


async def test_a_change_by_bearer_needs_none_and_the_cookie_is_not_looked_at(client: Client) -> None:
    client.cookies.set("auth_token", session_token("other"))
    response = await client.post("/api/notifications/read", json={"upTo": 1}, headers=bearer("client"))
    assert response.status_code == 200
    assert (await client.get("/api/auth/me", headers=bearer("client"))).json()["id"] == "client"


async def test_log_out_clears_the_cookie(client: Client) -> None:
    client.cookies.set("auth_token", session_token("client"))
    assert (await client.post("/api/auth/logout")).status_code == 403
    await client.get("/api/auth/me")
    response = await client.post("/api/auth/logout", headers={"x-csrftoken": client.cookies["csrftoken"]})
    assert (response.status_code, response.content) == (204, b"")
    assert 'auth_token="";' in response.headers["set-cookie"]
    assert "Max-Age=0" in response.headers["set-cookie"]


async def test_who_has_logged_out_is_out_however_the_token_is_spelled(client: Client) -> None:
    session, other = session_token("client"), session_token("client")
    assert session != other
    # The same in other letters, which PyJWT lets through, too.
    spellings = [session, session + "="]
    assert [session_jwt.verify(spelled, SECRET).id for spelled in spellings] == ["client", "client"]
    for _ in range(2):
        headers = {"Authorization": f"Bearer {session}"}
        assert (await client.post("/api/auth/logout", headers=headers)).status_code == 204
    for spelled in spellings:
        for headers in ({"Authorization": f"Bearer {spelled}"}, {"Cookie": f"auth_token={spelled}"}):
            assert (await client.get("/api/auth/me", headers=headers)).status_code == 401
            assert (await client.post("/api/websocket/token", headers=headers)).status_code == 401
    assert (await client.get("/api/auth/me", headers={"Authorization": f"Bearer {other}"})).status_code == 200


async def test_a_log_out_closes_the_sockets_of_its_session_alone(client: Client, gateway: Gateway) -> None:
    async def token_of(session: str) -> str:
        response = await client.post("/api/websocket/token", headers={"Authorization": f"Bearer {session}"})
        return str(response.json()["token"])

    first, second = session_token("client"), session_token("client")
    async with (
        opened(gateway.server, "client", token=await token_of(first)) as one,
        opened(gateway.server, "client", token=await token_of(first)) as another,
        opened(gateway.server, "client", token=await token_of(second)) as elsewhere,
    ):
        unused = await token_of(first)
        await client.post("/api/auth/logout", headers={"Authorization": f"Bearer {first}"})
        assert await closed(one) == await closed(another) == (4001, "Session expired")
        async with opened(gateway.server, "client", token=unused) as late:
            assert await closed(late) == (4001, "Session expired")
        assert (await frame(elsewhere))["type"] == "sync"
        gateway.server.broadcast_to_all('{"still":"here"}')
        assert await frame(elsewhere) == {"still": "here"}


async def test_a_session_without_end_can_be_ended(client: Client, connection: asyncpg.Connection) -> None:
    token = jwt.encode({"id": "client", "exp": 10**18}, SECRET, algorithm="HS256")
    headers = {"Authorization": f"Bearer {token}"}
    assert (await client.post("/api/auth/logout", headers=headers)).status_code == 204
    assert (await client.get("/api/auth/me", headers=headers)).status_code == 401
    assert await connection.fetchval("select count(*) from jasaweb_rt.ended_sessions") == 1


async def test_an_ended_session_is_forgotten_when_it_would_be_over(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    for number, age in enumerate(("-1 day", "55 min", "2 h", "3 days")):
        await connection.execute(
            "insert into jasaweb_rt.ended_sessions values ('client', $1, now() - cast($2::text as interval))",
            str(number),
            age,
        )
    upkeep = Upkeep(lambda: acquire(pool), "node", retention_days=0, on_lapse=lambda: None)
    task = asyncio.create_task(upkeep.run_retention())
    kept = "select array_agg(session_id order by session_id) from jasaweb_rt.ended_sessions"
    async with asyncio.timeout(20):
        while await connection.fetchval(kept) != ["0", "1"]:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])


async def test_a_csrf_cookie_of_another_key_is_replaced(client: Client) -> None:
    stale = generate_csrf_token(secret="the key before")
    cookie = {"Cookie": f"auth_token={session_token('client')}; csrftoken={stale}"}
    refused = await client.post("/api/notifications/read", json={"upTo": 1}, headers={**cookie, "x-csrftoken": stale})
    assert refused.status_code == 403
    fresh = (await client.get("/api/projects", headers=cookie)).cookies["csrftoken"]
    cookie = {"Cookie": f"auth_token={session_token('client')}; csrftoken={fresh}"}
    taken = await client.post("/api/notifications/read", json={"upTo": 1}, headers={**cookie, "x-csrftoken": fresh})
    assert taken.status_code == 200
    assert "csrftoken" not in (await client.get("/api/projects", headers=cookie)).cookies


async def test_a_page_of_another_origin_cannot_have_the_cookie_removed(client: Client) -> None:
    # SameSite=Lax: what it has a browser post comes without the cookie.
    answer = await client.post("/api/auth/logout", headers={"Origin": "https://evil.test"})
    assert (answer.status_code, answer.headers.get_list("set-cookie")) == (204, [])


async def test_a_csrf_token_that_is_no_ascii_is_none(client: Client) -> None:
    # What a quoted value stands for, by its escapes, is any byte.
    for odd in (f'csrftoken="{"a" * 65}\\351"', f"csrftoken={'a' * 65}\u00e9"):
        cookie = f"auth_token={session_token('client')}; {odd}".encode("latin-1")
        page = await client.get("/api/projects", headers={b"Cookie": cookie})
        assert (page.status_code, "csrftoken" in page.cookies) == (200, True)
        token = ("a" * 65 + "\u00e9").encode("latin-1")
        refused = await client.post(
            "/api/notifications/read", json={"upTo": 1}, headers={b"Cookie": cookie, b"x-csrftoken": token}
        )
        assert refused.status_code == 403


async def test_cookies_with_a_backslash_are_left_out_and_cost_nothing(client: Client) -> None:
    # 12 KB of escapes; a reader that takes the square of it for each request would need minutes for all of these.
    for number in range(200):
        odd = f'site="{number}{chr(92)}{chr(34)}' + '\\"' * 6_000 + '"'
        cookie = f"{odd}; auth_token={session_token('client')}; lang=id"
        assert (await client.get("/api/auth/me", headers={"Cookie": cookie})).status_code == 200
