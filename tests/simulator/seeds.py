"""Seeds that are run with the other tests.

A seed that has failed stays here for good, with what it found. It draws the same faults as long as `plan.py` does; when
that changes, the defect is kept by a test of its own, and the seed by its name.
"""

FAILED: dict[int, str] = {
    13: "the relay met a connection whose server had said goodbye, and logged a traceback (test_relay.py)",
    14: "the same, in the moment in which it let go of the lock by which it sleeps",
    485184549: (
        "PostgreSQL's clock was set back, as it is not any more, and a deadlock of the writers was not found; "
        "so did 175995324, 42781361, 177719404, 523282616 and 791716942"
    ),
    973244827: (
        "a writer did not end: asyncpg waited to go on with a COPY whose connection was gone (a test of its own); "
        "once in 25 times, and so did 695727151 once in 20"
    ),
}

CLUSTERS: dict[int, str] = {
    1: "nodes know all NATS servers",
    3: "nodes know their own NATS server only",
}
"""The same in clusters; and what is special about those that have not failed."""
