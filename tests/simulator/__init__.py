"""Nothing committed is lost, doubled or out of order: a whole system under faults that are drawn from a seed.

`plan.py` draws, `world.py` runs the programs, `writers.py` write, `devices.py` receive over `links.py`, which are cut,
`faults.py` does harm, `truth.py` compares in the end, `run.py` puts it together. docs/simulator.md says what for.
"""
