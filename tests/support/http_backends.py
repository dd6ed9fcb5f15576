"""Applications behind the front door that write down what they saw, each by a parser of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from tests.support.http_corpus import Seen
from tests.support.sockets import until

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Record:
    """What one application saw."""

    seen: list[Seen] = field(default_factory=list)
    """Requests that arrived whole."""
    fields: list[list[tuple[str, str]]] = field(default_factory=list)
    """Header fields of each, in order, names in lower case."""
    faults: list[str] = field(default_factory=list)
    """What was no HTTP/1.1 as RFC 9112 wants it sent."""


class _StrictParser:
    """Takes one connection's requests to the letter: what a sender must not send is a fault."""

    def __init__(self, reader: asyncio.StreamReader, record: Record) -> None:
        self._reader = reader
        self._record = record

    async def request(self) -> bool:
        """Reads one request, up to its end; False where the connection has ended before."""
        if not (first := await self._reader.read(1)):
            return False
        request_line = (first + await self._line()).decode("ascii")
        method, target, version = request_line.split(" ")
        if version != "HTTP/1.1" or not method.isupper():
            raise ValueError(request_line)
        fields = await self._fields()
        content = await self._content(fields)
        self._record.seen.append(Seen(method, target, content))
        self._record.fields.append(fields)
        return True

    async def _line(self) -> bytes:
        line = await self._reader.readuntil(b"\r\n")
        bare = line[:-2]
        if b"\r" in bare or b"\n" in bare or b"\0" in bare:
            raise ValueError(f"a control character in {line!r}")
        return bare

    async def _fields(self) -> list[tuple[str, str]]:
        fields = []
        while line := await self._line():
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not name or name.strip() != name:
                raise ValueError(f"no field: {line!r}")
            fields.append((name.lower(), value.strip(" \t")))
        return fields

    async def _content(self, fields: list[tuple[str, str]]) -> bytes:
        lengths = [value for name, value in fields if name == "content-length"]
        codings = [value for name, value in fields if name == "transfer-encoding"]
        if len(lengths) + len(codings) > 1 or any(not length.isdecimal() for length in lengths):
            raise ValueError(f"lengths {lengths} and codings {codings}")
        if lengths:
            return await self._reader.readexactly(int(lengths[0]))
        if not codings:
            return b""
        if codings != ["chunked"]:
            raise ValueError(f"codings {codings}")
        content = b""
        while size := int(await self._line(), 16):
            content += await self._reader.readexactly(size)
            if await self._line():
                raise ValueError("a chunk that is longer than it says")
        await self._fields()
        return content


@contextlib.asynccontextmanager
async def strict_backend(path: Path) -> AsyncIterator[Record]:
    """A program of ours that would rather fail than guess."""
    record = Record()
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            parser = _StrictParser(reader, record)
            while await parser.request():
                writer.write(_ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a request that the front door gave up
        except (ValueError, asyncio.LimitOverrunError) as fault:
            record.faults.append(str(fault))
        finally:
            writers.discard(writer)
            writer.transport.abort()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield record
    finally:
        server.close()
        await server.wait_closed()
        for writer in writers:
            writer.transport.abort()
        await until(lambda: not writers, "the end of the connections")


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to pytest."""
        yield


@contextlib.asynccontextmanager
async def uvicorn_backend(path: Path) -> AsyncIterator[Record]:
    """uvicorn, as `jasaweb-rt serve` runs it, with an application that takes everything."""
    record = Record()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        content = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            content += message.get("body", b"")
            more = message.get("more_body", False)
        target = scope["raw_path"].decode("ascii")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("ascii")
        record.seen.append(Seen(scope["method"], target, content))
        record.fields.append([(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False, server_header=False)
    server = _Server(config)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        serving = asyncio.ensure_future(server.serve([listener]))
        await until(lambda: server.started, "the application")
        try:
            yield record
        finally:
            server.should_exit = True
            await serving
