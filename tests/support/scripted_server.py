"""A real HTTP and WebSocket server whose every move the test makes: closes, repeats, floods, silence.

It serves the browser client's own files, so that a page of one origin loads the client, fetches its token and connects;
the asyncio client needs no more of it than the inbox and the socket.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import uvicorn

STATIC = Path(__file__).parents[2] / "python" / "jasaweb_rt" / "web" / "static"
PAGE = b"""<!doctype html><title>test</title><link rel="icon" href="/static/favicon.svg">
<script type="module">
  import { RealtimeClient } from "/static/realtime.js";
  window.RealtimeClient = RealtimeClient;
</script>"""
CONTENT_TYPES = {".html": b"text/html", ".js": b"text/javascript", ".svg": b"image/svg+xml", ".css": b"text/css"}
DEADLINE = 20.0
"""Seconds that any wait of a test may take."""

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def durable(seq: int, *, unread: int = 0, rev: int | None = None, **data: object) -> Message:
    return {
        "type": "project_update",
        "data": {"title": f"n{seq}", "message": "", **data},
        "timestamp": "2026-01-01T00:00:00.000Z",
        "id": f"id-{seq}",
        "seq": seq,
        "unread": unread,
        "rev": seq if rev is None else rev,
    }


def stored(seq: int) -> Message:
    return {
        "id": f"id-{seq}",
        "seq": seq,
        "type": "project_update",
        "title": f"n{seq}",
        "message": "",
        "data": {"projectId": "p"},
        "readAt": None,
        "createdAt": "2026-01-01T00:00:00.000Z",
    }


def resync(after: int, head: int, epoch: str = "E1") -> Message:
    """The frame that tells a client to page from after `after` to `head`."""
    data = {"epoch": epoch, "fromSeq": after, "headSeq": head}
    return {"type": "resync", "data": data, "timestamp": "", "id": "y"}


def token_for(user_id: str, session_seconds: float | None = None) -> str:
    """A token as the client reads it, by the claims in its middle part; nobody here checks the signature.

    Args:
        user_id: the `sub`.
        session_seconds: from `iat` to `session_exp`; None: it has neither.
    """

    def encode(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"sub": user_id, "name": "Dwi Ângelo ÿ?>"}
    # A server's clock that is years off the page's.
    times = {} if session_seconds is None else {"iat": 1_000_000, "session_exp": 1_000_000 + session_seconds}
    return f"{encode({'alg': 'HS256'})}.{encode(claims | times)}.c2ln"


class ScriptedSocket:
    """The server's end of one connection."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        self.subprotocols: list[str] = scope["subprotocols"]
        self._receive = receive
        self._send = send
        self._received: asyncio.Queue[Message] = asyncio.Queue()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Accepts, and takes what comes until the end."""
        await self._receive()
        await self._send({"type": "websocket.accept", "subprotocol": "jasaweb.v1"})
        while (event := await self._receive())["type"] == "websocket.receive":
            self._received.put_nowait(json.loads(event["text"]))
        self.ended.set()

    async def send(self, *messages: Message) -> None:
        """One text frame a message."""
        for message in messages:
            await self.send_text(json.dumps(message))

    async def send_text(self, text: str) -> None:
        await self._send({"type": "websocket.send", "text": text})

    async def welcome(self) -> None:
        await self.send({"type": "system_announcement", "data": {"title": "Connected"}, "timestamp": "", "id": "w"})

    async def sync(
        self, *, head: int, resumed_from: int | None = None, epoch: str = "E1", unread: int = 0, rev: int = 0
    ) -> None:
        """The welcome and the `sync` with which the server goes live."""
        data = {"epoch": epoch, "headSeq": head, "unread": unread, "rev": rev, "resumedFrom": resumed_from}
        await self.welcome()
        await self.send({"type": "sync", "data": data, "timestamp": "", "id": "s"})

    async def receive(self) -> Message:
        """The next message of the client."""
        return await asyncio.wait_for(self._received.get(), DEADLINE)

    async def until_ended(self) -> None:
        """Waits until the connection has ended."""
        await asyncio.wait_for(self.ended.wait(), DEADLINE)

    async def close(self, code: int, reason: str = "") -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})


class ScriptedServer:
    """Serves one test page; connections come out of `accept`, HTTP answers are set beforehand."""

    def __init__(self) -> None:
        self.base_url = ""
        self.user_id = "user-1"
        self.files: dict[str, bytes] = {}
        """Further files of the page, by path; the content type is told by the suffix."""
        self.session_seconds: float | None = None
        """How long the session of the next tokens has still to go."""
        self.token_requests = 0
        self.token_statuses: deque[int] = deque()
        """Statuses of the next token requests; 200 once it is empty."""
        self.notifications: list[Message] = []
        """What the inbox holds, in `seq` order."""
        self.head_seq: int | None = None
        """Told as `headSeq`; default: the last notification's."""
        self.pages: list[int] = []
        """`after` of each request for a page of the inbox."""
        self.before_page: Callable[[int], Awaitable[None]] | None = None
        """Awaited before each page is answered, with its number from 1."""
        self.page_statuses: deque[int] = deque()
        self.reads: list[tuple[Message, str]] = []
        """Bodies and CSRF headers of requests to mark as read."""
        self._sockets: asyncio.Queue[ScriptedSocket] = asyncio.Queue()

    async def accept(self) -> ScriptedSocket:
        """The next connection."""
        return await asyncio.wait_for(self._sockets.get(), DEADLINE)

    @property
    def token(self) -> str:
        """The token that the next request for one gets."""
        return token_for(self.user_id, self.session_seconds)

    @property
    def idle(self) -> bool:
        """True where no connection waits to be accepted."""
        return self._sockets.empty()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            socket = ScriptedSocket(scope, receive, send)
            self._sockets.put_nowait(socket)
            await socket.run()
            return
        body = (await receive()).get("body", b"")
        status, content_type, content = await self._answer(scope, body)
        headers = [(b"content-type", content_type), (b"cache-control", b"no-store")]
        if content_type == b"text/html":
            headers.append((b"set-cookie", b"csrftoken=csrf-1; Path=/"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Message, body: bytes) -> tuple[int, bytes, bytes]:
        def answer(value: Message, status: int = 200) -> tuple[int, bytes, bytes]:
            return status, b"application/json", json.dumps(value).encode()

        match scope["method"], scope["path"]:
            case "GET", "/":
                return 200, b"text/html", PAGE
            case "POST", "/api/websocket/token":
                self.token_requests += 1
                status = self.token_statuses.popleft() if self.token_statuses else 200
                url = self.base_url.replace("http", "ws") + "/ws"
                return answer({"token": self.token, "connectionUrl": url, "expiresAt": ""}, status)
            case "GET", "/api/notifications":
                return answer(*await self._page(parse_qs(scope["query_string"].decode())))
            case "POST", "/api/notifications/read":
                self.reads.append((json.loads(body), dict(scope["headers"]).get(b"x-csrftoken", b"").decode()))
                return answer({"unread": 0, "rev": 1000})
            case "GET", path if path in self.files:
                return 200, CONTENT_TYPES[Path(path).suffix], self.files[path]
            case "GET", path if path.startswith("/static/") and (file := STATIC / Path(path).name).is_file():
                return 200, CONTENT_TYPES[file.suffix], file.read_bytes()
        return answer({"success": False, "error": "Not found"}, 404)

    async def _page(self, query: dict[str, list[str]]) -> tuple[Message, int]:
        after, limit = int(query["after"][0]), int(query["limit"][0])
        self.pages.append(after)
        if self.before_page:
            await self.before_page(len(self.pages))
        items = [item for item in self.notifications if item["seq"] > after][:limit]
        head = self.head_seq if self.head_seq is not None else self.notifications[-1]["seq"]
        status = self.page_statuses.popleft() if self.page_statuses else 200
        return {"items": items, "headSeq": head, "unread": len(self.notifications), "rev": head}, status


class Gate:
    """Lets pages pass up to a number; others wait until it is opened further."""

    def __init__(self, scripted: ScriptedServer, open_until: int = 0) -> None:
        self._changed = asyncio.Condition()
        self._open_until = open_until
        scripted.before_page = self._wait

    async def _wait(self, page: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: page <= self._open_until)

    async def open(self, until_page: int = 1_000_000) -> None:
        async with self._changed:
            self._open_until = until_page
            self._changed.notify_all()


@contextlib.asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    """Runs one on a free port of loopback."""
    server = ScriptedServer()
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()
    server.base_url = f"http://{host}:{port}"
    runner = uvicorn.Server(uvicorn.Config(server, ws="websockets-sansio", lifespan="off", log_level="warning"))
    serving = asyncio.create_task(runner.serve(sockets=[listener]))
    try:
        yield server
    finally:
        runner.should_exit = runner.force_exit = True
        await asyncio.wait_for(serving, DEADLINE)
