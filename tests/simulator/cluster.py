"""A cluster: nodes in network namespaces of their own, each with a NATS server, on one PostgreSQL, behind a balancer.

A node comes to its NATS server by a link, and by the network to those of the others where it knows them; to PostgreSQL,
which is outside, by another link. Devices come by links that lead to a node that is drawn, and to another one the next
time. So everything that one program sends another can be cut, stalled and slowed, by itself.
"""

import contextlib
import random
import socket
import urllib.parse
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.simulator.clocks import MovedClock, build_library
from tests.simulator.links import Link, Plug, open_link, open_links, plug_into
from tests.simulator.namespaces import Namespace
from tests.simulator.network import Network, open_network
from tests.simulator.plan import Plan
from tests.simulator.servers import Server
from tests.simulator.world import Database, World, open_database
from tests.support.nats_server import NatsCluster, NatsServer

PORT: Final = 8_000
"""Where each node listens, on the loopback of its namespace."""

_NATS_LINK_PORT = 4_000
_BUFFER = 65_536
_SOCKET_NAME = ".s.PGSQL.5432"

_POSTGRES = {"max_connections": "200"}

# A server or client that does not answer is given up within what a run takes.
_NATS = 'ping_interval: "400ms"\nping_max: 2\nwrite_deadline: "2s"\n'


@dataclass
class Node:
    """One node, and what is its own."""

    number: int
    server: Server
    nats: NatsServer
    nats_link: Link
    """Between the two."""
    database_link: Link
    network: Network
    complaints: list[str] = field(default_factory=list)


class Cluster(World):
    """See `open_cluster`."""

    def __init__(self, database: Database, nodes: Sequence[Node], sites: Sequence[str], balancer: "Balancer") -> None:
        super().__init__(database, [node.server for node in nodes], sites[:-1], sites[-1])
        self.nodes = nodes
        self._balancer = balancer

    @property
    def complaints(self) -> list[str]:
        return super().complaints + [complaint for node in self.nodes for complaint in node.complaints]

    def way(self, device: int) -> Plug:
        return self._balancer.way()


class Balancer:
    """Leads to one of the nodes, up or down, and to another one the next time."""

    def __init__(self, namespaces: Sequence[Namespace], dice: random.Random) -> None:
        self.nodes = [plug_into(("127.0.0.1", PORT), namespace.socket) for namespace in namespaces]
        """Where each node's own ways lead."""
        self._dice = dice

    def way(self) -> Plug:
        """A way to whichever node."""
        last: int | None = None

        async def plug() -> socket.socket:
            nonlocal last
            last = self._dice.choice([number for number in range(len(self.nodes)) if number != last])
            return await self.nodes[last]()

        return plug


@contextlib.asynccontextmanager
async def open_cluster(plan: Plan, folder: Path) -> AsyncIterator[Cluster]:
    """A database, the network and NATS, in `folder`, with a node for each of the plan's; these run while `serving`.

    Raises:
        NamespacesMissingError: there can be no network namespaces here.
    """
    library = await build_library(folder)
    dice = random.Random(plan.seed)  # noqa: S311  # to be repeated, not to be secret
    async with (
        open_database(plan, folder, library, _POSTGRES) as database,
        open_network(len(plan.node_scripts), dice) as network,
        open_nats(folder, network) as nats,
        contextlib.AsyncExitStack() as stack,
    ):
        nodes = []
        for number, namespace in enumerate(network.namespaces):
            own = nats[number]
            listening = namespace.socket()
            listening.bind(("127.0.0.1", _NATS_LINK_PORT))
            to_nats = plug_into((own.host, own.port), namespace.socket, buffer=_BUFFER)
            nats_link = await stack.enter_async_context(open_link(to_nats, listening, buffer=_BUFFER))
            urls = [f"nats://127.0.0.1:{nats_link.port}"]
            if plan.knows_all_nats:
                urls += [other.url for other in nats if other is not own]
            home = folder / f"way-{number}"
            database_link = await stack.enter_async_context(_open_database_link(database, home))
            server = Server(
                folder,
                f"node-{number}",
                MovedClock(library, folder / f"node-{number}.clock"),
                database_url=f"postgresql://postgres@/postgres?host={urllib.parse.quote(str(home))}",
                port=PORT,
                through=namespace.through,
                settings={"NATS_URL": ",".join(urls)},
            )
            nodes.append(Node(number, server, own, nats_link, database_link, network))
        balancer = Balancer(network.namespaces, dice)
        links = await stack.enter_async_context(open_links([*balancer.nodes, balancer.way()]))
        yield Cluster(database, nodes, [f"http://127.0.0.1:{link.port}" for link in links], balancer)


@contextlib.asynccontextmanager
async def open_nats(folder: Path, network: Network) -> AsyncIterator[NatsCluster]:
    """A NATS server in each namespace, all of them linked."""
    nats = NatsCluster(
        [
            NatsServer(folder, f"nats-{number}", configuration=_NATS, host=namespace.address, through=namespace.through)
            for number, namespace in enumerate(network.namespaces)
        ]
    )
    try:
        nats.start()
        yield nats
    finally:
        for server in nats:
            server.kill()


@contextlib.asynccontextmanager
async def _open_database_link(database: Database, home: Path) -> AsyncIterator[Link]:
    """A link to PostgreSQL, which has its socket in the folder `home`, where PostgreSQL's own clients look for it."""
    home.mkdir()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(home / _SOCKET_NAME))
    (target,) = urllib.parse.parse_qs(urllib.parse.urlsplit(database.url).query)["host"]

    def new_socket() -> socket.socket:
        return socket.socket(socket.AF_UNIX)

    async with open_link(
        plug_into(f"{target}/{_SOCKET_NAME}", new_socket, buffer=_BUFFER), listening, buffer=_BUFFER
    ) as link:
        yield link
