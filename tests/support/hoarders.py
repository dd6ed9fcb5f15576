"""Clients that make a server hold as much for them as they can: raw sockets, which do only what they are told."""

import asyncio
import base64
import os
import socket
import struct
import zlib

import httpx

from tests.support.sockets import WAIT_SECONDS

TEXT, CONTINUATION = 0x1, 0x0
FIN, COMPRESSED = 0x80, 0x40
_MASK = b"\x01\x02\x03\x04"


class Hoarder:
    """One WebSocket. It reads nothing but the head of the answer to its handshake, unless `end` is called."""

    def __init__(self, reading: socket.socket) -> None:
        self._socket = reading

    @classmethod
    async def open(cls, url: httpx.URL, target: str, *, compression: bool = True) -> "Hoarder":
        """A socket with as little room to receive as the system allows, at the server of `url`."""
        loop = asyncio.get_running_loop()
        one = socket.socket()
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        host, port = url.host, url.port or 80
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            + ("Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n" if compression else "\r\n")
        )
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await loop.sock_connect(one, (host, port))
                await loop.sock_sendall(one, request.encode())
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += await loop.sock_recv(one, 1)
        except BaseException:
            one.close()
            raise
        assert head.startswith(b"HTTP/1.1 101 "), head
        return cls(one)

    async def send(self, first_byte: int, payload: bytes, *, claims: int | None = None) -> None:
        """A masked frame, of which all is sent; `claims`: what its header says instead of the payload's length."""
        length = len(payload) if claims is None else claims
        header = bytes([first_byte, 0x80 | 127]) + struct.pack("!Q", length) + _MASK
        masked = bytes(byte ^ _MASK[place % 4] for place, byte in enumerate(payload))
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.get_running_loop().sock_sendall(self._socket, header + masked)

    async def end(self) -> bytes:
        """All that comes until the server closes."""
        received = b""
        async with asyncio.timeout(WAIT_SECONDS):
            while part := await asyncio.get_running_loop().sock_recv(self._socket, 65536):
                received += part
        return received

    def close(self) -> None:
        """Just goes."""
        self._socket.close()


def deflated(message: bytes) -> bytes:
    """A message as permessage-deflate sends it (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")
