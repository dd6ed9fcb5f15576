"""Every route and who may use it: the table that the tests of roles and of wrong input go through.

What a client owns is that of `client` (tests/support/people.py); `other` is a client who asks for it.
"""

from typing import Any, NamedTuple

from litestar import Litestar

from tests.support.payments import midtrans_body
from tests.support.people import PASSWORD

MISSING = "there-is-none"
"""An id that nothing has."""


class Route(NamedTuple):
    """A route, a right request to it, and its status for each kind of caller."""

    method: str
    path: str
    """As the application has it."""
    nobody: int
    """For those without a session, and those whose session is worth nothing."""
    client: int
    """For the owner of what the request names."""
    other: int
    """For another client."""
    admin: int
    url: str = ""
    """With ids and query filled in; empty: the path."""
    body: Any = None
    reads_body: bool = False
    query: tuple[str, ...] = ()
    """Names of its query parameters."""
    headers: dict[str, str] = {}  # noqa: RUF012  # never written to

    @property
    def target(self) -> str:
        """Where a right request goes."""
        return self.url or self.path


def _for_all(method: str, path: str, status: int, url: str = "") -> Route:
    return Route(method, path, status, status, status, status, url)


_ORIGIN = {"Origin": "http://rt.test"}
_WORD = {"title": "Maintenance", "message": "Tonight at ten"}

ROUTES = [
    # Pages and files.
    _for_all("GET", "/", 302),
    Route("GET", "/login", nobody=200, client=302, other=302, admin=302),
    Route("GET", "/client/dashboard", nobody=302, client=200, other=200, admin=200),
    Route("GET", "/admin/realtime", nobody=302, client=302, other=302, admin=200),
    _for_all("GET", "/static/{file_path:path}", 200, "/static/realtime.js"),
    _for_all("GET", "/schema", 200),
    _for_all("GET", "/schema/openapi.json", 200),
    _for_all("GET", "/schema/{path:str}", 404, f"/schema/{MISSING}"),
    # Probes; the tests come from a metrics network.
    _for_all("GET", "/healthz", 200),
    _for_all("GET", "/readyz", 200),
    _for_all("GET", "/metrics", 200),
    # Sessions and the way to a socket.
    _for_all("POST", "/api/auth/login", 200)._replace(
        body={"email": "client@jasaweb.test", "password": PASSWORD}, reads_body=True, headers=_ORIGIN
    ),
    _for_all("POST", "/api/auth/logout", 204),
    Route("GET", "/api/auth/me", nobody=401, client=200, other=200, admin=200),
    Route("POST", "/api/websocket/token", nobody=401, client=200, other=200, admin=200),
    _for_all("GET", "/ws", 426),
    # One's own inbox.
    Route(
        "GET",
        "/api/notifications",
        nobody=401,
        client=200,
        other=200,
        admin=200,
        query=("after", "limit", "unread"),
    ),
    Route(
        "POST",
        "/api/notifications/read",
        nobody=401,
        client=200,
        other=200,
        admin=200,
        body={"ids": ["n-client"]},
        reads_body=True,
    ),
    # Messages: a client writes to administrators.
    Route("GET", "/api/users", nobody=401, client=200, other=200, admin=200, query=("search", "limit", "offset")),
    Route(
        "POST",
        "/api/messages",
        nobody=401,
        client=403,
        other=403,
        admin=201,
        body={"toUserId": "third", "subject": "Logo", "content": "Make it bigger"},
        reads_body=True,
    ),
    # Projects and invoices: one's own to look at, an administrator's to change.
    Route("GET", "/api/projects", nobody=401, client=200, other=200, admin=200),
    Route(
        "PATCH",
        "/api/projects/{project_id:str}",
        nobody=401,
        client=403,
        other=403,
        admin=200,
        url="/api/projects/p-client",
        body={"status": "review"},
        reads_body=True,
    ),
    Route("GET", "/api/invoices", nobody=401, client=200, other=200, admin=200),
    Route(
        "PATCH",
        "/api/invoices/{invoice_id:str}",
        nobody=401,
        client=403,
        other=403,
        admin=200,
        url="/api/invoices/i-client",
        body={"status": "paid"},
        reads_body=True,
    ),
    # Whoever knows the key of the payment provider; no session counts here.
    _for_all("POST", "/api/webhooks/midtrans", 200)._replace(body=midtrans_body("settlement"), reads_body=True),
    # Administration.
    Route("GET", "/api/admin/websocket/status", nobody=401, client=403, other=403, admin=200),
    Route(
        "GET",
        "/api/admin/websocket/connections",
        nobody=401,
        client=403,
        other=403,
        admin=200,
        query=("userId", "role", "search", "limit", "offset"),
    ),
    Route(
        "DELETE",
        "/api/admin/websocket/connections/{connection_id:str}",
        nobody=401,
        client=403,
        other=403,
        admin=404,
        url=f"/api/admin/websocket/connections/{MISSING}",
    ),
    Route(
        "POST",
        "/api/admin/websocket/broadcast",
        nobody=401,
        client=403,
        other=403,
        admin=200,
        body={"audience": "all", "type": "system_announcement", **_WORD},
        reads_body=True,
    ),
    Route(
        "GET",
        "/api/admin/notifications/{notification_id:str}/trace",
        nobody=401,
        client=403,
        other=403,
        admin=200,
        url="/api/admin/notifications/n-client/trace",
    ),
]

PLUGIN_ROUTES = [
    Route("POST", "/api/websocket/token", nobody=401, client=200, other=200, admin=200),
    Route(
        "GET",
        "/api/notifications",
        nobody=401,
        client=200,
        other=200,
        admin=200,
        query=("after", "limit", "unread"),
    ),
    Route(
        "POST",
        "/api/notifications/read",
        nobody=401,
        client=200,
        other=200,
        admin=200,
        body={"ids": ["n-client"]},
        reads_body=True,
    ),
]


def named(route: Route) -> str:
    """A route's name in the output of the tests."""
    return f"{route.method} {route.path}"


def routes_of(app: Litestar) -> set[tuple[str, str]]:
    """Method and path of everything that an application answers, but for what Litestar says to OPTIONS."""
    return {
        (method, route.path)
        for route in app.routes
        for method in getattr(route, "methods", {"(not HTTP)"})
        if method != "OPTIONS"
    }
