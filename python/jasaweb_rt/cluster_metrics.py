"""What is measured about the link to the other nodes, as Prometheus knows it; see `jasaweb_rt.metrics`."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from jasaweb_rt._core import ClusterStats

__all__ = ["cluster_metrics"]

_PREFIX = "jasaweb_rt_cluster"
_GAUGES = {
    "connected": "1 while the node is linked to NATS and hears its own echo",
    "peers": "Other nodes that are heard",
    "subscriptions": "Users whose frames the node hears",
    "silent": "Subscriptions that did not echo, were made anew, and have not echoed since",
    "outbox_bytes": "Bytes that wait to leave for other nodes",
}
_COUNTERS = {
    "published": "Messages that were handed to NATS for other nodes",
    "received": "Messages of other nodes that came",
    "refused": "Calls that were refused because too much waited to leave",
    "malformed": "Messages on our subjects that could not be read",
    "subscribed": "Users that the node began to hear",
    "unsubscribed": "Users that the node left off hearing",
    "links": "Links to NATS that were made",
    "slow_consumers": "Messages that were lost because a subscription was not read fast enough",
    "silenced": "Subscriptions that were found silent, and made anew",
}
_DROPS = ("unlinked", "too_large", "overloaded")


def cluster_metrics(stats: ClusterStats) -> Iterator[Metric]:
    """Every measure of the link, as it was when `stats` was taken."""
    for name, meaning in _GAUGES.items():
        yield GaugeMetricFamily(f"{_PREFIX}_{name}", meaning, value=float(getattr(stats, name)))
    for name, meaning in _COUNTERS.items():
        yield CounterMetricFamily(f"{_PREFIX}_{name}", meaning, value=getattr(stats, name))
    dropped = CounterMetricFamily(f"{_PREFIX}_dropped", "Messages between nodes that were dropped", labels=["reason"])
    for reason in _DROPS:
        dropped.add_metric([reason], getattr(stats, f"dropped_{reason}"))
    yield dropped
