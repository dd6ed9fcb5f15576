"""uvicorn as our servers need it: on a socket that is given, without signals of its own, ended from outside."""

import asyncio
import contextlib
import errno
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from jasaweb_rt.exceptions import RealtimeError
from jasaweb_rt.sparing_log import SparingLog

__all__ = ["HttpServer", "head_as_get", "log_failure", "logged", "unix_listener"]

logger = logging.getLogger(__name__)
sparing = SparingLog(logger)
access_logger = logging.getLogger("jasaweb_rt.access")

# Longer than the front door keeps an idle connection to us, or it could send a request into one that we just closed.
_KEEP_ALIVE_SECONDS = 120
_START_SECONDS = 10.0
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class HttpServer(uvicorn.Server):
    """uvicorn without signal handlers of its own."""

    def __init__(self, app: ASGIApp, graceful_seconds: float) -> None:
        """`app` finds the true client in its scope: see `forwarders`."""
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, int(graceful_seconds)),
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to whoever runs it."""
        yield

    @contextlib.asynccontextmanager
    async def running(
        self, listener: socket.socket, time_to_end: Callable[[], float]
    ) -> AsyncIterator["asyncio.Future[None]"]:
        """Serves what comes to `listener`, a bound socket, as long as the block, and closes it then.

        The block begins once requests are taken, and is given what is done where the server has ended by itself. At
        its end requests that are under way have `time_to_end()` seconds, and are cut then.
        """
        serving = asyncio.ensure_future(self._serve_on(listener))
        try:
            await self._wait_started(serving)
            yield serving
        finally:
            self.should_exit = True
            done, _ = await asyncio.wait([serving], timeout=time_to_end())
            if not done:
                self.force_exit = True
            await serving

    async def _serve_on(self, listener: socket.socket) -> None:
        with listener:
            await self.serve([listener])

    async def _wait_started(self, serving: "asyncio.Future[None]") -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self.started:
            if serving.done() or time.monotonic() > deadline:
                raise RealtimeError("The web application did not start; the log says why.")
            await asyncio.sleep(0.005)


def unix_listener(path: Path) -> socket.socket:
    """A Unix socket bound to `path`, which does not listen yet. The folder says who may reach it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    return listener


def log_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs what failed on the event loop, without a traceback where the system refuses a connection: that is no bug."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES:
        # The loop waits a second and tries again, each time with this.
        sparing.log(logging.ERROR, f"The web application cannot take a request in: {error.strerror}; trying again")
    else:
        loop.default_exception_handler(context)


def head_as_get(app: ASGIApp) -> ASGIApp:
    """Answers HEAD as GET (RFC 9110 section 9.3.2); uvicorn leaves out the content."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope, receive, send)  # type: ignore[arg-type]

    return answer


def logged(app: ASGIApp) -> ASGIApp:
    """Logs a line for each request. Never the query, which may hold a token."""

    async def log(scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, note)
        finally:
            milliseconds = (time.monotonic() - began) * 1000
            access_logger.info("%s %s %d %.1f ms", scope.get("method"), scope["path"], status, milliseconds)

    return log
