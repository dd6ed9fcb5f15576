"""The way of an application to its gateways, and of their events to its hooks: NATS, without a core of its own."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from jasaweb_rt._core import AppEvent, ClusterClient, ClusterEvent, LogRecord
from jasaweb_rt.cluster_metrics import cluster_metrics
from jasaweb_rt.config import Settings
from jasaweb_rt.exceptions import ConfigurationError, ServerStoppedError
from jasaweb_rt.hook_events import decode
from jasaweb_rt.hooks import Event
from jasaweb_rt.sparing_log import SparingLog

__all__ = ["AppCluster"]

logger = logging.getLogger(__name__)
core_logger = logging.getLogger("jasaweb_rt.core")

_CONNECT_SECONDS = 5.0


class AppCluster(Collector):
    """One link. `start` and `close` belong to one event loop; the client may be used from any thread."""

    def __init__(self, settings: Settings) -> None:
        """Nothing runs yet.

        Raises:
            ConfigurationError: a URL or a file cannot be used.
        """
        try:
            self.client = ClusterClient(settings.nats_url, settings.nats_credentials, settings.nats_ca)
        except ValueError as error:
            name, _, problem = str(error).partition(":")
            raise ConfigurationError(f"JASAWEB_RT_{name.upper()}:{problem}") from None
        self._log = SparingLog(logger)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: Callable[[Event], object] | None = None

    @property
    def is_up(self) -> bool:
        """Whether there is a link now."""
        with contextlib.suppress(ServerStoppedError):
            return self.client.stats().connected
        return False

    async def start(self, tell: Callable[[Event], object] | None) -> None:
        """Seeks the link, for 5 s at first and then all the time.

        `tell` is given the gateways' events, each of which goes to one of those who listen; None: it does not listen.
        """
        try:
            await asyncio.to_thread(self.client.connect, _CONNECT_SECONDS)
        except ConnectionError as error:
            logger.warning("the gateways are out of reach: %s; trying again", error)
        if tell is not None:
            self.client.listen_to_events()
        self._listener = tell
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.client.fileno(), self._take, tell)

    async def close(self) -> None:
        """Sends what waits, ends the link, and tells what had come until then."""
        await asyncio.to_thread(self.client.close)
        if self._loop is not None:
            self._loop.remove_reader(self.client.fileno())
            while self._take(self._listener):
                pass

    def disconnect(self, connection_id: str, code: int) -> bool:
        """Hands it on to the connection's gateway. ServerStoppedError: there is no link."""
        if not self.client.disconnect(connection_id, code):
            raise ServerStoppedError("The gateways are out of reach, for NATS is; try again later")
        return True

    def collect(self) -> Iterator[Metric]:
        """Every measure of the link, as it is now."""
        yield from cluster_metrics(self.client.stats())

    def _take(self, tell: Callable[[Event], object] | None) -> int:
        events = self.client.drain_events()
        for event in events:
            match event:
                case AppEvent():
                    self._tell(event.data, tell)
                case ClusterEvent():
                    level = logging.INFO if event.connected else logging.WARNING
                    where = "in reach" if event.connected else "out of reach"
                    self._log.log(level, f"the gateways are {where}: {event.reason}")
                case LogRecord():
                    core_logger.log(logging.getLevelNamesMapping()[event.level], "%s", event.message)
        return len(events)

    def _tell(self, data: bytes, tell: Callable[[Event], object] | None) -> None:
        try:
            event = decode(data)
        except ValueError as error:
            self._log.log(
                logging.WARNING, f"an event of a gateway cannot be read, which may be of another version: {error}"
            )
            return
        if tell is not None:
            tell(event)
