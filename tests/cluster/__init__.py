"""A whole cluster on this machine: `make run-cluster`."""
