"""The network between nodes: a switch of our own, whose wires are cut, slowed, and lose packets."""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface

from tests.simulator.namespaces import MTU, Namespace

_NETWORK = "10.231.0"
_VERSION_4 = 4
# Bytes of an IPv4 header, and where the destination's last byte stands in it (RFC 791 section 3.1).
_HEADER, _LAST_BYTE = 20, 19
# As many as a turn of the event loop may take from one device.
_TURN = 64


@dataclass
class Wire:
    """What happens to packets from one node to another."""

    cuts: int = 0
    """How many faults cut it at present."""
    delay: float = 0.0
    """Seconds that each packet takes."""
    loss: float = 0.0
    """Of all packets, how many are lost: 0.1 is every tenth."""


class Network:
    """Namespaces, each linked to each; the one with number n has the address that ends with n + 1."""

    def __init__(self, namespaces: Sequence[Namespace], dice: random.Random) -> None:
        self.namespaces = namespaces
        self._dice = dice
        numbers = range(len(namespaces))
        self._wires = {(a, b): Wire() for a in numbers for b in numbers if a != b}

    def start(self) -> None:
        """Carries packets from now on."""
        for number, namespace in enumerate(self.namespaces):
            asyncio.get_running_loop().add_reader(namespace.device, self._carry, number)

    def stop(self) -> None:
        """Carries no more."""
        for namespace in self.namespaces:
            asyncio.get_running_loop().remove_reader(namespace.device)

    def wires(self, number: int, other: int | None = None, *, one_way: bool = False) -> list[Wire]:
        """Those of a node to and from another, or from it only; `other` None: to and from all others."""
        return [
            wire
            for (source, target), wire in self._wires.items()
            if (source == number and other in {None, target})
            or (target == number and other in {None, source} and not one_way)
        ]

    async def cut(self, wires: Iterable[Wire], seconds: float) -> bool:
        """Nothing passes for a while, and nobody is told."""
        wires = list(wires)
        for wire in wires:
            wire.cuts += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            for wire in wires:
                wire.cuts -= 1
        return True

    async def slow(self, wires: Iterable[Wire], delay: float, loss: float, seconds: float) -> bool:
        """Each packet takes `delay` longer for a while, and some are lost."""
        wires = list(wires)
        for wire in wires:
            wire.delay, wire.loss = delay, loss
        try:
            await asyncio.sleep(seconds)
        finally:
            for wire in wires:
                wire.delay, wire.loss = 0.0, 0.0
        return True

    def _carry(self, source: int) -> None:
        device = self.namespaces[source].device
        for _ in range(_TURN):
            try:
                packet = os.read(device, MTU)
            except BlockingIOError:
                return
            if len(packet) < _HEADER or packet[0] >> 4 != _VERSION_4:
                continue
            target = packet[_LAST_BYTE] - 1
            wire = self._wires.get((source, target))
            if wire is None or wire.cuts or self._dice.random() < wire.loss:
                continue
            if wire.delay:
                asyncio.get_running_loop().call_later(wire.delay, self._deliver, target, packet)
            else:
                self._deliver(target, packet)

    def _deliver(self, target: int, packet: bytes) -> None:
        # Late, or more than the device takes: lost, as it is by any network.
        with contextlib.suppress(OSError):
            os.write(self.namespaces[target].device, packet)


@contextlib.asynccontextmanager
async def open_network(count: int, dice: random.Random) -> AsyncIterator[Network]:
    """A network of `count` namespaces, as long as the block; `dice` decides which packets are lost.

    Raises:
        NamespacesMissingError: it cannot be had here.
    """
    with contextlib.ExitStack() as stack:
        namespaces = []
        for number in range(count):
            namespace = Namespace(IPv4Interface(f"{_NETWORK}.{number + 1}/24"))
            stack.callback(namespace.close)
            namespaces.append(namespace)
        network = Network(namespaces, dice)
        network.start()
        try:
            yield network
        finally:
            network.stop()
