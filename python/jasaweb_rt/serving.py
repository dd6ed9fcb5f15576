"""The life of a server's process: signals, the embedded database, and what its role runs; and its end.

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
from collections.abc import Callable
from typing import NoReturn

from jasaweb_rt.config import Keys, Settings
from jasaweb_rt.database.embedded import EmbeddedPostgres, running_url
from jasaweb_rt.database.migrations import check_rights, migrate_for
from jasaweb_rt.exceptions import DatabaseUnavailableError
from jasaweb_rt.hooks import Hooks
from jasaweb_rt.serving_http import log_failure
from jasaweb_rt.serving_roles import Run
from jasaweb_rt.socket_folder import SocketFolder
from jasaweb_rt.stop_clock import StopClock
from jasaweb_rt.supervisor import STOPPING, tell_supervisor

__all__ = ["Server"]

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A supervisor may signal the process and its group, which comes as two signals and means one.
_SAME_WISH_SECONDS = 0.3
_STDERR = 2
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
        self._clock = StopClock(settings.drain_seconds, self._end_at_once)

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
            if url is None and self._settings.role == "app":
                url = _url_of_gateway(self._settings)
            elif url is None:
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
                self._postgres.stop(max(1.0, self._clock.remaining))
            self._folder.remove()
            self._clock.cancel()

    async def _serve(self, database_url: str) -> None:
        loop, stop, keys_wanted = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        loop.set_exception_handler(log_failure)
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
            if (self._clock.since or 0.0) > _SAME_WISH_SECONDS:
                self._end_at_once()
            self._clock.begin()
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
        assert self._folder is not None  # noqa: S101  # set by `_run`
        run = Run(
            self._settings,
            database_url,
            self._folder.socket,
            self._clock,
            with_demo=self._demo,
            take_over=self._take_over,
            access_log=self._access_log,
            hooks=self._hooks,
            on_ready=self._on_ready,
            load_keys=self._load_keys,
        )
        await run.until(stop, keys_wanted)

    async def _prepare_database(self, database_url: str) -> None:
        if self._postgres is not None:
            await self._postgres.wait_ready()
        for name in await migrate_for(database_url, self._settings.migrate_url):
            logger.info("applied migration %s", name)
        await check_rights(database_url)

    def _note_signal(self, *_: object) -> None:
        self._signalled = True

    def _note_hang_up(self, *_: object) -> None:
        self._hung_up = True

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


def _url_of_gateway(settings: Settings) -> str:
    """Where the embedded database of a gateway of the same folder is."""
    url = running_url(settings.data_dir)
    if url is None:
        raise DatabaseUnavailableError(
            "An app brings no PostgreSQL of its own; set DATABASE_URL to that of the gateways, or start a gateway in "
            "this folder first"
        )
    return url
