"""One run: real processes, real sockets; what every client must have seen in the end, and what it was told meanwhile.

A foreign program commits notifications all the time and somebody asks for tokens, while the application is stopped and
started anew, killed, and replaced by a successor that begins before it ends. No socket may close, every client must
have seen 1 to the head in order, and a request may be told to come again and nothing else.
"""

import asyncio
import contextlib
import json
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import zip_longest
from pathlib import Path

import asyncpg
import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.databases import add_users
from tests.support.people import bearer
from tests.support.program import TOKEN_SECRET, Program, environment, program
from tests.support.tokens import connection_token

__all__ = ["Deploys", "Device", "deploys"]

SOCKETS_OF_A_USER = 4
TOKENS = "/api/websocket/token"
INBOX = "/api/notifications?limit=1"
COMMIT_PAUSE = 0.01
WAIT_SECONDS = 90.0
CONNECTING_AT_ONCE = 50

Starter = Callable[[], Awaitable[Program]]


class Device:
    """A client: what it saw, and whether its socket was closed."""

    def __init__(self, user_id: str, socket: ClientConnection) -> None:
        self.user_id = user_id
        self.seen: list[int] = []
        self.delays: list[float] = []
        """Seconds from before the commit to the receipt, of each."""
        self.end: str | None = None
        self.joined = asyncio.Event()
        """What is committed from then on is for it."""
        self._socket = socket
        self._reading = asyncio.ensure_future(self._read())

    def differs_from(self, head: int) -> str | None:
        """Where it did not see 1 to `head`, each once and in order; None: it did."""
        for place, (seen, expected) in enumerate(zip_longest(self.seen, range(1, head + 1))):
            if seen != expected:
                return f"{self.user_id}, head {head}: {expected} should be {self.seen[max(0, place - 2) : place + 3]}"
        return None

    async def leave(self) -> None:
        """Closes the socket."""
        self._reading.cancel()
        await asyncio.wait([self._reading])
        await self._socket.close()

    async def _read(self) -> None:
        try:
            async for text in self._socket:
                found = json.loads(text)
                if found["type"] == "sync":
                    self.joined.set()
                elif "seq" in found:
                    self.seen.append(found["seq"])
                    self.delays.append(time.monotonic() - float(found["data"]["title"]))
            self.end = "closed by 1000 or 1001"
        except ConnectionClosed as error:
            self.end = str(error)


class Deploys:
    """A gateway with its sockets, and an application that comes and goes."""

    def __init__(self, url: str, start_app: Starter, devices: list[Device]) -> None:
        self.devices = devices
        self.heads: Counter[str] = Counter()
        """Notifications by user."""
        self.answers: Counter[int] = Counter()
        """Answers to those who asked for tokens, by status."""
        self._url = url
        self._start_app = start_app
        self._app: Program | None = None

    async def start(self) -> None:
        """Starts the first application."""
        self._app = await self._start_app()
        await self._until_status(200)

    async def replace(self, number: signal.Signals) -> None:
        """Ends the application by a signal, and starts another once its absence was noticed."""
        assert self._app is not None
        code = await self._app.end(number)
        assert code == (0 if number == signal.SIGTERM else -number), self._app.output
        await self._until_status(503)
        await self.start()

    async def succeed(self) -> None:
        """Starts a successor, and ends the predecessor once that takes requests. Nobody who reads notices."""
        assert self._app is not None
        predecessor = self._app
        async with self._asking("GET", INBOX) as statuses:
            self._app = await self._start_app()
            assert await predecessor.end(signal.SIGTERM) == 0, predecessor.output
            before = sum(statuses.values())
            await _until(lambda: sum(statuses.values()) > before + 5, "answers of the successor")
        assert set(statuses) == {200}, statuses

    @contextlib.asynccontextmanager
    async def commits(self, database_url: str) -> AsyncIterator[None]:
        """Inside the block another program stores notifications, a few users at a time."""
        users = sorted({device.user_id for device in self.devices})
        connection = await asyncpg.connect(database_url)
        stop = asyncio.Event()
        writing = asyncio.ensure_future(self._write(connection, users, stop))
        try:
            yield
        finally:
            stop.set()
            await writing
            await connection.close()

    @contextlib.asynccontextmanager
    async def token_requests(self) -> AsyncIterator[None]:
        """Inside the block somebody asks for tokens, one after another."""
        async with self._asking("POST", TOKENS) as statuses:
            self.answers = statuses
            yield

    async def verdict(self) -> None:
        """Waits until everybody has seen everything; fails on what was lost, doubled, out of order, or closed."""

        def is_done() -> bool:
            return all(
                device.end is not None or len(device.seen) >= self.heads[device.user_id] for device in self.devices
            )

        with contextlib.suppress(TimeoutError):
            await _until(is_done, "the last notification at every client")
        closed = [device.end for device in self.devices if device.end is not None]
        assert not closed, f"{len(closed)} sockets were closed: {closed[:3]}"
        wrong = [story for device in self.devices if (story := device.differs_from(self.heads[device.user_id]))]
        assert not wrong, f"{len(wrong)} clients saw something else: {wrong[:3]}"

    async def _write(self, connection: asyncpg.Connection, users: list[str], stop: asyncio.Event) -> None:
        dice = random.Random(7)  # noqa: S311  # any will do, and always the same
        while not stop.is_set():
            told = dice.sample(users, min(len(users), 10))
            await connection.execute(
                """
                insert into public.real_time_notifications (id, user_id, type, title, message)
                select gen_random_uuid(), u, 'user_message', $2, '' from unnest($1::text[]) as u
                """,
                told,
                str(time.monotonic()),
            )
            self.heads.update(told)
            await asyncio.sleep(COMMIT_PAUSE)

    @contextlib.asynccontextmanager
    async def _asking(self, method: str, path: str) -> AsyncIterator[Counter[int]]:
        """Statuses of requests that are sent one after another, as long as the block."""
        statuses: Counter[int] = Counter()
        stop = asyncio.Event()
        asking = asyncio.ensure_future(self._ask(method, path, statuses, stop))
        try:
            yield statuses
        finally:
            stop.set()
            await asking

    async def _ask(self, method: str, path: str, statuses: Counter[int], stop: asyncio.Event) -> None:
        headers = bearer(self.devices[0].user_id)
        async with httpx.AsyncClient(base_url=self._url, timeout=WAIT_SECONDS) as http:
            while not stop.is_set():
                answer = await http.request(method, path, headers=headers)
                statuses[answer.status_code] += 1
                if answer.status_code == 503:
                    assert int(answer.headers["retry-after"]) > 0
                    assert answer.json()["success"] is False
                await asyncio.sleep(COMMIT_PAUSE)

    async def _until_status(self, status: int) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=WAIT_SECONDS) as http, asyncio.timeout(WAIT_SECONDS):
            while (await http.post(TOKENS, headers=bearer(self.devices[0].user_id))).status_code != status:
                await asyncio.sleep(COMMIT_PAUSE)
            # The gateway is well whatever becomes of the application.
            assert (await http.get("/readyz")).status_code == 200


@contextlib.asynccontextmanager
async def deploys(folder: Path, database_url: str, sockets: int, app_url: str) -> AsyncIterator[Deploys]:
    """A gateway with `sockets` open sockets, and no application behind it yet; all of it is gone at the end."""
    users = [f"user-{number}" for number in range(-(-sockets // SOCKETS_OF_A_USER))]
    common = {"APP_URL": app_url, "CONNECT_RATE_PER_IP": "0", "MAX_CONNECTIONS_PER_IP": "0", "PONG_TIMEOUT": "60"}
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            program(folder, environment(database_url, **common), "serve", "--role", "gateway")
        )
        url = await gateway.url()
        connection = await asyncpg.connect(database_url)
        try:
            await add_users(connection, *((user_id, "client") for user_id in users))
        finally:
            await connection.close()
        devices = await _connect_all(stack, url, [users[number % len(users)] for number in range(sockets)])
        environ = environment(database_url, **common)
        del environ["JASAWEB_RT_PORT"]

        async def start_app() -> Program:
            app = await stack.enter_async_context(program(folder, environ, "serve", "--role", "app"))
            await app.line("listening on ")
            return app

        yield Deploys(url, start_app, devices)


async def _connect_all(stack: contextlib.AsyncExitStack, url: str, user_ids: list[str]) -> list[Device]:
    places = asyncio.Semaphore(CONNECTING_AT_ONCE)
    socket_url = f"{url.replace('http', 'ws', 1)}/ws"

    async def open_one(user_id: str) -> Device:
        headers = {"Authorization": f"Bearer {connection_token(user_id, secret=TOKEN_SECRET)}"}
        async with places:
            socket = await connect(
                socket_url, additional_headers=headers, ping_interval=None, compression=None, open_timeout=WAIT_SECONDS
            )
            device = Device(user_id, socket)
            stack.push_async_callback(device.leave)
            async with asyncio.timeout(WAIT_SECONDS):
                await device.joined.wait()
        return device

    return list(await asyncio.gather(*(open_one(user_id) for user_id in user_ids)))


async def _until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(COMMIT_PAUSE)
