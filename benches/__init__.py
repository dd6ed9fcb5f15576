"""Benchmarks: each figure a ratio, measured side by side in one run. `make bench` runs them; README.md says how."""
