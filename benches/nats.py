"""A NATS server under measurement: one, on cores that are given, with its defaults."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["nats"]

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0
_LOOK_SECONDS = 0.02


@contextlib.contextmanager
def nats(cores: set[int]) -> Iterator[str]:
    """Runs a server on `cores` for as long as the block, and gives its URL.

    Raises:
        RuntimeError: it does not take connections.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    # Of the wheel that the tests have it from, too.
    command = [str(Path(sys.executable).with_name("nats-server")), "--addr", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(  # noqa: S603  # installed beside this Python
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    try:
        _wait_ready(process, port)
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
            # The first thing that it says: https://docs.nats.io/reference/reference-protocols/nats-protocol
            if client.recv(5) == b"INFO ":
                return
        time.sleep(_LOOK_SECONDS)
    raise RuntimeError("the NATS server does not take connections")
