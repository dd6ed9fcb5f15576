"""Pages, files, probes, the schema, and the shape of errors."""

import asyncio
import re
from urllib.parse import urlsplit

import asyncpg
import pytest

from jasaweb_rt.exceptions import DatabaseFullError
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.services import Services
from tests.integration.http.conftest import Client
from tests.support.databases import drop_database
from tests.support.people import bearer, session_token
from tests.support.routes import ROUTES
from tests.support.sockets import WAIT_SECONDS


async def test_without_an_upgrade_the_socket_says_so(client: Client) -> None:
    response = await client.get("/ws")
    assert response.status_code == 426
    assert response.json() == {"success": False, "error": "Upgrade required"}
    assert response.headers["upgrade"] == "websocket"


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/none", 404, "Not found"),
        ("GET", "/api/none", 404, "Not found"),
        ("GET", "/schema/none", 404, "Not found"),
        ("DELETE", "/api/projects", 405, "This method is not allowed here"),
        ("GET", "/api/auth/login", 405, "This method is not allowed here"),
    ],
)
async def test_errors_have_one_shape(client: Client, method: str, path: str, status: int, error: str) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.json() == {"success": False, "error": error}
    assert response.headers["content-type"].startswith("application/json")


async def test_an_unexpected_error_leaks_nothing(
    client: Client, connection: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await connection.execute("alter table public.invoices rename column amount to gone")
    response = await client.get("/api/invoices", headers=bearer("client"))
    assert response.status_code == 500
    assert response.json() == {"success": False, "error": "Internal server error"}
    assert "a request failed: UndefinedColumnError" in caplog.text


async def test_a_database_that_has_gone_is_a_503(client: Client, postgres_url: str, database_url: str) -> None:
    await drop_database(postgres_url, urlsplit(database_url).path[1:])
    for _ in range(3):
        response = await client.get("/api/projects", headers=bearer("client"))
        assert response.status_code == 503
        assert response.json() == {"success": False, "error": "The database is not available; try again later"}
        assert response.headers["retry-after"] == "5"
    assert (await client.get("/healthz")).status_code == 200
    assert (await client.get("/readyz")).status_code == 503


async def test_a_body_that_is_too_large_is_refused(client: Client) -> None:
    response = await client.post("/api/notifications/read", json={"ids": ["x" * 1_100_000]}, headers=bearer("client"))
    assert (response.status_code, response.json()["success"]) == (413, False)


async def test_the_pages_lead_to_each_other(client: Client) -> None:
    assert (await client.get("/", follow_redirects=False)).headers["location"] == "/client/dashboard"
    response = await client.get("/client/dashboard", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (302, "/login?next=%2Fclient%2Fdashboard")
    client.cookies.set("auth_token", session_token("client"))
    response = await client.get("/login", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (302, "/client/dashboard")
    assert (await client.get("/client/dashboard")).status_code == 200


async def test_the_page_for_administrators_is_theirs_alone(client: Client) -> None:
    response = await client.get("/admin/realtime", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (302, "/login?next=%2Fadmin%2Frealtime")
    client.cookies.set("auth_token", session_token("client", role="admin"))
    response = await client.get("/admin/realtime", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (302, "/client/dashboard")
    client.cookies.set("auth_token", session_token("admin"))
    response = await client.get("/admin/realtime")
    assert response.status_code == 200
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.headers["cache-control"] == "no-store"


async def test_a_page_is_fenced_in(client: Client) -> None:
    response = await client.get("/login")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "connect-src 'self' ws://rt.test/;" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "same-origin"
    assert response.headers["cache-control"] == "no-store"
    assert 'data-demo="false"' in response.text


async def test_the_demo_offers_its_accounts(client: Client, services: Services) -> None:
    services.demo = True
    assert 'data-demo="true"' in (await client.get("/login")).text


@pytest.mark.parametrize("page", ["/login", "/client/dashboard", "/admin/realtime"])
async def test_every_file_that_a_page_names_is_served(client: Client, page: str) -> None:
    if page != "/login":
        client.cookies.set("auth_token", session_token("admin"))
    content = (await client.get(page)).text
    paths = re.findall(r'(?:src|href)="(/static/[^"#]+)', content)
    assert paths
    for path in paths:
        assert (await client.get(path)).status_code == 200


async def test_a_file_is_revalidated(client: Client) -> None:
    response = await client.get("/static/realtime.js")
    assert response.headers["content-type"] == "text/javascript; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert "set-cookie" not in response.headers
    etag = response.headers["etag"]
    for sent in (etag, f'"x", W/{etag}', "*"):
        again = await client.get("/static/realtime.js", headers={"If-None-Match": sent})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert (await client.get("/static/realtime.js", headers={"If-None-Match": '"x"'})).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/none.js",
        "/static/../app.py",
        "/static/%2e%2e/templates/login.html",
        "/static/..%2ftemplates%2flogin.html",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/realtime.js%00",
    ],
)
async def test_no_path_leads_out_of_the_folder(client: Client, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_the_probes(client: Client, services: Services) -> None:
    assert (await client.get("/healthz")).json() == {"success": True}
    response = await client.get("/readyz", headers={"X-Forwarded-Untrusted": "1"})
    assert response.status_code == 503  # no gateway runs behind this application
    assert response.json() == {"success": False, "error": "Not ready"}


async def test_readiness_names_what_fails(client: Client, services: Services, gateway: Gateway) -> None:
    well = {"database": "ok", "relay": "ok", "listener": "ok", "disk": "ok", "draining": False}
    async with asyncio.timeout(WAIT_SECONDS):
        # A database that takes too long to answer is none for the moment.
        while (response := await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.02)
    assert response.json() == {"success": True, "checks": well}
    with pytest.raises(DatabaseFullError), gateway.disk.watching():
        raise DatabaseFullError("No room")
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"success": False, "error": "Not ready", "checks": {**well, "disk": "failed"}}
    await asyncio.to_thread(gateway.stop, 1)
    checks = (await client.get("/readyz")).json()["checks"]
    assert checks == {**well, "relay": "failed", "disk": "failed", "draining": True}


async def test_the_schema_declares_the_errors(client: Client) -> None:
    for path in ("/schema", "/schema/openapi.json"):
        response = await client.get(path)
        assert response.status_code == 200
        assert "set-cookie" not in response.headers
    schema = response.json()
    assert {"401", "403", "429"} <= set(schema["paths"]["/api/auth/login"]["post"]["responses"])
    assert {"400", "401", "403", "404"} <= set(schema["paths"]["/api/projects/{project_id}"]["patch"]["responses"])
    error = schema["paths"]["/api/projects/{project_id}"]["patch"]["responses"]["400"]["content"]
    assert error["application/json"]["schema"]["$ref"].endswith("ErrorBody")
    assert "http://" not in (await client.get("/schema")).text.replace("http://rt.test", "")


async def test_the_schema_has_each_rule_of_a_body_and_of_a_session(client: Client) -> None:
    schema = (await client.get("/schema/openapi.json")).json()
    bodies = schema["components"]["schemas"]
    for name in ("BroadcastBody", "LogIn", "PaymentBody", "Read", "UserMessageRequest", "Users", "StatusBody"):
        assert bodies[name]["additionalProperties"] is False
    assert bodies["Read"]["oneOf"] == [{"required": ["ids"]}, {"required": ["upTo"]}]
    ids = bodies["Read"]["properties"]["ids"]
    assert (ids["minItems"], ids["maxItems"]) == (1, 500)
    assert ids["items"] == {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[^\\x00]+$"}
    after = schema["paths"]["/api/notifications"]["get"]["parameters"][0]
    assert (after["name"], after["schema"]["maximum"]) == ("after", 2**53 - 1)
    assert "content" not in schema["paths"]["/api/auth/logout"]["post"]["responses"]["204"]
    for route in ROUTES:
        path = re.sub(r":\w+}", "}", route.path)
        if path.startswith("/api/"):
            operation = schema["paths"][path][route.method.lower()]
            assert operation.get("security", []) == ([{"bearer": []}, {"cookie": []}] if route.nobody == 401 else [])
            assert {"400", "429", "503"} <= set(operation["responses"])


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("path", "accept", "kind"),
    [
        ("/schema", BROWSER, "text/html; charset=utf-8"),
        ("/schema/", BROWSER, "text/html; charset=utf-8"),
        ("/schema", "application/json, text/html;q=0.5", "application/vnd.oai.openapi+json"),
        ("/schema", "text/html;q=0.5, application/json", "application/vnd.oai.openapi+json"),
        ("/schema", "*/*", "application/vnd.oai.openapi+json"),
        ("/schema", "", "application/vnd.oai.openapi+json"),
        ("/schema/openapi.json", BROWSER, "application/vnd.oai.openapi+json"),
    ],
)
async def test_the_schema_is_a_page_for_who_asks_for_one(client: Client, path: str, accept: str, kind: str) -> None:
    response = await client.get(path, headers={"Accept": accept})
    assert (response.status_code, response.headers["content-type"]) == (200, kind)
    assert response.headers["vary"] == "Accept"
    if kind.startswith("text/html"):
        assert "unsafe" not in response.headers["content-security-policy"]
        assert "://" not in response.text
        for file in re.findall(r'(?:src|href)="(/[^"#]+)', response.text):
            assert (await client.get(file)).status_code == 200
