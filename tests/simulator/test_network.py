"""The network of the simulator's clusters: does it carry what it should, and nothing else?"""

import asyncio
import contextlib
import random
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.simulator.cluster import open_nats
from tests.simulator.links import plug_into
from tests.simulator.namespaces import Namespace
from tests.simulator.network import Network, open_network
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.usefixtures("namespaces")

WAIT_SECONDS = 30.0
PORT = 5_000


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    async with open_network(3, random.Random(1)) as network:  # noqa: S311  # loses packets
        yield network


class Peer:
    """Somebody in a namespace who sends and gets datagrams."""

    def __init__(self, namespace: Namespace) -> None:
        self.address = (namespace.address, PORT)
        self.socket = namespace.socket(kind=socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(self.address)

    async def send(self, words: str, to: "Peer") -> None:
        await asyncio.get_running_loop().sock_sendto(self.socket, words.encode(), to.address)

    async def receive(self) -> str:
        async with asyncio.timeout(WAIT_SECONDS):
            return (await asyncio.get_running_loop().sock_recv(self.socket, 1_000)).decode()


@contextlib.contextmanager
def peers(network: Network) -> Iterator[list[Peer]]:
    with contextlib.ExitStack() as stack:
        found = [Peer(namespace) for namespace in network.namespaces]
        for peer in found:
            stack.callback(peer.socket.close)
        yield found


async def test_each_node_reaches_each(network: Network) -> None:
    with peers(network) as nodes:
        for source in nodes:
            for target in nodes:
                await source.send(f"from {source.address}", target)
                assert await target.receive() == f"from {source.address}"


async def test_a_cut_is_for_those_it_names_and_for_the_way_it_names(network: Network) -> None:
    with peers(network) as (first, second, third):
        cutting = asyncio.create_task(network.cut(network.wires(0, 1, one_way=True), WAIT_SECONDS))
        await asyncio.sleep(0)
        await first.send("lost", second)
        await second.send("back", first)
        await first.send("past", third)
        assert await first.receive() == "back"
        assert await third.receive() == "past"
        cutting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cutting
        await first.send("after", second)
        assert await second.receive() == "after"


async def test_a_node_that_is_cut_off_reaches_nobody_and_a_cut_within_a_cut_does_not_end_it(network: Network) -> None:
    with peers(network) as (first, second, third):
        cutting = asyncio.create_task(network.cut(network.wires(0), WAIT_SECONDS))
        await asyncio.sleep(0)
        assert await network.cut(network.wires(1), 0)
        for one, other in ((first, second), (second, first), (first, third), (third, first)):
            await one.send("lost", other)
        await second.send("past", third)
        assert await third.receive() == "past"
        cutting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cutting
        await third.send("after", first)
        assert await first.receive() == "after"


async def test_slow_wires_deliver_late_or_never(network: Network) -> None:
    with peers(network) as (first, second, third):
        losing = asyncio.create_task(network.slow(network.wires(0, 1), 0.0, 1.0, WAIT_SECONDS))
        await asyncio.sleep(0)
        await first.send("lost", second)
        # Packets of a node are carried in turn, so that one has been dealt with.
        await first.send("past", third)
        assert await third.receive() == "past"
        losing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await losing
        slowing = asyncio.create_task(network.slow(network.wires(0, 1), 0.1, 0.0, WAIT_SECONDS))
        await asyncio.sleep(0)
        await first.send("late", second)
        assert await second.receive() == "late"
        slowing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slowing


async def test_the_machine_has_nothing_of_it(network: Network) -> None:
    devices = sorted(path.name for path in Path("/sys/class/net").iterdir())
    assert not any("nodes" in name for name in devices)
    inside = network.namespaces[0]
    looking = await asyncio.create_subprocess_exec(*inside.through, "cat", "/proc/net/dev", stdout=subprocess.PIPE)
    seen, _ = await looking.communicate()
    assert {line.split(b":")[0].strip() for line in seen.splitlines()[2:]} == {b"lo", b"nodes"}
    listening = inside.socket()
    try:
        listening.bind(("127.0.0.1", PORT))
        listening.listen()
        plug = await plug_into(("127.0.0.1", PORT), inside.socket)()
        plug.close()
        with pytest.raises(ConnectionRefusedError):
            await plug_into(("127.0.0.1", PORT))()
    finally:
        listening.close()


async def test_nats_servers_pass_on_to_each_other_and_again_after_they_were_cut_off(
    network: Network, tmp_path: Path
) -> None:
    async with open_nats(tmp_path, network) as nats, contextlib.AsyncExitStack() as stack:
        places = zip(network.namespaces, nats, strict=True)
        clients = [await stack.enter_async_context(nats_client(*place)) for place in places]
        for client in clients:
            client.write(b"SUB news 1\r\n")
        await everybody_hears(clients, "before")
        await network.cut(network.wires(0), 3.0)
        await everybody_hears(clients, "after")


class NatsClient:
    """The least that a client is: https://docs.nats.io/reference/reference-protocols/nats-protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.write = writer.write
        self.heard: set[str] = set()
        self._reader = reader
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for line in self._reader:
            if line.startswith(b"PING"):
                self.write(b"PONG\r\n")
            elif line.startswith(b"MSG"):
                self.heard.add((await self._reader.readline()).decode().strip())


@contextlib.asynccontextmanager
async def nats_client(namespace: Namespace, server: NatsServer) -> AsyncIterator[NatsClient]:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                plug = await plug_into((server.host, server.port), namespace.socket)()
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection(sock=plug)
    client = NatsClient(reader, writer)
    client.write(b'CONNECT {"verbose": false}\r\n')
    try:
        yield client
    finally:
        client.reading.cancel()
        writer.transport.abort()


async def everybody_hears(clients: list[NatsClient], words: str) -> None:
    """Each client says it, again and again, until all have heard it from each."""
    expected = {f"{words}-{number}" for number in range(len(clients))}
    async with asyncio.timeout(WAIT_SECONDS):
        while not all(client.heard >= expected for client in clients):
            for number, client in enumerate(clients):
                said = f"{words}-{number}".encode()
                client.write(b"PUB news %d\r\n%s\r\n" % (len(said), said))
            await asyncio.sleep(0.05)
