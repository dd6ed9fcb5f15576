"""The extension alone: no web app, no database."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jasaweb_rt._core import FanoutServer
from tests.support.tokens import SECRET

StartServer = Callable[..., FanoutServer]


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Starts servers with any limits, and stops them all."""
    servers: list[FanoutServer] = []

    def start(**limits: Any) -> FanoutServer:
        options: dict[str, Any] = {"connect_rate_per_ip": 0, "max_connections_per_ip": 0, **limits}
        server = FanoutServer(token_secret=SECRET, **options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop(0)


@pytest.fixture
def server(start_server: StartServer) -> FanoutServer:
    """A server with the documented limits, but for those of the one address that all tests come from."""
    return start_server()
