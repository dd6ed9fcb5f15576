"""Ports for programs that are started again on the same one."""

import contextlib
import random
import socket

_BELOW_EPHEMERAL = range(20_000, 32_000)


def free_port() -> int:
    """A port of loopback that nobody listens on.

    Not one of those that the system lends out, or another socket could have it while the program is down: even a
    client's own, whose attempt to connect would then meet itself.
    """
    while True:
        port = random.choice(_BELOW_EPHEMERAL)  # noqa: S311  # spread, not secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
