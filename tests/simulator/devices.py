"""Those who receive: a user's device with the package's own client, and what its application has seen."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Iterator

import httpx

from jasaweb_rt import client_rules
from jasaweb_rt.client import Frame, RealtimeClient, RealtimeClientError
from jasaweb_rt.client_inbox import InboxPages
from tests.simulator.links import Link
from tests.simulator.plan import Device
from tests.simulator.truth import Seen
from tests.support.people import bearer, session_token

_REQUEST_SECONDS = 5.0
_END_SECONDS = 30.0
_LONGEST_BACKOFF = 0.2


class Receiver:
    """One device, through all its lives."""

    def __init__(self, device: Device, link: Link, site: str) -> None:
        """It connects by `link`, and asks by HTTP at `site`."""
        self.device = device
        self.link = link
        self.seen: list[Seen] = []
        """What the application has seen, in the order in which it has."""
        self.lives = 0
        self.syncs = 0
        self.resyncs = 0
        self.paged = 0
        """Notifications that were read by HTTP."""
        self.complaints: list[str] = []
        self._site = site
        self._http = httpx.AsyncClient(base_url=self._site, timeout=_REQUEST_SECONDS, headers=bearer(device.user))
        self._client: RealtimeClient | None = None
        self._epoch: str | None = None
        self._reading = asyncio.Event()
        self._reading.set()
        self._life: asyncio.Task[None] | None = None

    @property
    def position(self) -> int:
        """The last `seq` that the application has seen: what it would keep over a restart."""
        return self.seen[-1].seq if self.seen else 0

    @property
    def unread(self) -> int | None:
        """The unread count that it shows."""
        return None if self._client is None else self._client.unread

    def start(self) -> None:
        """Begins a life, at the position where the last one ended."""
        self.lives += 1
        self._life = asyncio.create_task(self._live())

    async def kill(self) -> None:
        """Ends this life at once."""
        if self._life is not None:
            await self._end(self._life)
            self._life = None
        if self._client is not None:
            # Without a goodbye.
            self.link.cut(abrupt=True)
            await self._client.close()
            self._client = None

    async def _end(self, life: asyncio.Task[None]) -> None:
        """Cancels a life, again where it goes on, which it must not."""
        while not life.done():
            life.cancel()
            await asyncio.wait([life], timeout=_END_SECONDS)
            if not life.done():
                where = io.StringIO()
                life.print_stack(file=where)
                self.complaints.append(f"{self._name} goes on after it was cancelled: {where.getvalue()}")

    async def stop(self) -> None:
        """Ends for good."""
        await self.kill()
        await self._http.aclose()

    async def restart(self) -> bool:
        """Kills the application and starts it again with what it has kept."""
        await self.kill()
        self.start()
        return True

    async def stop_reading(self, seconds: float) -> bool:
        """The application takes nothing for a while."""
        self._reading.clear()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._reading.set()
        return True

    async def _live(self) -> None:
        try:
            self._client = RealtimeClient(
                f"ws://127.0.0.1:{self.link.port}/ws",
                self._fetch_token,
                last_seq=self.position,
                epoch=self._epoch,
                fetch_page=InboxPages(self._site, session_token(self.device.user)),
            )
            async for frame in self._client:
                await self._reading.wait()
                await self._take(self._client, frame)
        except RealtimeClientError as error:
            self.complaints.append(f"{self._name} was ended for good: {error}")
        except Exception as error:  # whatever it is, the run has failed and says why
            self.complaints.append(f"{self._name} broke: {error!r}")

    async def _take(self, client: RealtimeClient, frame: Frame) -> None:
        kind = frame["type"]
        if "seq" in frame:
            self.seen.append(Seen(frame["seq"], frame["id"], kind, frame["data"]))
            self.paged += "readAt" in frame
            await self._mark(client)
        elif kind == "sync":
            self.syncs += 1
        elif kind == "resync":
            self.resyncs += 1
        self._epoch = client.epoch

    async def _mark(self, client: RealtimeClient) -> None:
        every = self.device.marks_every
        if every and len(self.seen) % every == 0:
            with contextlib.suppress(ConnectionError):
                await client.send("ack", {"seq": self.position})
                await client.send("read", {"upTo": self.position})

    async def _fetch_token(self) -> str:
        try:
            response = await self._http.post("/api/websocket/token")
        except httpx.HTTPError as error:
            raise ConnectionError(f"no token: {error!r}") from error
        if response.status_code >= 500:
            raise ConnectionError(f"no token: {response.status_code}")
        token: str = response.raise_for_status().json()["token"]
        return token

    @property
    def _name(self) -> str:
        return f"device {self.device.number} of {self.device.user}"


@contextlib.asynccontextmanager
async def open_receivers(devices: tuple[Device, ...], links: list[Link], site: str) -> AsyncIterator[list[Receiver]]:
    """The devices, each on its link, as long as the block; `site` is where they ask by HTTP."""
    receivers = [Receiver(device, link, site) for device, link in zip(devices, links, strict=True)]
    with _short_backoff():
        try:
            for receiver in receivers:
                receiver.start()
            yield receivers
        finally:
            await asyncio.gather(*(receiver.stop() for receiver in receivers))


@contextlib.contextmanager
def _short_backoff() -> Iterator[None]:
    """Clients come back within a moment, so that there is somebody whom the next fault can meet."""
    longest, client_rules.MAX_DELAY = client_rules.MAX_DELAY, _LONGEST_BACKOFF
    try:
        yield
    finally:
        client_rules.MAX_DELAY = longest
