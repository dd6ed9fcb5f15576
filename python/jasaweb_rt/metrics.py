"""What is measured about a running server, as Prometheus knows it: read when asked for, nothing is kept here.

Names follow Prometheus' own advice: base units, `_total` for what only grows, a label where the parts of one whole are
told apart. docs/metrics.md explains each.
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from jasaweb_rt._core import Drops, HandshakeRefusals, Histogram, HttpRefusals
from jasaweb_rt.cluster_metrics import cluster_metrics

if TYPE_CHECKING:
    from jasaweb_rt.gateway import Gateway
    from jasaweb_rt.node import Node

__all__ = ["GatewayMeasures", "Metrics", "NodeMeasures"]

_PREFIX = "jasaweb_rt"
_COUNTERS = {
    "connections_opened": "Connections that were opened",
    "connections_closed": "Connections that have ended",
    "connections_turned_away": "Connections that were turned away because file descriptors were short",
    "frames_published": "Frames that were handed to the core, whatever their audience",
    "frames_encoded": "Messages that were encoded, each once whatever its receivers",
    "compressions": "Messages that were deflated, each once whatever its receivers",
    "deliveries": "Frames that were handed to an open connection",
    "writes": "System calls that wrote to a connection",
    "frames_written": "Frames that these calls finished, control frames too",
    "coalesced_writes": "Those of these calls that finished more than one frame",
    "coalesced_frames": "Frames that were finished by a call that finished more than one",
    "arrays": "Messages that were made of two or more frames, for clients that asked for batch=1",
    "frames_received": "Text messages of clients that were within their limits",
    "slow_consumers": "Connections that were closed with 4002, for not keeping up",
    "panics": "Tasks of the core that ended in a panic",
}
_GAUGES = {
    "connections": "Open connections",
    "users": "Users with an open connection",
    "http_connections": "Open connections that are no WebSockets, or not yet",
    "backlog_bytes": "Bytes of frames that wait for their shard",
    "queue_high_water_bytes": "The most bytes that have waited for one connection since the start",
    "backlog_high_water_bytes": "The most bytes of frames that have waited for one shard since the start",
    "events_high_water": "The most events that have waited for the gateway since the start",
}
_HANDSHAKE_REFUSALS = (
    "draining",
    "tls",
    "malformed",
    "origin",
    "rate",
    "address_full",
    "server_full",
    "authentication",
)
_HTTP_REFUSALS = (
    "address_full",
    "displaced",
    "rate",
    "requests_address_full",
    "requests_full",
    "malformed",
    "too_large",
    "too_slow",
)
_FRAME_DROPS = ("slow_consumer", "no_pong", "closing", "disconnected", "duplicate", "superseded", "outdated")


class GatewayMeasures(Collector):
    """The measures of one gateway."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        """Every measure, as it is now."""
        gateway = self._gateway
        stats = gateway.server.stats()
        for name, meaning in _COUNTERS.items():
            yield _counter(name, meaning, getattr(stats, name))
        yield _counter("written_bytes", "Bytes that were written to connections", stats.bytes_written)
        for name, meaning in _GAUGES.items():
            yield _gauge(name, meaning, getattr(stats, name))
        yield _histogram(
            "publish_to_write_seconds",
            "Writes by the time from the call that published the oldest frame in it to its return",
            stats.publish_to_write,
        )
        yield _counter_by_reason(
            "handshakes_refused",
            "WebSocket requests that were refused before the upgrade, or right behind it",
            _values(stats.refusals, _HANDSHAKE_REFUSALS),
        )
        yield _counter_by_reason(
            "http_refused",
            "Connections and requests of plain HTTP that were refused",
            _values(stats.http_refusals, _HTTP_REFUSALS),
        )
        yield from _drops(stats.drops)
        yield from self._drops_of_the_gateway(stats.drops)
        yield _gauge(
            "relay_ready",
            "1 while a commit would be noticed: this server relays, or stands by for the one that does",
            gateway.is_relay_ready,
        )
        yield _gauge(
            "accepting", "1 while new connections are let in, 0 while file descriptors are short", stats.accepting
        )
        if stats.cluster is not None:
            yield from cluster_metrics(stats.cluster)

    def _drops_of_the_gateway(self, core: Drops) -> Iterator[Metric]:
        gateway, recorder = self._gateway, self._gateway.recorder_drops
        yield _counter_by_reason(
            "client_frames_refused",
            "Frames of clients that were beyond their rate, or found a queue full, or were refused for what they were",
            {
                "rate": core.client_rate,
                "events_full": core.client_backlog,
                "dispatch_full": gateway.client_frames_refused,
                "content": core.client_refused,
                "slow": core.client_slow,
            },
        )
        yield _counter(
            "recorder_connection_rows_dropped",
            "Rows of connections that found too many waiting, and come late, with the next comparison",
            recorder.connection_rows,
        )
        yield _counter(
            "recorder_messages_dropped",
            "Messages that were sent and are not in the message log, since their connection had no row there in time",
            recorder.messages,
        )
        yield _counter(
            "recorder_proofs_dropped",
            "Connections whose messages stay undelivered in the message log, though they may have arrived",
            recorder.proofs,
        )


class NodeMeasures(Collector):
    """What every process measures, whatever its part in a server is."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        """Every measure, as it is now."""
        yield _counter(
            "hook_events_dropped",
            "Events that were dropped because too many waited for a hook, or could not be handed on to one",
            self._node.hook_events_dropped,
        )
        yield _gauge("disk_full", "1 while PostgreSQL has no room to write, or little", self._node.disk.is_full)
        yield _gauge("draining", "1 once the server is stopping", self._node.conditions.draining)


class Metrics:
    """What is told of one process: its own measures, and those of its parts."""

    def __init__(self, *parts: Collector) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        for part in parts:
            self._registry.register(part)
        ProcessCollector(registry=self._registry)

    def encode(self, accept: str) -> tuple[bytes, str]:
        """All measures as text, in the format that an `Accept` header prefers, and its media type."""
        try:
            encode, media_type = choose_encoder(accept)
        except (TypeError, ValueError):
            # A version that is none.
            encode, media_type = choose_encoder("")
        return encode(self._registry), media_type


def _drops(drops: Drops) -> Iterator[Metric]:
    yield _counter_by_reason(
        "frames_dropped", "Frames for a connection that were not written to it", _values(drops, _FRAME_DROPS)
    )
    yield _counter("sends_refused", "Direct sends that were refused because a shard was overloaded", drops.overloaded)
    yield _counter("events_dropped", "Events of the core that nobody took in time", drops.events)
    yield _counter("progress_dropped", "Records of what was sent that nobody took in time", drops.progress)


def _counter(name: str, meaning: str, value: int) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", meaning, value=value)


def _counter_by_reason(name: str, meaning: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"{_PREFIX}_{name}", meaning, labels=["reason"])
    for reason, value in values.items():
        family.add_metric([reason], value)
    return family


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", meaning, value=value)


def _histogram(name: str, meaning: str, histogram: Histogram) -> Metric:
    # Each bucket of Prometheus holds those below it too.
    ends = [*map(floatToGoString, histogram.bounds), "+Inf"]
    buckets = list(zip(ends, accumulate(histogram.counts), strict=True))
    return HistogramMetricFamily(f"{_PREFIX}_{name}", meaning, buckets=buckets, sum_value=histogram.sum_seconds)


def _values(source: Drops | HandshakeRefusals | HttpRefusals, names: tuple[str, ...]) -> dict[str, int]:
    return {name: getattr(source, name) for name in names}
