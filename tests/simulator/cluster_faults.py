"""Does what a plan says of a node of a cluster: to itself, its NATS server, its links, and the network."""

import asyncio

from tests.simulator.cluster import Node
from tests.simulator.faults import harm_link, harm_server
from tests.simulator.plan import Fault, Harm


async def harm_node(node: Node, fault: Fault) -> bool:
    """A fault of a node; false where it met nothing."""
    match fault.harm:
        case Harm.SERVER_KILLED | Harm.SERVER_STOPPED | Harm.SERVER_ASLEEP | Harm.SERVER_CLOCK:
            return await harm_server(node.server, fault)
        case Harm.NATS_KILLED | Harm.NATS_STOPPED | Harm.NATS_ASLEEP:
            return await _harm_nats(node, fault)
        case Harm.DATABASE_LINK_CUT | Harm.DATABASE_LINK_STALLED | Harm.DATABASE_LINK_AWAY:
            return await harm_link(node.database_link, fault)
        case Harm.NODE_CUT_OFF | Harm.ROUTE_CUT | Harm.ROUTE_CUT_ONE_WAY | Harm.ROUTES_SLOW:
            return await _harm_network(node, fault)
    return await harm_link(node.nats_link, fault)


async def _harm_nats(node: Node, fault: Fault) -> bool:
    nats = node.nats
    if not nats.running:
        node.complaints.append(f"{nats.name} has ended by itself")
        nats.start()
    if fault.harm is Harm.NATS_ASLEEP:
        nats.pause()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            nats.resume()
        return True
    if fault.harm is Harm.NATS_KILLED:
        nats.kill()
    else:
        await nats.stop()
    await asyncio.sleep(fault.seconds)
    nats.start()
    return True


async def _harm_network(node: Node, fault: Fault) -> bool:
    network = node.network
    other = (node.number + fault.size) % len(network.namespaces)
    match fault.harm:
        case Harm.NODE_CUT_OFF:
            return await network.cut(network.wires(node.number), fault.seconds)
        case Harm.ROUTE_CUT:
            return await network.cut(network.wires(node.number, other), fault.seconds)
        case Harm.ROUTE_CUT_ONE_WAY:
            return await network.cut(network.wires(node.number, other, one_way=True), fault.seconds)
        case Harm.ROUTES_SLOW:
            return await network.slow(network.wires(node.number), fault.seconds / 20, 0.05, fault.seconds)
    raise ValueError(f"no fault of the network: {fault.harm}")
