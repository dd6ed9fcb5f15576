"""The short run of a cluster, of which `make simulate-cluster` is the long one; and what only clusters have."""

import asyncio
import contextlib
import os
import random
import socket
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.simulator.cluster import PORT, Balancer
from tests.simulator.cluster_drawing import draw_cluster
from tests.simulator.network import open_network
from tests.simulator.run import Report, SimulationError, simulate
from tests.simulator.seeds import CLUSTERS

pytestmark = pytest.mark.usefixtures("namespaces")

WAIT_SECONDS = 100.0
NODES = 3
RUN = "import asyncio, pathlib; from tests.simulator.run import simulate; "
RUN += "asyncio.run(simulate(2, pathlib.Path.cwd(), in_cluster=True))"


@pytest.mark.timeout(500)
@pytest.mark.parametrize("seed", CLUSTERS)
async def test_every_device_sees_what_the_table_has_whichever_node_it_is_at(seed: int) -> None:
    report = await simulate(seed, in_cluster=True)
    assert report.faults
    assert report.seen


def test_seeds_of_both_kinds_are_run() -> None:
    assert {draw_cluster(seed).knows_all_nats for seed in CLUSTERS} == {True, False}


def test_a_failure_of_a_cluster_says_how_to_repeat_it() -> None:
    said = str(SimulationError(draw_cluster(14), ["wrong"], Report()))
    assert ".venv/bin/python -m tests.simulator --cluster --seed 14" in said
    assert "build/simulator/cluster-14" in said


async def test_each_link_leads_to_another_node_each_time() -> None:
    dice = random.Random(1)  # noqa: S311  # chooses among three
    async with open_network(NODES, dice) as network, contextlib.AsyncExitStack() as stack:
        listeners = []
        for namespace in network.namespaces:
            listening = namespace.socket()
            stack.callback(listening.close)
            listening.setblocking(False)
            listening.bind(("127.0.0.1", PORT))
            listening.listen()
            listeners.append(listening)
        way = Balancer(network.namespaces, dice).way()
        led = []
        for _ in range(20):
            stack.callback((await way()).close)
            led.append(who_was_called(listeners))
    assert set(led) == set(range(NODES))
    assert all(one != other for one, other in pairwise(led))


def who_was_called(listeners: list[socket.socket]) -> int:
    """Number of the one that somebody is connected to."""
    for number, listening in enumerate(listeners):
        with contextlib.suppress(BlockingIOError):
            listening.accept()[0].close()
            return number
    raise AssertionError("nobody was called")


@pytest.mark.timeout(500)
async def test_it_leaves_nothing_behind_when_it_is_cancelled() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        running = asyncio.create_task(simulate(2, folder, in_cluster=True))
        await until_all_run(folder)
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert processes_of(folder) == []
        assert list(folder.iterdir()) == []


@pytest.mark.timeout(500)
async def test_it_leaves_nothing_running_when_it_is_killed() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        environ = os.environ | {"TMPDIR": name, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        running = await asyncio.create_subprocess_exec(sys.executable, "-c", RUN, cwd=folder, env=environ)
        try:
            await until_all_run(folder)
        finally:
            running.kill()
            await running.wait()
        async with asyncio.timeout(WAIT_SECONDS):
            while processes_of(folder):
                await asyncio.sleep(0.01)


async def until_all_run(folder: Path) -> None:
    """Returns once there is a NATS server and a node in each of three namespaces that are not ours."""
    own = Path("/proc/self/ns/net").readlink()
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            inside = [found for found in processes_of(folder) if found.namespace != own]
            names = [found.name for found in inside]
            if names.count("nats-server") == names.count("jasaweb-rt") == NODES:
                assert len({found.namespace for found in inside}) == NODES
                return
            await asyncio.sleep(0.01)


class Process(NamedTuple):
    """One that runs."""

    name: str
    namespace: Path
    """Its network namespace."""


def processes_of(folder: Path) -> list[Process]:
    """Those that have their working directory below `folder`, or name a file there in their command line."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and (
                str(folder).encode() in (process / "cmdline").read_bytes()
                or (process / "cwd").readlink().is_relative_to(folder)
            ):
                name = (process / "comm").read_text().strip()
                found.append(Process(name, (process / "ns" / "net").readlink()))
    return found
