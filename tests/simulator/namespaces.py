"""Network namespaces (network_namespaces(7)), each with a loopback and one device whose packets we carry ourselves.

They have no names and are held by open files alone: whatever becomes of us, the kernel removes them, and the machine's
own network is never touched. A socket belongs for good to the namespace in which it was made, so one thread can have
sockets in all of them.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Final

_CLONE_NEWNET = 0x40000000
_OWN = "/proc/thread-self/ns/net"
_TUN = Path("/dev/net/tun")

# netdevice(7) and linux/if_tun.h. A request has 40 bytes: the device's name, and what is set of it.
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFMTU = 0x8913, 0x8914, 0x8916, 0x891C, 0x8922
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x1, 0x1000
_IFF_UP = 0x1
_DEVICE = b"nodes"

MTU: Final = 16_000
"""Bytes of a packet at most. Large, since each costs us a turn."""


class NamespacesMissingError(Exception):
    """No namespaces can be had here; the sentence says why, and the mend."""


class Namespace:
    """One network namespace, from its making to `close`; afterwards for as long as a process or socket is in it."""

    def __init__(self, interface: IPv4Interface) -> None:
        """Makes it, with `interface` as the address of its device, and the network to which that leads.

        Raises:
            NamespacesMissingError: it cannot be had here.
        """
        self.address = str(interface.ip)
        """Its address among the others."""
        self._home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        self._file: int | None = None
        self.device = -1
        """Descriptor from which its packets to others are read, and to which those from others are written."""
        try:
            self._make(interface)
        except OSError as error:
            self.close()
            raise NamespacesMissingError(
                f"no network namespace can be made here ({error}); run as root, with {_TUN}"
            ) from error

    @property
    def through(self) -> tuple[str, ...]:
        """The command line that becomes, inside the namespace, the one that stands behind it.

        Raises:
            NamespacesMissingError: there is no program for that.
        """
        nsenter = shutil.which("nsenter")
        if nsenter is None:
            raise NamespacesMissingError("nsenter is missing; on Debian: apt-get install util-linux")
        return (nsenter, f"--net=/proc/{os.getpid()}/fd/{self._file}")

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket in the namespace; it may be used anywhere."""
        with self._inside():
            return socket.socket(family, kind)

    def close(self) -> None:
        """Takes the device away and lets go of the namespace."""
        for descriptor in (self.device, self._file, self._home):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self.device, self._file, self._home = -1, None, -1

    def _make(self, interface: IPv4Interface) -> None:
        _check(_libc().unshare(_CLONE_NEWNET))
        try:
            self._file = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
            self.device = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(self.device, _TUNSETIFF, struct.pack("16sH22x", _DEVICE, _IFF_TUN | _IFF_NO_PI))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
                fcntl.ioctl(control, _SIOCSIFADDR, _address(interface.ip.packed))
                fcntl.ioctl(control, _SIOCSIFNETMASK, _address(interface.netmask.packed))
                fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", _DEVICE, MTU))
                for name in (b"lo", _DEVICE):
                    _set_up(control, name)
        finally:
            _check(_libc().setns(self._home, _CLONE_NEWNET))

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """This thread is in the namespace, for as long as the block; nothing may be awaited meanwhile."""
        _check(_libc().setns(self._file, _CLONE_NEWNET))
        try:
            yield
        finally:
            _check(_libc().setns(self._home, _CLONE_NEWNET))


def _address(packed: bytes) -> bytes:
    return struct.pack("=16sHxx4s16x", _DEVICE, socket.AF_INET, packed)


def _set_up(control: socket.socket, name: bytes) -> None:
    answer = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sH22x", name, 0))
    (flags,) = struct.unpack_from("H", answer, 16)
    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name, flags | _IFF_UP))


def _libc() -> ctypes.CDLL:
    # os.setns and os.unshare came with Python 3.12.
    return ctypes.CDLL(None, use_errno=True)


def _check(failed: int) -> None:
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
