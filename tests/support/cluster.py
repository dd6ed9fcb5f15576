"""Nodes of a cluster, for tests of the extension alone."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection

from jasaweb_rt._core import ClusterClient, ClusterEvent, ClusterStats, FanoutServer
from tests.support.sockets import WAIT_SECONDS, until


def cluster_stats(node: FanoutServer | ClusterClient) -> ClusterStats:
    """How `node` stands with the others."""
    stats = node.stats()
    cluster = stats if isinstance(stats, ClusterStats) else stats.cluster
    assert cluster is not None
    return cluster


async def joined(nodes: Sequence[FanoutServer | ClusterClient]) -> None:
    """Returns once each of them is linked to NATS."""
    for node in nodes:
        await until(lambda node=node: cluster_stats(node).connected, "the link to NATS")  # type: ignore[misc]


async def start_nodes(
    start: Callable[..., FanoutServer], count: int, urls: Sequence[str], **limits: Any
) -> list[FanoutServer]:
    """`count` servers that are linked to the NATS servers at `urls`."""
    nodes = [start(nats_url=urls, **limits) for _ in range(count)]
    await joined(nodes)
    return nodes


async def fenced(node: FanoutServer | ClusterClient) -> None:
    """Returns once a fence of `node` has opened."""
    async with asyncio.timeout(WAIT_SECONDS):
        # On another thread: the way to NATS may be a relay on this one.
        while not await asyncio.to_thread(node.fence, 1):
            await asyncio.sleep(0.005)


async def heard(*nodes: FanoutServer) -> None:
    """Returns once NATS knows of every user who is connected to one of `nodes` by now."""
    for node in nodes:
        await fenced(node)


async def reached(node: FanoutServer | ClusterClient, user_id: str, *sockets: ClientConnection) -> None:
    """Returns once what is sent on `node` reaches `sockets`, all of `user_id`.

    The NATS server that a node is linked to knows whom it hears; other servers learn of it a little later.
    """

    async def arrives(socket: ClientConnection, mark: str) -> None:
        while json.loads(await socket.recv()) != {"mark": mark}:
            pass

    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            mark = uuid.uuid4().hex
            node.broadcast_to_user(user_id, json.dumps({"mark": mark}))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await asyncio.gather(*(arrives(socket, mark) for socket in sockets))
                return


async def cluster_event(node: FanoutServer | ClusterClient, reason: str) -> ClusterEvent:
    """The next event of the cluster whose reason has `reason` in it; other events are passed over."""
    found: list[ClusterEvent] = []

    def look() -> bool:
        events = [event for event in node.drain_events() if isinstance(event, ClusterEvent)]
        found.extend(event for event in events if reason in event.reason)
        return bool(found)

    await until(look, f"a cluster event with {reason!r}")
    return found[0]
