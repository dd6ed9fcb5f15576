"""The server of the soak tells all that the soak looks at."""

import os
import sys

from benches.programs import Program

LOOKED_AT = {
    "backlog_bytes",
    "connections",
    "connections_closed",
    "connections_opened",
    "deliveries",
    "events_dropped",
    "heard",
    "panics",
    "slow_consumers",
    "users",
    "waiting_bytes",
}


def test_its_counters_are_those_that_are_looked_at() -> None:
    with Program((sys.executable, "-m", "benches.servers.soaked"), os.sched_getaffinity(0)) as server:
        assert server.stats().keys() >= LOOKED_AT
