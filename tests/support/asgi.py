"""An ASGI application under a real uvicorn, on a port of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

from tests.support.sockets import until


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to pytest."""
        yield

    async def serve_here(self) -> None:
        # A failed startup ends the process of uvicorn's own command.
        with contextlib.suppress(SystemExit):
            await self.serve()


class NotStartedError(Exception):
    """The application did not start; the log says why."""


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Runs `app`, lifespan included, as long as the block; its URL. NotStartedError: its startup failed."""
    server = _Server(uvicorn.Config(app, port=0, lifespan="on", ws="none", log_config=None))
    serving = asyncio.ensure_future(server.serve_here())
    await until(lambda: server.started or serving.done(), "the start")
    if not server.started:
        await serving
        raise NotStartedError
    try:
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await serving
