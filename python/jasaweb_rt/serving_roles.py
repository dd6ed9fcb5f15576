"""What a server of each role is made of: each part is started after what it needs, and ended before it.

`all` is front door and application in one process. A `gateway` has the front door with all that belongs to sockets, and
beside it nothing but answers to probes. An `app` has the application, and takes requests from gateways.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncpg
from litestar.types import ASGIApp

from jasaweb_rt import config_role, demo
from jasaweb_rt.app import create_app
from jasaweb_rt.app_listener import AppListener, check_socket_folder
from jasaweb_rt.app_node import open_app_node
from jasaweb_rt.config import Keys, Settings
from jasaweb_rt.database.pool import Connect, acquire, create_pool
from jasaweb_rt.exceptions import RealtimeError
from jasaweb_rt.forwarders import behind_front_door, behind_gateways
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.hooks import Hooks
from jasaweb_rt.key_rotation import KeyRotation
from jasaweb_rt.node import Node
from jasaweb_rt.probes import create_probes
from jasaweb_rt.services import Services, close_pool
from jasaweb_rt.serving_http import HttpServer, head_as_get, logged, unix_listener
from jasaweb_rt.stop_clock import StopClock
from jasaweb_rt.supervisor import READY, tell_supervisor
from jasaweb_rt.vitals import Vitals

__all__ = ["Run"]

logger = logging.getLogger(__name__)

# Of a long stop, kept for what comes after the sockets: the last rows, hooks, the database.
_AFTERWARDS_SECONDS = 6.0
# The part of an app's stop that readiness is off and nothing else, at the most.
_NOTICE_SHARE = 0.25
_PROBE_CONNECTIONS = 2
_PROBE_PATIENCE = 2.0


class Run:
    """One run of a server on the event loop of its main thread, once its database is there."""

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        own_socket: Path,
        clock: StopClock,
        *,
        with_demo: bool,
        take_over: bool,
        access_log: bool,
        hooks: Hooks | None,
        on_ready: Callable[[str], object],
        load_keys: Callable[[], Keys] | None,
    ) -> None:
        """As `Server`; `own_socket`: where a Unix socket may be made that nobody else reaches."""
        self._settings = settings
        self._database_url = database_url
        self._own_socket = own_socket
        self._clock = clock
        self._demo = with_demo
        self._take_over = take_over
        self._access_log = access_log
        self._hooks = hooks
        self._on_ready = on_ready
        self._load_keys = load_keys

    async def until(self, stop: asyncio.Event, keys_wanted: asyncio.Event) -> None:
        """Serves until `stop` is set; reads the keys again whenever `keys_wanted` is."""
        serve = {"all": self._all, "gateway": self._gateway, "app": self._app}[self._settings.role]
        async with serve() as (node, http), self._rotation(node, keys_wanted):
            await _first(stop, http)

    @contextlib.asynccontextmanager
    async def _all(self) -> AsyncIterator[tuple[Node, "asyncio.Future[None]"]]:
        async with self._pool() as pool:
            if self._demo:
                async with acquire(pool) as connection:
                    await demo.seed(connection)
            gateway = self._new_gateway(self._hooks)
            services = Services(self._settings, pool, gateway, demo=self._demo)
            app: Any = create_app(self._settings, services=services)
            async with (
                self._running_hooks(gateway.hooks),
                self._http(behind_front_door(self._dressed(app))) as http,
                self._running_gateway(gateway),
            ):
                yield gateway, http

    @contextlib.asynccontextmanager
    async def _gateway(self) -> AsyncIterator[tuple[Node, "asyncio.Future[None]"]]:
        check_socket_folder(self._settings.app_address)
        gateway = self._new_gateway(None)
        async with self._pool(max_size=_PROBE_CONNECTIONS, application_name="jasaweb-rt probes") as pool:
            probes: Any = create_probes(Vitals(self._settings, gateway, _lender(pool, gateway)))
            async with (
                self._http(behind_front_door(self._dressed(probes))) as http,
                self._running_gateway(gateway),
            ):
                logger.info("what is not /ws goes to %s", self._settings.app_address)
                yield gateway, http

    @contextlib.asynccontextmanager
    async def _app(self) -> AsyncIterator[tuple[Node, "asyncio.Future[None]"]]:
        settings = self._settings
        listener = AppListener(settings.app_address)
        async with (
            self._pool() as pool,
            open_app_node(settings, self._hooks, lambda: max(0.2, self._clock.remaining * 0.5)) as node,
        ):
            app: Any = create_app(settings, services=Services(settings, pool, node))
            app = self._dressed(app)
            address = config_role.host_and_port(settings.app_address)
            if address is None:
                app = behind_front_door(app)
            else:
                # On loopback the gateway is of this machine, whatever proxies it has itself.
                app = behind_gateways(app, () if config_role.is_loopback(address[0]) else settings.trusted_proxies)
            server = HttpServer(app, settings.drain_seconds)
            with listener.bound() as bound:
                async with server.running(bound, lambda: max(0.5, self._clock.remaining * 0.7)) as http:
                    listener.publish()
                    self._announce(settings.app_address)
                    try:
                        yield node, http
                    finally:
                        self._clock.begin()
                        node.is_draining = True
                        await asyncio.sleep(min(node.probes.notice_seconds(), self._clock.remaining * _NOTICE_SHARE))

    @contextlib.asynccontextmanager
    async def _pool(self, **options: Any) -> AsyncIterator[asyncpg.Pool]:  # noqa: ANN401  # as of `create_pool`
        pool = await create_pool(self._database_url, **options)
        try:
            yield pool
        finally:
            await close_pool(pool, max(1.0, self._clock.remaining - 1.0))

    @contextlib.asynccontextmanager
    async def _running_hooks(self, hooks: Hooks) -> AsyncIterator[None]:
        """They end after the gateway and the last request, so that they hear of everything."""
        hooks.start()
        try:
            yield
        finally:
            await hooks.stop(max(0.2, self._clock.remaining * 0.5))

    @contextlib.asynccontextmanager
    async def _http(self, app: ASGIApp) -> AsyncIterator["asyncio.Future[None]"]:
        """Serves `app` to our own front door."""
        server = HttpServer(app, self._settings.drain_seconds)
        async with server.running(
            unix_listener(self._own_socket), lambda: max(0.5, self._clock.remaining * 0.5)
        ) as serving:
            yield serving

    def _new_gateway(self, hooks: Hooks | None) -> Gateway:
        return Gateway(self._settings, self._database_url, self._own_socket, hooks, take_over=self._take_over)

    @contextlib.asynccontextmanager
    async def _running_gateway(self, gateway: Gateway) -> AsyncIterator[None]:
        try:
            await asyncio.to_thread(gateway.start)
            host, port = gateway.server.address
            scheme = "https" if self._settings.tls_cert else "http"
            self._announce(f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}")
            yield
        finally:
            self._clock.begin()
            left = self._clock.remaining
            await asyncio.to_thread(gateway.stop, max(0.5, left - min(_AFTERWARDS_SECONDS, left * 0.3)))

    @contextlib.asynccontextmanager
    async def _rotation(self, node: Node, wanted: asyncio.Event) -> AsyncIterator[None]:
        """Inside the block, keys are read again when that is wanted."""
        if self._load_keys is None:
            yield
            return
        async with _in_background(KeyRotation(self._load_keys, node).run(wanted)):
            yield

    def _dressed(self, app: ASGIApp) -> ASGIApp:
        return head_as_get(logged(app) if self._access_log else app)

    def _announce(self, url: str) -> None:
        logger.info("listening on %s", url)
        tell_supervisor(READY)
        self._on_ready(url)


def _lender(pool: asyncpg.Pool, gateway: Gateway) -> Connect:
    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[asyncpg.Connection]:
        with gateway.disk.watching():
            async with acquire(pool, timeout=_PROBE_PATIENCE) as connection:
                yield connection

    return connect


@contextlib.asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs `work` as long as the block."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _first(stop: asyncio.Event, http: "asyncio.Future[None]") -> None:
    """Waits for the wish to stop, or for the end of the web application, which is an error."""
    stopping = asyncio.ensure_future(_wait(stop))
    try:
        await asyncio.wait([stopping, http], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if http.done() and not stop.is_set():
        raise RealtimeError("The web application has ended by itself; the log says why.")


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
