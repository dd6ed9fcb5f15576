"""What a call into the core costs, by pytest-benchmark: `make bench-bindings`. The tests do not collect these."""
