"""One run: the plan of a seed, carried out, and the verdict."""

import asyncio
import os
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import asyncpg

from tests.simulator.cluster import Cluster, open_cluster
from tests.simulator.cluster_drawing import draw_cluster
from tests.simulator.cluster_faults import harm_node
from tests.simulator.devices import Receiver, open_receivers
from tests.simulator.drawing import draw
from tests.simulator.faults import follow, harm_device, harm_world
from tests.simulator.links import open_links
from tests.simulator.namespaces import NamespacesMissingError
from tests.simulator.plan import Harm, Plan
from tests.simulator.truth import Feed, complaints_about_device, complaints_about_feed, read_feeds
from tests.simulator.world import World, open_world
from tests.simulator.writers import Author
from tests.support.ledger import check_ledger

KEPT = Path("build/simulator")
"""Where the logs of a run that failed are kept, a folder for each seed."""

_PREFIX = "jasaweb-simulator-"
_RUN_SECONDS, _LAST_SECONDS = 400.0, 5.0
_SETTLE_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_INTO_FAULTS_SECONDS = 0.3


@dataclass
class Report:
    """What a run has met."""

    faults: Counter[Harm] = field(default_factory=Counter)
    notifications: int = 0
    """In the table at the end."""
    seen: int = 0
    """By all devices together."""
    paged: int = 0
    """Of these, by HTTP."""
    transactions: int = 0
    """Confirmed."""
    lost_transactions: int = 0
    """Ended by a fault."""
    syncs: int = 0
    resyncs: int = 0
    settled_seconds: float = 0.0
    """From the last fault until every device had everything; of several runs the longest."""

    def add(self, other: "Report") -> None:
        """Adds up two runs."""
        self.faults += other.faults
        for name in ("notifications", "seen", "paged", "transactions", "lost_transactions", "syncs", "resyncs"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.settled_seconds = max(self.settled_seconds, other.settled_seconds)


class SimulationError(AssertionError):
    """A run has failed: what is wrong, and how to repeat it."""

    def __init__(self, plan: Plan, complaints: Sequence[str], report: Report) -> None:
        sentences = "\n  ".join(complaints)
        super().__init__(
            f"Seed {plan.seed} has failed{' in a cluster' * plan.is_cluster}:\n  {sentences}\n"
            f"To repeat it: .venv/bin/python -m tests.simulator {'--cluster ' * plan.is_cluster}--seed {plan.seed}\n"
            f"Logs and plan: {_folder_for(plan)}"
        )
        self.report = report
        """What it had met until then."""


async def simulate(seed: int, parent: Path = Path("/tmp"), *, in_cluster: bool = False) -> Report:
    """Runs the plan of a seed, in a folder of its own below `parent`, which is gone at the end.

    Raises:
        SimulationError: something was lost, doubled or out of order, or did not end in time.
        NamespacesMissingError: there can be no cluster here.
    """
    plan, report = draw_cluster(seed) if in_cluster else draw(seed), Report()
    _clear_away(parent)
    prefix = f"{_PREFIX}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as folder:
        loop = asyncio.get_running_loop()
        watch = loop.call_later(_RUN_SECONDS - _LAST_SECONDS, _note_tasks, Path(folder))
        try:
            async with asyncio.timeout(_RUN_SECONDS):
                complaints = await _run(plan, Path(folder), report)
        except NamespacesMissingError:
            raise
        except Exception as error:
            _keep_logs(plan, Path(folder))
            said = "".join(traceback.format_exception(error)).rstrip()
            raise SimulationError(plan, [said], report) from error
        finally:
            watch.cancel()
        if complaints:
            _keep_logs(plan, Path(folder))
            raise SimulationError(plan, complaints, report)
        return report


async def _run(plan: Plan, folder: Path, report: Report) -> list[str]:
    """Fills in `report`, and returns what was wrong."""
    async with (
        open_cluster(plan, folder) if plan.is_cluster else open_world(plan, folder) as world,
        world.serving(),
        open_links([world.way(device.number) for device in plan.devices]) as links,
        open_receivers(plan.devices, links, world.site) as receivers,
    ):
        authors = [Author(writer, plan.seed, world.database.url) for writer in plan.writers]
        await world.ready()
        async with asyncio.TaskGroup() as acting:
            for author in authors:
                acting.create_task(author.write())
            for script in plan.scripts:
                acting.create_task(follow(script, partial(harm_world, world), report.faults))
            for receiver, script in zip(receivers, plan.device_scripts, strict=True):
                acting.create_task(follow(script, partial(harm_device, receiver), report.faults))
            if isinstance(world, Cluster):
                for node, scripts in zip(world.nodes, plan.node_scripts, strict=True):
                    for script in scripts:
                        acting.create_task(follow(script, partial(harm_node, node), report.faults))
        for link in links:
            link.heal()
        healed_at = time.monotonic()
        await world.ready()
        complaints = await _settle(world, plan, receivers, report.faults)
        report.settled_seconds = time.monotonic() - healed_at
        async with world.database.connection() as connection:
            complaints += await _complaints_about_tables(connection, authors)
            report.notifications = await connection.fetchval("select count(*) from public.real_time_notifications")
        complaints += [complaint for receiver in receivers for complaint in receiver.complaints]
    complaints += world.complaints
    for author in authors:
        report.transactions += author.committed
        report.lost_transactions += author.failed
    for receiver in receivers:
        report.seen += len(receiver.seen)
        report.paged += receiver.paged
        report.syncs += receiver.syncs
        report.resyncs += receiver.resyncs
    return complaints


async def _settle(world: World, plan: Plan, receivers: Sequence[Receiver], faults: Counter[Harm]) -> list[str]:
    """Waits until every device has what the tables have, writes to all once more, and waits for that.

    In a cluster something is written before that, too, while each node meets a fault: what is lost then is not followed
    by anything that would tell of it. What is still wrong when the time is over is returned.
    """
    if complaints := await _agreed(world, plan, receivers):
        return complaints
    if isinstance(world, Cluster):
        async with asyncio.TaskGroup() as acting:
            for node, fault in zip(world.nodes, plan.last_faults, strict=True):
                acting.create_task(follow((fault,), partial(harm_node, node), faults))
            await asyncio.sleep(_INTO_FAULTS_SECONDS)
            await _write_to_all(world, plan, "within")
        await world.ready()
        if complaints := await _agreed(world, plan, receivers):
            return complaints
    await _write_to_all(world, plan, "last")
    return await _agreed(world, plan, receivers)


async def _write_to_all(world: World, plan: Plan, name: str) -> None:
    """A notification for each user, of a writer of that name."""
    async with world.database.connection() as connection:
        await connection.execute(
            "insert into public.real_time_notifications (id, user_id, type, title, message, data) "
            "select $2 || '-' || u, u, 'user_message', 'Title', u, jsonb_build_object('by', $2, 'n', 1) "
            "from unnest($1::text[]) as u",
            plan.users,
            name,
        )


async def _agreed(world: World, plan: Plan, receivers: Sequence[Receiver]) -> list[str]:
    loop = asyncio.get_running_loop()
    end = loop.time() + _SETTLE_SECONDS
    while True:
        try:
            async with world.database.connection() as connection:
                feeds = await read_feeds(connection, plan.users)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            feeds = None
        if feeds is not None:
            late = [receiver for receiver in receivers if _is_behind(receiver, feeds[receiver.device.user])]
            if not late or loop.time() > end:
                return _compare(plan, receivers, feeds)
        await asyncio.sleep(_LOOK_SECONDS)


def _is_behind(receiver: Receiver, feed: Feed) -> bool:
    last = feed.notifications[-1].seq if feed.notifications else 0
    return receiver.position < last or receiver.unread != feed.unread


def _compare(plan: Plan, receivers: Sequence[Receiver], feeds: dict[str, Feed]) -> list[str]:
    found = []
    for user, feed in feeds.items():
        found += complaints_about_feed(feed, mortal=user in plan.mortal)
    for receiver in receivers:
        user = receiver.device.user
        name = f"device {receiver.device.number} of {user}"
        found += complaints_about_device(name, receiver.seen, feeds[user], mortal=user in plan.mortal)
        if receiver.unread != feeds[user].unread:
            found.append(f"{name} shows {receiver.unread} unread, and the rows have {feeds[user].unread}")
    return found


async def _complaints_about_tables(connection: asyncpg.Connection, authors: Sequence[Author]) -> list[str]:
    """Whether the tables agree with each other, and have all that was confirmed."""
    await check_ledger(connection)
    found = []
    stored = {row["id"] for row in await connection.fetch("select id from public.real_time_notifications")}
    confirmed = {key for author in authors for key in author.confirmed}
    deleted = {key for author in authors for key in author.deleted}
    if lost := confirmed - stored - deleted:
        found.append(f"confirmed and not in the table: {sorted(lost)[:5]} ({len(lost)} in all)")
    return found


def _clear_away(parent: Path) -> None:
    """Removes what runs have left that were killed."""
    for folder in parent.glob(f"{_PREFIX}*-*"):
        process = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _note_tasks(folder: Path) -> None:
    """Writes down what each task awaits, down to the last frame, for a run that does not end."""
    with (folder / "tasks.log").open("w") as log:
        for task in asyncio.all_tasks():
            print(task.get_name(), file=log)
            awaited: object = task.get_coro()
            while awaited is not None:
                frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
                where = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}" if frame else awaited
                print(f"  {where}", file=log)
                awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def _folder_for(plan: Plan) -> Path:
    return KEPT / f"{'cluster-' * plan.is_cluster}{plan.seed}"


def _keep_logs(plan: Plan, folder: Path) -> None:
    kept = _folder_for(plan)
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for log in (*folder.glob("*.log"), *folder.glob("database/*.log")):
        shutil.copy(log, kept)
    (kept / "plan.txt").write_text(describe(plan))


def describe(plan: Plan) -> str:
    """A plan, to be read."""
    lines = [f"seed {plan.seed}", f"mortal: {sorted(plan.mortal)}", *map(str, plan.devices)]
    if plan.is_cluster:
        lines.append(f"nodes know {'all NATS servers' if plan.knows_all_nats else 'only their own NATS server'}")
    scripts = [("world", script) for script in plan.scripts]
    scripts += [(f"node {at}", script) for at, own in enumerate(plan.node_scripts) for script in own]
    scripts += [(f"node {at}, at the end", (fault,)) for at, fault in enumerate(plan.last_faults)]
    scripts += [(f"device {at}", script) for at, script in enumerate(plan.device_scripts)]
    for of, script in scripts:
        lines += [f"{of}: +{fault.pause:.3f} s {fault.harm} {fault.seconds:.3f} s" for fault in script]
    for writer in plan.writers:
        for transaction in writer.transactions:
            said = ", ".join(f"{one.say} {len(one.users)} rows" for one in transaction.statements)
            lines.append(f"{writer.name}: +{transaction.pause:.3f} s {said}{', undone' * transaction.undone}")
    return "\n".join(lines) + "\n"
