"""Who is believed to tell from where a request came."""

import json
from typing import Any

import httpx
import pytest
from litestar.types import Receive, Scope, Send

from jasaweb_rt.forwarders import behind_front_door, behind_gateways

GATEWAY = ("10.0.0.5", 50_000)
STRANGER = ("10.1.0.5", 50_000)
TOLD = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "rt.example.org",
    "X-Forwarded-Untrusted": "1",
    "X-Real-IP": "203.0.113.9",
    "Forwarded": "for=203.0.113.9",
    "Accept": "text/plain",
}


async def mirror(scope: Scope, _: Receive, send: Send) -> None:
    """Says what an application sees."""
    client = scope.get("client")
    seen: dict[str, Any] = {
        "client": client[0] if client else None,
        "scheme": scope["scheme"],
        "headers": sorted(name.decode() for name, _ in scope["headers"]),
    }
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode(), "more_body": False})


async def ask(app: Any, path: str, client: tuple[str, int]) -> httpx.Response:
    transport = httpx.ASGITransport(app, client=client)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as http:
        return await http.get(path, headers=TOLD)


@pytest.mark.parametrize("client", [GATEWAY, ("::ffff:10.0.0.5", 50_000)])
async def test_a_gateway_is_believed(client: tuple[str, int]) -> None:
    seen = (await ask(behind_gateways(mirror, ["10.0.0.0/24"]), "/api/projects", client)).json()
    assert (seen["client"], seen["scheme"]) == ("203.0.113.9", "https")
    assert "x-forwarded-host" in seen["headers"]


async def test_a_client_of_the_gateways_own_network_is_that_client() -> None:
    transport = httpx.ASGITransport(behind_gateways(mirror, ["10.0.0.0/24"]), client=GATEWAY)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as http:
        seen = (await http.get("/", headers={"X-Forwarded-For": "10.0.0.77"})).json()
    assert seen["client"] == "10.0.0.77"


@pytest.mark.parametrize("path", ["/", "/api/projects", "/healthz/", "/metrics/x"])
async def test_nobody_else_gets_past_the_front_door(path: str) -> None:
    answer = await ask(behind_gateways(mirror, ["10.0.0.0/24"]), path, STRANGER)
    assert (answer.status_code, answer.json()["success"]) == (403, False)
    assert "JASAWEB_RT_TRUSTED_PROXIES" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_probes_are_answered_to_anybody_as_who_they_are(path: str) -> None:
    seen = (await ask(behind_gateways(mirror, ["10.0.0.0/24"]), path, STRANGER)).json()
    assert (seen["client"], seen["scheme"]) == (STRANGER[0], "http")
    assert "accept" in seen["headers"]
    # Only that somebody was spoken for, whom nobody knows.
    told = [name for name in seen["headers"] if "forwarded" in name or name == "x-real-ip"]
    assert told == ["x-forwarded-untrusted"]


async def test_without_networks_this_machine_alone_is_believed() -> None:
    app = behind_gateways(mirror, [])
    assert (await ask(app, "/", ("127.0.0.1", 50_000))).json()["client"] == "203.0.113.9"
    assert (await ask(app, "/", ("::1", 50_000))).json()["client"] == "203.0.113.9"
    assert (await ask(app, "/", GATEWAY)).status_code == 403


async def test_on_a_unix_socket_the_front_door_is_believed() -> None:
    assert (await ask(behind_front_door(mirror), "/", ("", 0))).json()["client"] == "203.0.113.9"
