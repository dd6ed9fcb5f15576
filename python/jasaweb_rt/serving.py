"""The life of a whole server: database, web application, front door; and its end.

Started in that order, so that whoever gets through the front door finds everything behind it. Stopped the other way
round: sockets are told to come back later while requests finish, then the application ends, then what it stands on.
"""

import asyncio
import contextlib
import errno
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import uvicorn
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from jasaweb_rt import demo
from jasaweb_rt.app import create_app
from jasaweb_rt.config import Keys, Settings
from jasaweb_rt.database.embedded import EmbeddedPostgres
from jasaweb_rt.database.migrations import check_rights, migrate_for
from jasaweb_rt.database.pool import acquire, create_pool
from jasaweb_rt.exceptions import RealtimeError
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.hooks import Hooks
from jasaweb_rt.key_rotation import KeyRotation
from jasaweb_rt.services import Services, close_pool
from jasaweb_rt.socket_folder import SocketFolder
from jasaweb_rt.sparing_log import SparingLog
from jasaweb_rt.supervisor import READY, STOPPING, tell_supervisor

__all__ = ["Server"]

logger = logging.getLogger(__name__)
sparing = SparingLog(logger)
access_logger = logging.getLogger("jasaweb_rt.access")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Longer than the front door keeps an idle connection to us, or it could send a request into one that we just closed.
_KEEP_ALIVE_SECONDS = 120
_HTTP_START_SECONDS = 10.0
# Of a long stop, kept for what comes after the sockets: the last rows, hooks, the database.
_AFTERWARDS_SECONDS = 6.0
# A supervisor may signal the process and its group, which comes as two signals and means one.
_SAME_WISH_SECONDS = 0.3
_STDERR = 2
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# Any other error, such as too many open files, says nothing of the terminal.
_TERMINAL_GONE = frozenset({errno.ENXIO, errno.EIO})


class Server:
    """One run of `jasaweb-rt serve`. To be used once, from the main thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        with_demo: bool = False,
        take_over: bool = False,
        access_log: bool = False,
        hooks: Hooks | None = None,
        on_ready: Callable[[str], object] = lambda _: None,
        load_keys: Callable[[], Keys] | None = None,
    ) -> None:
        """Nothing runs yet.

        Args:
            settings: what to run.
            with_demo: insert the demo's people, and offer them on the log-in page.
            take_over: listen beside a server of ours that has the port already; see `Gateway`.
            access_log: log a line for each request: method, path without query, status, duration.
            hooks: who is told of what happens, on the event loop of the web application.
            on_ready: is called with the server's URL once it can be used.
            load_keys: reads the keys again, for SIGHUP; None: they are those of `settings` for ever.
        """
        self._settings = settings
        self._demo = with_demo
        self._take_over = take_over
        self._access_log = access_log
        self._hooks = hooks
        self._on_ready = on_ready
        self._load_keys = load_keys
        self._hung_up = False
        self._had_terminal = False
        self._postgres: EmbeddedPostgres | None = None
        self._folder: SocketFolder | None = None
        self._signalled = False
        self._stop_began: float | None = None
        self._guard: threading.Timer | None = None

    def run(self) -> None:
        """Runs until SIGINT or SIGTERM, then drains and returns; a second signal ends the process at once.

        SIGHUP has the keys read again; it means an end where it comes because the terminal has gone.

        Raises:
            ConfigurationError: the port is taken, or a limit cannot be used.
            DatabaseUnavailableError: the database does not answer at start.
            EmbeddedPostgresError: the embedded server cannot run.
            MigrationError: the database cannot be brought to the version that this program needs, or its role may not
                do what a server does.
        """
        previous = {number: signal.signal(number, signal.default_int_handler) for number in _SIGNALS}
        previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._note_hang_up)
        # Under `nohup` it is to outlive its terminal.
        self._had_terminal = previous[signal.SIGHUP] != signal.SIG_IGN and _terminal_error() == 0
        try:
            with contextlib.suppress(KeyboardInterrupt):
                self._run()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _run(self) -> None:
        self._folder = SocketFolder()
        try:
            url = self._settings.database_url
            if url is None:
                # The server dies with the thread that started it, and so it is started here, from the main thread.
                self._postgres = EmbeddedPostgres(self._settings.data_dir)
                url = self._postgres.start()
            # An exception in the midst of making or closing the event loop would leave a traceback behind.
            for number in _SIGNALS:
                signal.signal(number, self._note_signal)
            asyncio.run(self._serve(url))
        finally:
            for number in _SIGNALS:
                signal.signal(number, lambda *_: self._end_at_once())
            if self._postgres is not None:
                self._postgres.stop(max(1.0, self._remaining()))
            self._folder.remove()
            if self._guard is not None:
                self._guard.cancel()

    async def _serve(self, database_url: str) -> None:
        loop, stop, keys_wanted = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        loop.set_exception_handler(_log_failure)
        starting = asyncio.ensure_future(self._prepare_database(database_url))

        def end() -> None:
            if not stop.is_set():
                logger.info("stopping; a second signal ends at once")
                tell_supervisor(STOPPING)
            stop.set()
            starting.cancel()

        def on_signal(*_: object) -> None:
            # Not through the event loop: a hook or a handler that spins there must not outlive the time of a stop. And
            # nothing is logged from here: where nobody reads the log, whoever writes to it waits.
            if self._stop_began is not None and time.monotonic() - self._stop_began > _SAME_WISH_SECONDS:
                self._end_at_once()
            self._begin_to_stop()
            loop.call_soon_threadsafe(end)

        def on_hang_up(*_: object) -> None:
            if self._had_terminal and _terminal_error() in _TERMINAL_GONE:
                on_signal()
            else:
                loop.call_soon_threadsafe(keys_wanted.set)

        for number in _SIGNALS:
            signal.signal(number, on_signal)
        signal.signal(signal.SIGHUP, on_hang_up)
        if self._signalled:
            on_signal()
        if self._hung_up:
            on_hang_up()
        try:
            await starting
        except asyncio.CancelledError:
            return
        pool = await create_pool(database_url)
        try:
            if self._demo:
                async with acquire(pool) as connection:
                    await demo.seed(connection)
            assert self._folder is not None  # noqa: S101  # set by `_run`
            app_socket = self._folder.socket
            gateway = Gateway(self._settings, database_url, app_socket, self._hooks, take_over=self._take_over)
            services = Services(self._settings, pool, gateway, demo=self._demo)
            gateway.hooks.start()
            try:
                await self._serve_http(gateway, services, stop, keys_wanted)
            finally:
                # After the gateway and the last request, so that they hear of everything.
                await gateway.hooks.stop(max(0.2, self._remaining() * 0.5))
        finally:
            await close_pool(pool, max(1.0, self._remaining() - 1.0))

    async def _prepare_database(self, database_url: str) -> None:
        if self._postgres is not None:
            await self._postgres.wait_ready()
        for name in await migrate_for(database_url, self._settings.migrate_url):
            logger.info("applied migration %s", name)
        await check_rights(database_url)

    async def _serve_http(
        self, gateway: Gateway, services: Services, stop: asyncio.Event, keys_wanted: asyncio.Event
    ) -> None:
        assert self._folder is not None  # noqa: S101  # set by `_run`
        app: ASGIApp = create_app(self._settings, services=services)
        app = _head_as_get(_logged(app) if self._access_log else app)
        http = _HttpServer(app, self._settings.drain_seconds)
        serving = asyncio.ensure_future(http.serve_on(self._folder.socket))
        try:
            await http.wait_started(serving)
            try:
                await asyncio.to_thread(gateway.start)
                self._announce(gateway)
                async with self._rotation(gateway, keys_wanted):
                    await _first(stop, serving)
            finally:
                self._begin_to_stop()
                left = self._remaining()
                await asyncio.to_thread(gateway.stop, max(0.5, left - min(_AFTERWARDS_SECONDS, left * 0.3)))
        finally:
            http.should_exit = True
            done, _ = await asyncio.wait([serving], timeout=max(0.5, self._remaining() * 0.5))
            if not done:
                http.force_exit = True
            await serving

    @contextlib.asynccontextmanager
    async def _rotation(self, gateway: Gateway, wanted: asyncio.Event) -> AsyncIterator[None]:
        """Inside the block, keys are read again when that is wanted."""
        if self._load_keys is None:
            yield
            return
        rotating = asyncio.ensure_future(KeyRotation(self._load_keys, gateway).run(wanted))
        try:
            yield
        finally:
            rotating.cancel()
            await asyncio.wait([rotating])

    def _note_signal(self, *_: object) -> None:
        self._signalled = True

    def _note_hang_up(self, *_: object) -> None:
        self._hung_up = True

    def _announce(self, gateway: Gateway) -> None:
        host, port = gateway.server.address
        scheme = "https" if self._settings.tls_cert else "http"
        url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        logger.info("listening on %s", url)
        tell_supervisor(READY)
        self._on_ready(url)

    def _begin_to_stop(self) -> None:
        if self._stop_began is not None:
            return
        self._stop_began = time.monotonic()
        self._guard = threading.Timer(self._settings.drain_seconds, self._end_at_once)
        self._guard.daemon = True
        self._guard.start()

    def _remaining(self) -> float:
        """Seconds left of a stop; all of them before it has begun."""
        gone = 0.0 if self._stop_began is None else time.monotonic() - self._stop_began
        return max(0.0, self._settings.drain_seconds - gone)

    def _end_at_once(self) -> NoReturn:
        """Ends the process without waiting for anything. The embedded server ends with it, by itself."""
        if self._folder is not None:
            self._folder.remove()
        with contextlib.suppress(OSError):
            # Past `sys.stderr`, which a thread that waits in a write to it keeps for itself.
            if select.select([], [_STDERR], [], 0)[1]:
                os.write(_STDERR, b"Ended without waiting.\n")
        os._exit(1)


def _terminal_error() -> int:
    """0 where there is a controlling terminal, at whose end the system sends SIGHUP; else why it cannot be opened."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


class _HttpServer(uvicorn.Server):
    """uvicorn on a Unix socket, without signal handlers of its own."""

    def __init__(self, app: ASGIApp, graceful_seconds: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                # Only the front door can reach the socket, and it writes the true address and scheme.
                proxy_headers=True,
                forwarded_allow_ips="*",
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, int(graceful_seconds)),
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to `Server`."""
        yield

    async def serve_on(self, path: Path) -> None:
        """Serves until `should_exit`."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            await self.serve([listener])

    async def wait_started(self, serving: "asyncio.Future[None]") -> None:
        """Returns once requests are taken."""
        deadline = time.monotonic() + _HTTP_START_SECONDS
        while not self.started:
            if serving.done() or time.monotonic() > deadline:
                raise RealtimeError("The web application did not start; the log says why.")
            await asyncio.sleep(0.005)


def _log_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs what failed on the event loop, without a traceback where the system refuses a connection: that is no bug."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES:
        # The loop waits a second and tries again, each time with this.
        sparing.log(logging.ERROR, f"The web application cannot take a request in: {error.strerror}; trying again")
    else:
        loop.default_exception_handler(context)


async def _first(stop: asyncio.Event, serving: "asyncio.Future[None]") -> None:
    """Waits for the wish to stop, or for the end of the web application, which is an error."""
    stopping = asyncio.ensure_future(_wait(stop))
    try:
        await asyncio.wait([stopping, serving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if serving.done() and not stop.is_set():
        raise RealtimeError("The web application has ended by itself; the log says why.")


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def _head_as_get(app: ASGIApp) -> ASGIApp:
    """Answers HEAD as GET (RFC 9110 section 9.3.2); uvicorn leaves out the content."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope, receive, send)  # type: ignore[arg-type]

    return answer


def _logged(app: ASGIApp) -> ASGIApp:
    """Logs a line for each request. Never the query, which may hold a token."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
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

    return logged
