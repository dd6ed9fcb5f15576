"""What is measured, each against the floor program or against ourselves in the same run; a module for each family."""

from collections.abc import Callable, Iterator

from benches.measures.calls import absent, distinct
from benches.measures.compression import deflate
from benches.measures.connections import churn, memory, storm
from benches.measures.disturbances import slow, spinning
from benches.measures.figures import RATIO, Figure, Run
from benches.measures.floods import flood, moderate
from benches.measures.pace import cost, last, scale
from benches.measures.peers import peers
from benches.measures.threads import workers

__all__ = ["MEASURES", "RATIO", "Figure", "Run"]

MEASURES: dict[str, Callable[[Run], Iterator[Figure]]] = {
    each.__name__: each
    for each in (
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
        deflate,
        scale,
        churn,
        peers,
    )
}
"""By name, in the order of the table of goals; what has none comes last."""
