"""The short run: every seed that has ever failed. `make simulate` is the long one."""

import asyncio
import contextlib
import itertools
import tempfile
import time
from pathlib import Path

import asyncpg
import httpx
import jwt
import pytest

from tests.simulator.cluster_drawing import draw_cluster
from tests.simulator.drawing import draw
from tests.simulator.plan import Harm, Plan, Say, Script, Statement, Transaction, Writer
from tests.simulator.run import Report, SimulationError, simulate
from tests.simulator.seeds import FAILED
from tests.simulator.truth import Feed, Seen, complaints_about_device, complaints_about_feed
from tests.simulator.world import World, open_world
from tests.simulator.writers import WRITERS, Author
from tests.support.databases import add_users
from tests.support.people import bearer

HOUR = 3_600
END_COPIES = (
    "select pg_terminate_backend(pid) from pg_stat_activity "
    f"where datname = current_database() and application_name = '{WRITERS}' and query like 'COPY %'"
)


@pytest.mark.timeout(500)
@pytest.mark.parametrize("seed", FAILED)
async def test_every_device_sees_what_the_table_has(seed: int) -> None:
    report = await simulate(seed)
    assert report.faults
    assert report.seen


def test_a_seed_draws_the_same_plan_each_time() -> None:
    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw_cluster(1) == draw_cluster(1)
    assert draw_cluster(1) != draw_cluster(2)


def test_every_fault_is_drawn() -> None:
    plans = [plan for seed in range(60) for plan in (draw(seed), draw_cluster(seed))]
    drawn = {fault.harm for plan in plans for script in scripts_of(plan) for fault in script}
    assert drawn == set(Harm)


def scripts_of(plan: Plan) -> list[Script]:
    """All scripts of a plan."""
    return [*plan.scripts, *plan.device_scripts, *itertools.chain(*plan.node_scripts)]


async def test_clocks_of_server_and_database_are_set_each_by_itself() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        async with open_world(draw(1), Path(folder)) as world, world.serving():
            await world.ready()
            assert await hours_ahead(world) == (0, 0)
            world.servers[0].clock.set_ahead(5 * HOUR)
            assert await hours_ahead(world) == (5, 0)
            world.database.clock.set_ahead(2 * HOUR)
            world.servers[0].clock.set_ahead(0)
            assert await hours_ahead(world) == (0, 2)


async def hours_ahead(world: World) -> tuple[int, int]:
    """How far the clocks of server and database are ahead of ours."""
    async with world.database.connection() as connection:
        of_database = await connection.fetchval("select extract(epoch from now())::float8")
    async with httpx.AsyncClient(headers=bearer("user-0"), timeout=30) as http:
        issued = await http.post(f"{world.site}/api/websocket/token")
    of_server = jwt.decode(issued.json()["token"], options={"verify_signature": False})["iat"]
    hours = [round((moment - time.time()) / HOUR) for moment in (of_server, of_database)]
    return hours[0], hours[1]


def seen(*numbers: int) -> list[Seen]:
    return [Seen(number, f"n{number}", "user_message", {"by": "w", "n": number}) for number in numbers]


def feed(*numbers: int, head: int) -> Feed:
    return Feed("user", seen(*numbers), head, 0)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((1, 2, 3), ""),
        ((1, 3), "did not see [2]"),
        ((1, 2), "did not see [3]"),
        ((1, 2, 2, 3), "not in order: 2 comes after 2"),
        ((1, 3, 2), "not in order: 3 comes after 1"),
        ((1, 2, 3, 4), "saw what is not there: [4]"),
        ((), "did not see [1, 2, 3]"),
    ],
)
def test_a_list_that_is_not_the_tables_is_found(numbers: tuple[int, ...], words: str) -> None:
    found = complaints_about_device("device", seen(*numbers), feed(1, 2, 3, head=3), mortal=False)
    assert bool(found) == bool(words)
    assert words in "".join(found)


def test_another_content_is_found() -> None:
    other = [*seen(1, 2), Seen(3, "n3", "user_message", {"by": "w", "n": 3, "more": True})]
    assert complaints_about_device("device", other, feed(1, 2, 3, head=3), mortal=False)


def test_what_was_deleted_may_have_been_seen() -> None:
    table = feed(1, 3, head=4)
    assert complaints_about_device("device", seen(1, 2, 3), table, mortal=True) == []
    assert complaints_about_device("device", seen(1, 2, 3), table, mortal=False)
    assert complaints_about_device("device", seen(1, 2, 3, 5), table, mortal=True)
    assert complaints_about_device("device", seen(2, 3), table, mortal=True)


def test_numbers_with_a_hole_or_out_of_a_writers_order_are_found() -> None:
    assert complaints_about_feed(feed(1, 2, 3, head=3), mortal=False) == []
    assert complaints_about_feed(feed(1, 3, head=3), mortal=False)
    assert complaints_about_feed(feed(1, 2, head=3), mortal=False)
    swapped = [Seen(1, "b", "user_message", {"by": "w", "n": 2}), Seen(2, "a", "user_message", {"by": "w", "n": 1})]
    assert complaints_about_feed(Feed("user", swapped, 2, 0), mortal=False)


def test_a_failure_says_how_to_repeat_it() -> None:
    said = str(SimulationError(draw(14), ["device 3 of user-1: did not see [7] (1 in all)"], Report()))
    assert "did not see [7]" in said
    assert ".venv/bin/python -m tests.simulator --seed 14" in said
    assert "build/simulator/14" in said


async def test_a_writer_whose_copy_is_ended_in_the_middle_goes_on(database_url: str) -> None:
    user = "user-0"
    copying = Transaction(0, (Statement(Say.COPY, (user,) * 60, pad=66_000),), think=0, undone=False)
    author = Author(Writer("program", is_service=False, transactions=(copying,) * 60), 1, database_url)
    async with contextlib.AsyncExitStack() as stack:
        connection = await asyncpg.connect(database_url)
        stack.callback(connection.terminate)
        await add_users(connection, (user, "client"))
        writing = asyncio.create_task(author.write())
        while not writing.done():
            await connection.execute(END_COPIES)
            await asyncio.sleep(0.01)
        await writing
    assert author.committed + author.failed == 60
    assert author.failed


@pytest.mark.timeout(500)
async def test_it_leaves_nothing_behind_when_it_is_cancelled() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        parent = Path(folder)
        running = asyncio.create_task(simulate(2, parent))
        async with asyncio.timeout(100):
            while not {"server", "postgres"} <= set(works_below(parent)):
                assert not running.done()
                await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert works_below(parent) == []
        assert list(parent.iterdir()) == []


def works_below(folder: Path) -> list[str]:
    """What runs with a working directory below `folder`: `postgres`, or `server` for anything else."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and (process / "cwd").readlink().is_relative_to(folder):
                name = (process / "comm").read_text().strip()
                found.append("postgres" if name == "postgres" else "server")
    return found
