"""What is measured, each against the floor program or against ourselves in the same run; a module for each family."""

from collections.abc import Callable, Iterator

from benches.measures.bookkeeping import log
from benches.measures.calls import absent, distinct
from benches.measures.commits import bulk, receipt, writers
from benches.measures.compression import deflate
from benches.measures.connections import churn, memory, storm
from benches.measures.disturbances import besieged, slow, spinning
from benches.measures.figures import RATIO, Figure, Run
from benches.measures.floods import flood, moderate
from benches.measures.nodes import across, interest, nodes
from benches.measures.pace import cost, last, scale
from benches.measures.peers import peers
from benches.measures.resumption import reconnect
from benches.measures.rolling import rolling
from benches.measures.threads import workers

__all__ = ["MEASURES", "RATIO", "SECTIONS", "Figure", "Measure", "Run"]

Measure = Callable[[Run], Iterator[Figure]]

_CORE: tuple[Measure, ...] = (
    cost,
    last,
    workers,
    flood,
    moderate,
    absent,
    distinct,
    storm,
    memory,
    spinning,
    slow,
    besieged,
    deflate,
    scale,
    churn,
)
_CLUSTER: tuple[Measure, ...] = (across, interest, nodes, rolling)
_DURABLE: tuple[Measure, ...] = (receipt, writers, bulk, reconnect, log)

SECTIONS: dict[str, dict[str, Measure]] = {
    "figures": {each.__name__: each for each in _CORE},
    "peer figures": {"peers": peers},
    "cluster figures": {each.__name__: each for each in _CLUSTER},
    "durable figures": {each.__name__: each for each in _DURABLE},
}
"""Measures by name, in the order of their tables of goals. A section has a place of its
own in RESULTS.md, between marks that bear its name."""
MEASURES: dict[str, Measure] = {name: each for section in SECTIONS.values() for name, each in section.items()}
"""All of them."""
