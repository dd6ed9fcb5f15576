"""The gateway: the core with its database side, on a thread and an event loop of their own.

Relay, sync and client frames run here, apart from the application: a request or a hook that spins must not stop a
durable frame. Whatever breaks is started again; while the database is away sockets stay open and direct sends go on.
"""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from prometheus_client.registry import Collector

from jasaweb_rt._core import (
    ClientFrame,
    ClusterEvent,
    Connected,
    Disconnected,
    LogRecord,
    SyncRequest,
)
from jasaweb_rt.auth.keys import KeyRing
from jasaweb_rt.cluster import ClusterLink
from jasaweb_rt.config import Keys, Settings
from jasaweb_rt.core_settings import open_core
from jasaweb_rt.database import outbox, pool
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.disk_watch import DiskWatch
from jasaweb_rt.dispatch import WORKERS, Dispatch
from jasaweb_rt.exceptions import ConfigurationError, DatabaseUnavailableError, ServerStoppedError
from jasaweb_rt.frame_handlers import FrameHandlers
from jasaweb_rt.hook_events import EventPublisher
from jasaweb_rt.hooks import ConnectionClosed, ConnectionOpened, Hooks
from jasaweb_rt.metrics import GatewayMeasures, NodeMeasures
from jasaweb_rt.node import Conditions
from jasaweb_rt.overview import ClusterOverview, LiveOverview, Overview, StoredOverview
from jasaweb_rt.probe_watch import ProbeWatch
from jasaweb_rt.rates import RateMeter
from jasaweb_rt.realtime import Realtime
from jasaweb_rt.recorder import Recorder, RecorderDrops
from jasaweb_rt.relay import Relay
from jasaweb_rt.sparing_log import SparingLog
from jasaweb_rt.standing import StandingWatch
from jasaweb_rt.sync import Sync

__all__ = ["Gateway", "open_gateway"]

logger = logging.getLogger(__name__)
core_logger = logging.getLogger("jasaweb_rt.core")

# Each client frame that is carried out may hold one; the rest is for sync, which must not wait behind them, and for the
# recorder's three tasks.
_POOL_SIZE = WORKERS + 7
_START_SECONDS = 60.0
# The part of a stop that readiness is off and nothing else, at the most.
_NOTICE_SHARE = 0.25
_END_SECONDS = 5.0
_LEAST_HOOK_SECONDS = 1.0
_FINISH_SECONDS = 3.0
_SYNC_RUNNERS = 2
_COMPARE_SECONDS = 15.0
_LEAST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


@asynccontextmanager
async def open_gateway(
    settings: Settings, database_url: str, *, own_socket: Path | None = None, hooks: Hooks | None = None
) -> AsyncIterator["Gateway"]:
    """Runs a gateway, and its hooks on this event loop, as long as the block; arguments and errors as of `Gateway`.

    The end takes `settings.drain_seconds` in all, and a few more at most.
    """
    gateway = Gateway(settings, database_url, own_socket, hooks)
    gateway.hooks.start()
    try:
        await asyncio.to_thread(gateway.start)
        yield gateway
    finally:
        began = time.monotonic()
        try:
            await asyncio.to_thread(gateway.stop, settings.drain_seconds)
        finally:
            # After the gateway, so that they hear of the last connection too.
            await gateway.hooks.stop(max(_LEAST_HOOK_SECONDS, settings.drain_seconds - (time.monotonic() - began)))


class Gateway:
    """A front door with relay and sync behind it. Start it once, stop it once; both block."""

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        own_socket: Path | None = None,
        hooks: Hooks | None = None,
        *,
        take_over: bool = False,
    ) -> None:
        """Nothing runs yet.

        Args:
            settings: limits, secrets, address.
            database_url: where relay and sync look; whatever `settings` has for it.
            own_socket: a Unix socket of this process. Requests other than `/ws` are forwarded to it; in role `gateway`
                only probes are, and the rest goes to `settings.app_address`. None: they get 404.
            hooks: who is told of connections, frames and domain events; the caller starts and stops them.
            take_over: listen beside a server of ours that has the port already, and is to be stopped; Linux only.

        Raises:
            ConfigurationError: a limit cannot be used as given.

        """
        self.hooks = Hooks() if hooks is None else hooks
        self._settings = settings
        self._take_over = take_over
        self._database_url = database_url
        self.server = open_core(settings, own_socket, take_over=take_over)
        self.link = ClusterLink(self.server, is_configured=bool(settings.nats_url))
        # Hooks are the application's; where that is elsewhere, it is told by NATS.
        is_alone = settings.role == "gateway" and bool(settings.nats_url)
        self._publisher = EventPublisher(self.server.publish_event) if is_alone else None
        self._emit = self.hooks.emit if self._publisher is None else self._publisher.emit
        self.realtime = Realtime(self.server)
        self.rate_meter = RateMeter(self.server)
        self.disk = DiskWatch(settings.data_dir if settings.database_url is None else None)
        self.probes = ProbeWatch()
        self.is_draining = False
        self._log = SparingLog(logger)
        self.keys = KeyRing(settings.keys)
        self._relay = Relay(self._connect_relay, self.server, self.link, self._on_user_changed)
        self._pool: asyncpg.Pool | None = None
        self._sync: Sync | None = None
        self._standing: StandingWatch | None = None
        self._dispatch: Dispatch | None = None
        self._recorder: Recorder | None = None
        self._thread: threading.Thread | None = None
        self._stopping: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    @property
    def conditions(self) -> Conditions:
        """How it is now; see `Node`."""
        return Conditions(
            relay=self.is_relay_ready,
            listener=self.is_accepting,
            nats=self.link.is_up if self.link.is_configured else None,
            draining=self.is_draining,
        )

    @property
    def hook_events_dropped(self) -> int:
        """Events that were not told to a hook, or not handed on to those who have hooks."""
        return self.hooks.dropped + (0 if self._publisher is None else self._publisher.dropped)

    def overview(self, connect: Connect) -> Overview:
        """Of this gateway's own connections; in a cluster, of those of all nodes."""
        live = LiveOverview(self.server, self.rate_meter, self)
        if not self.link.is_configured:
            return live
        stored = StoredOverview(connect, self._disconnect_elsewhere, lambda: self.is_draining)
        return ClusterOverview(live, stored, self.server.node_id)

    def _disconnect_elsewhere(self, connection_id: str, code: int) -> bool:
        if not self.server.disconnect(connection_id, code):
            raise ServerStoppedError("The connection's server is out of reach, for NATS is; try again later")
        return True

    def measures(self) -> Sequence[Collector]:
        """Its own, and those of every process."""
        return [GatewayMeasures(self), NodeMeasures(self)]

    @property
    def is_relay_ready(self) -> bool:
        """Whether a commit would be noticed: this node relays, or stands by for the one that does."""
        return self._relay.is_ready

    @property
    def is_accepting(self) -> bool:
        """Whether new connections are let in; not where descriptors are short, nor before the start."""
        try:
            return self.server.stats().accepting
        except ServerStoppedError:
            return False

    @property
    def client_frames_refused(self) -> int:
        """Frames of clients that found too many waiting to be carried out."""
        return 0 if self._dispatch is None else self._dispatch.refused

    @property
    def recorder_drops(self) -> RecorderDrops:
        """What the recorder has not written down, or not in time."""
        return RecorderDrops() if self._recorder is None else self._recorder.drops

    def start(self) -> None:
        """Connects to the database, listens, and returns.

        Raises:
            DatabaseUnavailableError: the database does not answer.
            ConfigurationError: the port is taken, or the address is not of this machine.

        """
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="rt-gateway", daemon=True)
        self._thread.start()
        started.result(_START_SECONDS)

    def stop(self, drain_seconds: float) -> None:
        """Turns readiness off, closes the sockets with 1001 and a time to come back, then ends relay and sync.

        Where somebody watches readiness, the closes begin when that has had time to notice; they are spread over the
        time that is left, and who is not closed yet goes on being served. It blocks for `drain_seconds` and a few more
        at most, and much shorter where there are few sockets. A second call does nothing.
        """
        began = time.monotonic()
        self.is_draining = True
        with contextlib.suppress(ServerStoppedError):
            self.server.set_draining(True)
            if not self.server.leave_port_to_successor():
                self._give_notice(drain_seconds)
        self.server.stop(max(0.0, drain_seconds - (time.monotonic() - began)))
        if self._stopping is not None:
            loop, stop = self._stopping
            loop.call_soon_threadsafe(stop.set)
            self._stopping = None
        if self._thread is not None:
            self._thread.join(_END_SECONDS)
            if self._thread.is_alive():
                logger.error("the gateway's thread did not end in time; it ends with the process")
            self._thread = None

    def _give_notice(self, drain_seconds: float) -> None:
        seconds = min(self.probes.notice_seconds(), drain_seconds * _NOTICE_SHARE)
        if seconds > 0:
            logger.info("/readyz says that this server stops; sockets are closed from %.1f s on", seconds)
            time.sleep(seconds)

    async def compare(self) -> None:
        """Compares every session with the database now, as happens every 15 s anyway; from any event loop.

        Raises:
            DatabaseUnavailableError: the database does not answer.
            ServerStoppedError: the gateway is not running.
        """
        if self._sync is None or self._standing is None or self._stopping is None:
            raise ServerStoppedError("the gateway is not running")
        comparing = asyncio.run_coroutine_threadsafe(self._compare(self._sync, self._standing), self._stopping[0])
        await asyncio.wrap_future(comparing)

    def replace_keys(self, keys: Keys) -> None:
        """Issues and accepts tokens by other keys from now on, from any thread; sockets that are open stay.

        Raises:
            ServerStoppedError: the gateway is not running.
        """
        # In this order, so that no token is issued that is not accepted yet.
        self.server.set_token_secrets(keys.token_secret, keys.token_secret_previous)
        self.keys.current = keys

    def _run(self, started: "Future[None]") -> None:
        try:
            asyncio.run(self._serve(started))
        except Exception as error:
            if not started.done():
                started.set_exception(error)
                return
            logger.exception("the gateway's event loop has ended")

    async def _serve(self, started: "Future[None]") -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        self._pool = await pool.create_pool(
            self._database_url, max_size=_POOL_SIZE, application_name="jasaweb-rt gateway"
        )
        try:
            settings = self._settings
            sync = self._sync = Sync(self._connect, self.server, self.link, settings.send_queue_bytes)
            standing = self._standing = StandingWatch(self._connect, self.server, sync.outdate)
            handlers = FrameHandlers(self._connect, self.server, self.realtime, self.keys, standing.hint, self._emit)
            dispatch = self._dispatch = Dispatch(self.server, handlers, self._emit)
            recorder = self._recorder = Recorder(
                self._connect,
                self.server,
                log_messages=settings.message_log == "durable",
                retention_days=settings.retention_days,
                max_connections_per_user=settings.max_connections_per_user if settings.nats_url else 0,
            )
            loop.add_reader(self.server.fileno(), self._take_events, sync, dispatch, recorder)
            self._listen()
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._keep_running("relay", self._relay.run)),
                    *(tasks.create_task(self._keep_running("sync", sync.run)) for _ in range(_SYNC_RUNNERS)),
                    tasks.create_task(self._keep_running("standing", standing.run)),
                    tasks.create_task(self._keep_running("comparison", lambda: self._run_comparison(sync, standing))),
                    tasks.create_task(
                        self._keep_running("cluster", lambda: self.link.run(lambda: self._compare(sync, standing)))
                    ),
                    tasks.create_task(
                        self._keep_running("newcomers", lambda: self.link.run_newcomers(sync.compare_newcomers))
                    ),
                    tasks.create_task(self._keep_running("rates", self.rate_meter.run)),
                    tasks.create_task(self._keep_running("recorder", recorder.run)),
                    tasks.create_task(self._keep_running("lease", recorder.upkeep.run_lease)),
                    tasks.create_task(self._keep_running("retention", recorder.upkeep.run_retention)),
                    tasks.create_task(self._keep_running("disk", self.disk.run)),
                    *(tasks.create_task(self._keep_running("dispatch", dispatch.run)) for _ in range(WORKERS)),
                ]
                self._stopping = (loop, stop)
                started.set_result(None)
                await stop.wait()
                for task in running:
                    task.cancel()
            loop.remove_reader(self.server.fileno())
            while self._take_events(sync, dispatch, recorder):
                pass
            await self._finish(recorder)
        finally:
            self._pool.terminate()

    def _on_user_changed(self, user_id: str) -> None:
        # The relay runs beside the watch, and no sooner.
        if self._standing is not None:
            self._standing.hint(user_id)

    async def _run_comparison(self, sync: Sync, standing: StandingWatch) -> None:
        while True:
            await asyncio.sleep(_COMPARE_SECONDS)
            await self._compare(sync, standing)

    async def _compare(self, sync: Sync, standing: StandingWatch) -> None:
        # It waits for every shard, so not on this loop.
        connections = await asyncio.to_thread(self.server.connections)
        await sync.compare(connections)
        await standing.compare(connections)

    async def _finish(self, recorder: Recorder) -> None:
        try:
            async with asyncio.timeout(_FINISH_SECONDS):
                async with self._connect() as connection:
                    await self._relay.finish(connection)
                await recorder.finish()
        except (
            DatabaseUnavailableError,
            TimeoutError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            OSError,
        ) as error:
            # Its lease runs out, and then another node closes its rows.
            reason = str(error) or type(error).__name__
            logger.warning("not all of the last connections could be written down: %s", reason)

    def _listen(self) -> None:
        try:
            self.server.start()
        except OSError as error:
            host, port = self._settings.host, self._settings.port
            reason = os.strerror(error.errno) if error.errno else error
            mend = (
                "a port can be taken over from a jasaweb-rt of the same user only"
                if self._take_over
                else "stop what uses it, or choose another by JASAWEB_RT_PORT and JASAWEB_RT_HOST"
            )
            raise ConfigurationError(f"Cannot listen on {host} port {port} ({reason}); {mend}") from None

    def _take_events(self, sync: Sync, dispatch: Dispatch, recorder: Recorder) -> int:
        events = self.server.drain_events()
        for event in events:
            match event:
                case SyncRequest():
                    sync.request(event)
                case ClientFrame():
                    dispatch.put(event)
                case Connected():
                    recorder.opened(event)
                    self._emit(_opened(event))
                case Disconnected():
                    sync.forget(event.connection_id)
                    recorder.closed(event)
                    self._emit(_closed(event))
                case ClusterEvent():
                    self.link.take(event)
                case LogRecord():
                    core_logger.log(logging.getLevelNamesMapping()[event.level], "%s", event.message)
        return len(events)

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[asyncpg.Connection]:
        if self._pool is None:
            raise DatabaseUnavailableError("The gateway is not started")
        with self.disk.watching():
            async with pool.acquire(self._pool) as connection:
                yield connection

    async def _connect_relay(self) -> asyncpg.Connection:
        # What it commits is that something was published. Where a crash of the database forgets that, it is published
        # again, and every session knows it by its number; so the relay does not wait for the disk.
        return await pool.connect(
            self._database_url,
            application_name="jasaweb-rt relay",
            server_settings={"synchronous_commit": "off", **outbox.RELAY_SETTINGS},
        )

    async def _keep_running(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Runs it again after a pause that grows, whenever it breaks; until it is cancelled or the core has stopped."""
        pause = _LEAST_PAUSE
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                with self.disk.watching():
                    await run()
            except ServerStoppedError:
                return
            except (DatabaseUnavailableError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                self._log.log(logging.WARNING, f"{name}: {error}; trying again")
            except Exception:
                logger.exception("%s has failed; it is started again", name)
            pause = _LEAST_PAUSE if loop.time() - began > _LONGEST_PAUSE else min(pause * 2, _LONGEST_PAUSE)
            await asyncio.sleep(pause)


def _opened(event: Connected) -> ConnectionOpened:
    return ConnectionOpened(
        connection_id=event.connection_id,
        user_id=event.user_id,
        role=event.role,
        name=event.name,
        client_address=event.client_address,
        user_agent=event.user_agent,
    )


def _closed(event: Disconnected) -> ConnectionClosed:
    return ConnectionClosed(
        connection_id=event.connection_id,
        user_id=event.user_id,
        code=event.code,
        reason=event.reason,
        status=event.status,
    )
