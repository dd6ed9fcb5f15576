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
    before = strangers()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        running = asyncio.create_task(simulate(2, Path(folder), in_cluster=True))
        await until_all_run(before)
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not set(strangers()) - set(before)
        assert list(Path(folder).iterdir()) == []


@pytest.mark.timeout(500)
async def test_it_leaves_nothing_running_when_it_is_killed() -> None:
    before = strangers()
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        environ = os.environ | {"TMPDIR": folder, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        running = await asyncio.create_subprocess_exec(sys.executable, "-c", RUN, cwd=folder, env=environ)
        try:
            await until_all_run(before)
        finally:
            running.kill()
            await running.wait()
        async with asyncio.timeout(WAIT_SECONDS):
            while set(strangers()) - set(before) or processes_below(Path(folder)):
                await asyncio.sleep(0.01)


async def until_all_run(before: dict[int, str]) -> None:
    """Returns once there is a NATS server and a node in each of three namespaces that were not there."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            new = {process: namespace for process, namespace in strangers().items() if process not in before}
            names = [name_of(process) for process in new]
            if len(set(new.values())) == NODES and names.count("nats-server") == names.count("jasaweb-rt") == NODES:
                return
            await asyncio.sleep(0.01)


def strangers() -> dict[int, str]:
    """All processes that are in another network namespace, and in which."""
    own = Path("/proc/self/ns/net").readlink()
    found = {}
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and (namespace := (process / "ns" / "net").readlink()) != own:
                found[int(process.name)] = str(namespace)
    return found


def name_of(process: int) -> str:
    """What a process runs; empty where it has gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text().strip()
    return ""


def processes_below(folder: Path) -> list[int]:
    """Those that have their working directory, or PostgreSQL its data, below `folder`."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and str(folder).encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found
