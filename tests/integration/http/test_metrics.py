"""`/metrics`: what it tells, in which format, and to whom."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jasaweb_rt import _core
from jasaweb_rt.cluster_metrics import cluster_metrics
from jasaweb_rt.gateway import Gateway
from tests.integration.http.conftest import Client
from tests.support.pages import ROOT
from tests.support.people import bearer
from tests.support.sockets import closed, opened, until
from tests.support.tokens import SECRET

pytestmark = pytest.mark.usefixtures("gateway")


async def values(client: Client) -> dict[str, float]:
    """Every sample by its name, and its labels where it has some."""
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return {
        sample.name + "".join(f"/{value}" for value in sample.labels.values()): sample.value
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


async def test_frames_and_writes_are_told_as_the_core_counts_them(client: Client, gateway: Gateway) -> None:
    async with opened(gateway.server, "client") as socket:
        for number in range(500):
            gateway.server.broadcast_to_user("client", str(number))
        while await socket.recv() != "499":
            pass
    # Its shard counts a write behind it, one number after the other, and has done so before it forgets the connection.
    await until(lambda: gateway.server.stats().connections == 0)
    stats, found = gateway.server.stats(), await values(client)
    assert stats.frames_written >= 502
    for name in ("frames_encoded", "deliveries", "writes", "frames_written", "coalesced_writes", "coalesced_frames"):
        assert found[f"jasaweb_rt_{name}_total"] >= getattr(stats, name) > 0
    assert found["jasaweb_rt_written_bytes_total"] >= stats.bytes_written > 1000
    assert found["jasaweb_rt_queue_high_water_bytes"] >= stats.queue_high_water_bytes > 0
    assert found["jasaweb_rt_backlog_high_water_bytes"] > 0
    assert found["jasaweb_rt_events_high_water"] > 0


async def test_the_histogram_is_one_that_prometheus_can_use(client: Client, gateway: Gateway) -> None:
    name = "jasaweb_rt_publish_to_write_seconds"
    async with opened(gateway.server, "client") as socket:
        for number in range(3):  # a write each: what waits together would go together and count once
            gateway.server.broadcast_to_user("client", str(number))
            while await socket.recv() != str(number):
                pass
    # Its shard counts a write behind it, the `sync` frame's too, and has done so before it forgets the connection.
    await until(lambda: gateway.server.stats().connections == 0)
    text = (await client.get("/metrics")).text
    (family,) = [found for found in text_string_to_metric_families(text) if found.name == name]
    assert family.type == "histogram"
    samples = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    buckets = [value for (sample, _), value in samples.items() if sample == f"{name}_bucket"]
    assert buckets == sorted(buckets)
    histogram = gateway.server.stats().publish_to_write
    assert len(buckets) == len(histogram.counts)
    assert samples[f"{name}_bucket", "+Inf"] == samples[f"{name}_count", None] == sum(histogram.counts) >= 3
    assert samples[f"{name}_bucket", "0.1"] == sum(histogram.counts[: histogram.bounds.index(0.1) + 1])
    assert samples[f"{name}_sum", None] == pytest.approx(histogram.sum_seconds)


async def test_drops_are_told_by_reason(client: Client, gateway: Gateway) -> None:
    async with opened(gateway.server, "client", max_queue=1, compression=None) as slow:
        slow.transport.pause_reading()
        while not gateway.server.stats().slow_consumers:
            gateway.server.broadcast_to_user("client", f'"{"x" * 200_000}"')
            await until(lambda: gateway.server.stats().backlog_bytes == 0)
        slow.transport.resume_reading()
        # 1006 where it took longer to read all that than the server waits for the end.
        assert (await closed(slow))[0] in {4002, 1006}
    await until(lambda: gateway.server.stats().connections == 0)
    found = await values(client)
    drops = gateway.server.stats().drops
    assert found["jasaweb_rt_frames_dropped_total/slow_consumer"] == drops.slow_consumer > 0
    assert found["jasaweb_rt_slow_consumers_total"] == 1
    assert found["jasaweb_rt_handshakes_refused_total/authentication"] == 0


async def test_everything_that_the_core_counts_is_told(client: Client) -> None:
    found = await values(client)

    def fields(record: type) -> set[str]:
        return {name for name in vars(record) if not name.startswith("_")}

    def reasons(name: str) -> set[str]:
        return {sample.partition("/")[2] for sample in found if sample.startswith(f"jasaweb_rt_{name}_total/")}

    elsewhere = {"bytes_written", "handshakes_refused", "refusals", "drops", "publish_to_write"}
    elsewhere |= {"http_refused", "http_refusals", "cluster"}
    for name in fields(_core.Stats) - elsewhere:
        assert found.keys() & {f"jasaweb_rt_{name}", f"jasaweb_rt_{name}_total"}, name
    assert reasons("handshakes_refused") == fields(_core.HandshakeRefusals)
    assert reasons("http_refused") == fields(_core.HttpRefusals)
    elsewhere = {"overloaded", "client_rate", "client_backlog", "client_refused", "client_slow", "events", "progress"}
    assert reasons("frames_dropped") == fields(_core.Drops) - elsewhere
    assert reasons("client_frames_refused") == {"rate", "events_full", "dispatch_full", "content", "slow"}
    explained = (ROOT / "docs" / "metrics.md").read_text()
    ours = {sample.partition("/")[0] for sample in found if sample.startswith("jasaweb_rt_")}
    for name in ours - {f"jasaweb_rt_publish_to_write_seconds_{part}" for part in ("count", "sum", "bucket")}:
        assert f"`{name.removeprefix('jasaweb_rt_')}" in explained, name
    for name in ("sends_refused", "events_dropped", "progress_dropped", "hook_events_dropped"):
        assert found[f"jasaweb_rt_{name}_total"] == 0


def test_everything_that_is_counted_of_a_cluster_is_told() -> None:
    server = _core.FanoutServer(token_secret=SECRET, nats_url=["nats://127.0.0.1:9"])
    server.start()
    try:
        stats = server.stats().cluster
    finally:
        server.stop(0)
    assert stats is not None
    told = {
        sample.name.removeprefix("jasaweb_rt_cluster_").removesuffix("_total")
        + "".join(f"_{reason}" for reason in sample.labels.values())
        for family in cluster_metrics(stats)
        for sample in family.samples
    }
    assert told == {name for name in vars(_core.ClusterStats) if not name.startswith("_")}


async def test_what_the_recorder_drops_is_told(client: Client) -> None:
    found = await values(client)
    for name in ("connection_rows", "messages", "proofs"):
        assert found[f"jasaweb_rt_recorder_{name}_dropped_total"] == 0
    assert found["jasaweb_rt_client_frames_refused_total/dispatch_full"] == 0


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
