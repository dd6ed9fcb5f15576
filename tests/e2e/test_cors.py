"""No page of another origin is ever told that it may read an answer: there is no CORS."""

import httpx
import pytest

from tests.support.program import Program

_EVIL = "https://evil.test"
_PATHS = [
    "/",
    "/ws",
    "/healthz",
    "/readyz",
    "/metrics",
    "/schema",
    "/login",
    "/nowhere",
    "/static/realtime.js",
    "/client/dashboard",
    "/admin/realtime",
    "/api/auth/login",
    "/api/auth/logout",
    "/api/websocket/token",
    "/api/notifications",
    "/api/notifications/read",
    "/api/projects",
    "/api/projects/x",
    "/api/invoices",
    "/api/users",
    "/api/messages",
    "/api/webhooks/midtrans",
    "/api/admin/websocket/status",
    "/api/admin/websocket/connections",
    "/api/admin/websocket/broadcast",
]


@pytest.mark.parametrize("origin", [_EVIL, "null", "same"])
async def test_no_answer_allows_another_origin(server: Program, http: httpx.AsyncClient, origin: str) -> None:
    headers = {"Origin": await server.url() if origin == "same" else origin}
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-csrftoken"}
    for path in _PATHS:
        for method, more in [("OPTIONS", preflight), ("GET", {}), ("POST", {}), ("HEAD", {})]:
            response = await http.request(method, path, headers=headers | more)
            allowed = [name for name in response.headers if name.startswith("access-control-")]
            assert not allowed, f"{method} {path}: {allowed}"
            assert response.status_code < 500, f"{method} {path}: {response.status_code}"
