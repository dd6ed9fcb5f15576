"""Seeds that are run with the other tests.

A seed that has failed stays here for good, with what it found. It draws the same faults as long as `plan.py` does; when
that changes, the defect is kept by a test of its own, and the seed by its name.
"""

FAILED: dict[int, str] = {
    13: "the relay met a connection whose server had said goodbye, and logged a traceback (test_relay.py)",
    14: "the same, in the moment in which it let go of the lock by which it sleeps",
}
