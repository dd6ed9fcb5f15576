"""What is measured about a running server, as Prometheus knows it: read when asked for, nothing is kept here.

Names follow Prometheus' own advice: base units, `_total` for what only grows.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from jasaweb_rt.gateway import Gateway

__all__ = ["Metrics"]

_PREFIX = "jasaweb_rt"
_COUNTERS = {
    "connections_opened": "Connections that were opened",
    "connections_closed": "Connections that have ended",
    "handshakes_refused": "WebSocket requests that were refused before the upgrade, or right behind it",
    "frames_published": "Frames that were handed to the core, whatever their audience",
    "deliveries": "Frames that were queued to a connection",
    "writes": "System calls that wrote to a connection",
    "arrays": "Messages that were made of two or more frames, for clients that asked for batch=1",
    "bytes_written": "Bytes that were written to connections",
    "compressions": "Messages that were deflated, each once whatever its receivers",
    "frames_received": "Text messages of clients that were within their limits",
    "slow_consumers": "Connections that were closed with 4002, for not keeping up",
    "events_dropped": "Events of the core that nobody took in time",
    "panics": "Tasks of the core that ended in a panic",
}
_GAUGES = {
    "connections": "Open connections",
    "users": "Users with an open connection",
    "backlog_bytes": "Bytes of frames that wait for their shard",
}


class Metrics:
    """The measures of one gateway and of the process that it runs in."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def collect(self) -> Iterator[Metric]:
        """What `CollectorRegistry` asks its collectors for: every measure, as it is now."""
        gateway = self._gateway
        stats = gateway.server.stats()
        for name, meaning in _COUNTERS.items():
            yield CounterMetricFamily(f"{_PREFIX}_{name}", meaning, value=getattr(stats, name))
        for name, meaning in _GAUGES.items():
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", meaning, value=getattr(stats, name))
        yield CounterMetricFamily(
            f"{_PREFIX}_hook_events_dropped",
            "Events that were dropped because too many waited for a hook",
            value=gateway.hooks.dropped,
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_relay_ready",
            "1 while a commit would be noticed: this server relays, or stands by for the one that does",
            value=gateway.is_relay_ready,
        )
        yield GaugeMetricFamily(f"{_PREFIX}_draining", "1 once the server is stopping", value=gateway.is_draining)

    def encode(self, accept: str) -> tuple[bytes, str]:
        """All measures as text, in the format that an `Accept` header prefers, and its media type."""
        try:
            encode, media_type = choose_encoder(accept)
        except (TypeError, ValueError):
            # A version that is none.
            encode, media_type = choose_encoder("")
        return encode(self._registry), media_type
