"""The server under test: `rust_core/examples/echo.rs`, built before by the Makefile."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.tokens import SECRET, connection_token

ROOT = Path(__file__).parents[2]
# The whole suite takes minutes, and each of its connections comes with the same token.
TOKEN_SECONDS = 3600


class NotBuiltError(RuntimeError):
    """The echo server is missing."""

    def __init__(self, program: Path) -> None:
        super().__init__(f"{program} is missing: make echo-server")


def socket_address(host_and_port: str) -> str:
    """Where a server at `host:port` takes sockets, with a token."""
    token = connection_token("suite", exp=int(time.time()) + TOKEN_SECONDS)
    return f"ws://{host_and_port}/ws?token={token}"


@contextmanager
def echo_server() -> Iterator[str]:
    """Starts the server; gives its `host:port`."""
    program = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug/examples/echo"
    if not program.exists():
        raise NotBuiltError(program)
    with subprocess.Popen([program, SECRET], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
            server.stdin.close()
            assert server.wait(timeout=30) == 0
        finally:
            server.kill()
