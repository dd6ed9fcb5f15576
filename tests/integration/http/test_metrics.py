"""`/metrics`: what it tells, in which format, and to whom."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.http.conftest import Client
from tests.support.people import bearer

pytestmark = pytest.mark.usefixtures("gateway")


async def values(client: Client) -> dict[str, float]:
    """Every sample by its name."""
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def test_it_tells_how_the_server_and_its_process_do(client: Client) -> None:
    found = await values(client)
    assert found["jasaweb_rt_connections"] == 0
    assert found["jasaweb_rt_relay_ready"] == 1
    assert found["jasaweb_rt_draining"] == 0
    assert found["process_resident_memory_bytes"] > 1_000_000
    assert found["process_open_fds"] > 3


async def test_counters_grow_with_what_happens(client: Client) -> None:
    before = (await values(client))["jasaweb_rt_frames_published_total"]
    body = {"audience": "all", "type": "system_announcement", "title": "t", "message": "m", "durable": False}
    response = await client.post("/api/admin/websocket/broadcast", json=body, headers=bearer("admin"))
    assert response.status_code == 200
    assert (await values(client))["jasaweb_rt_frames_published_total"] == before + 1


async def test_openmetrics_comes_where_it_is_asked_for(client: Client) -> None:
    response = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert response.text.endswith("# EOF\n")


@pytest.mark.parametrize("version", ["abc", "1.x", ""])
async def test_a_version_that_is_none_gets_some_format_all_the_same(client: Client, version: str) -> None:
    response = await client.get("/metrics", headers={"Accept": f"application/openmetrics-text; version={version}"})
    assert response.status_code == 200
    assert "jasaweb_rt_connections" in response.text


async def test_it_is_for_the_metrics_networks_only(client: Client) -> None:
    response = await client.get("/metrics", headers={"X-Forwarded-Untrusted": "1"})
    assert response.status_code == 403
    assert "JASAWEB_RT_METRICS_NETWORKS" in response.json()["error"]
