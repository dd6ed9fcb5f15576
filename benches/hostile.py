"""Peers that do what no good client does, each over a socket of its own, and what they do is bounded in time."""

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Self

from benches.messages import requests

__all__ = ["HOSTILE", "Stranger"]

_PATIENCE_SECONDS = 20.0
_MASK = b"\xa5\x5a\x00\xff"
_TEXT, _BINARY, _PING, _RESERVED = 0x1, 0x2, 0x9, 0x3
_FIN = 0x80
_MAX_MESSAGE_BYTES = 65_536

Address = tuple[str, int]


def frame(opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True) -> bytes:
    """A frame as a client sends it (RFC 6455 section 5.2), or as it must not."""
    mask_bit = 0x80 if masked else 0
    head = bytes([(_FIN if fin else 0) | opcode])
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    else:
        head += bytes([mask_bit | 127]) + len(payload).to_bytes(8, "big")
    if not masked:
        return head + payload
    repeated = _MASK * (len(payload) // 4 + 1)
    return head + _MASK + bytes(byte ^ mask for byte, mask in zip(payload, repeated, strict=False))


class Stranger:
    """A connection that is driven by hand."""

    def __init__(self, address: Address) -> None:
        """Connects."""
        self.socket = socket.create_connection(address, _PATIENCE_SECONDS)

    @classmethod
    def upgraded(cls, address: Address) -> Self:
        """One that is past the handshake, and then neither reads nor answers."""
        stranger = cls(address)
        (request,) = requests(["stranger"])
        stranger.socket.sendall(request)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = stranger.socket.recv(1)
            if not byte:
                raise ConnectionError(f"the handshake was not answered: {head!r}")
            head += byte
        return stranger

    @classmethod
    def halfway(cls, address: Address) -> Self:
        """One that never ends its request."""
        stranger = cls(address)
        (request,) = requests(["stranger"])
        stranger.socket.sendall(request[: len(request) // 2])
        return stranger

    def read_to_end(self) -> None:
        """Reads until the server is done with it."""
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(65_536):
                pass

    def leave(self) -> None:
        """Closes the socket."""
        self.socket.close()

    def reset(self) -> None:
        """Cuts the connection: the server gets a reset instead of an end (socket(7), `SO_LINGER`)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def _sends(*frames: bytes) -> Callable[[Address], None]:
    def act(address: Address) -> None:
        stranger = Stranger.upgraded(address)
        with contextlib.suppress(OSError):
            for each in frames:
                stranger.socket.sendall(each)
            # Who broke the protocol answers no Close either; without this the server would wait for that.
            stranger.socket.shutdown(socket.SHUT_WR)
        stranger.read_to_end()
        stranger.leave()

    return act


def _talks_and_is_cut(address: Address) -> None:
    stranger = Stranger.upgraded(address)
    stranger.socket.sendall(frame(_TEXT, b'{"type":"message"}') + frame(_TEXT, b"never finished", fin=False))
    stranger.reset()


def _is_cut_at_once(address: Address) -> None:
    Stranger.upgraded(address).reset()


def _is_cut_before(address: Address) -> None:
    Stranger.halfway(address).reset()


def _talks_nonsense(address: Address) -> None:
    stranger = Stranger(address)
    with contextlib.suppress(ConnectionError):
        stranger.socket.sendall(b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n")
    stranger.read_to_end()
    stranger.leave()


HOSTILE: tuple[Callable[[Address], None], ...] = (
    _sends(frame(_TEXT, b"not masked", masked=False)),
    _sends(frame(_RESERVED, b"")),
    _sends(frame(_PING, b"a ping that is too long".ljust(126))),
    _sends(frame(_BINARY, b"\x00\xff")),
    _sends(frame(_TEXT, b"\xc3\x28")),
    _sends(frame(_TEXT, b"x" * (_MAX_MESSAGE_BYTES + 1))),
    _sends(frame(_TEXT, b"x" * 60_000, fin=False), frame(0, b"x" * 60_000)),
    _sends(*[frame(_PING, b"flood")] * 200),
    _talks_and_is_cut,
    _is_cut_at_once,
    _is_cut_before,
    _talks_nonsense,
)
"""What may be done to a server; each returns once the server is done with it, or it with the server."""
