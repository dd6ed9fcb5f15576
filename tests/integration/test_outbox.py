"""What waits to be relayed: read in order, each row once, and a relay that sleeps is woken by every commit."""

import asyncio
import random
import re
from pathlib import Path

import asyncpg

from jasaweb_rt.database import outbox
from jasaweb_rt.database.outbox import OutboxRow
from jasaweb_rt.database.pool import connect
from tests.support.ledger import INSERT, outbox_size


def test_the_migration_has_the_same_lock() -> None:
    sql = (Path(__file__).parents[2] / "migrations" / "0005_triggers.sql").read_text()
    assert re.findall(r"lock_shared\((\d+)\)", sql) == [str(outbox.WAKE_LOCK)]
    assert outbox.WAKE_LOCK.to_bytes(8, "big") == b"jasaweb\x01"


async def test_in_order_and_once(connection: asyncpg.Connection) -> None:
    for n in range(1, 26):
        await connection.execute(INSERT, f"n{n}", "anna")
    assert await outbox_size(connection) == 25
    batches, relayed = [], list[int]()
    while batch := await outbox.read_on(connection, 10, relayed):
        batches.append([row.seq for row in batch])
        relayed = [row.id for row in batch]
    assert batches == [list(range(1, 11)), list(range(11, 21)), list(range(21, 26))]
    assert await outbox_size(connection) == 0


async def test_what_was_not_said_to_be_relayed_is_read_again(connection: asyncpg.Connection) -> None:
    await connection.execute(INSERT, "n1", "anna")
    [row] = await outbox.read_on(connection, 10)
    assert await outbox.read_on(connection, 10) == [row]
    assert await outbox.read_on(connection, 10, [row.id]) == []
    assert await outbox.read_on(connection, 10) == []


async def test_what_commits_late_is_read_though_its_id_is_lower(
    database_url: str, connection: asyncpg.Connection
) -> None:
    other = await connect(database_url)
    async with connection.transaction():
        await connection.execute(INSERT, "late", "anna")
        await other.execute(INSERT, "early", "budi")
        [early] = await outbox.read_on(other, 10)
        assert early.user_id == "budi"
    [late] = await outbox.read_on(other, 10, [early.id])
    assert (late.user_id, late.id < early.id) == ("anna", True)
    await other.close()


async def test_an_old_leader_that_removes_late_harms_nothing(database_url: str, connection: asyncpg.Connection) -> None:
    """What both have read is published twice, and removed by whoever comes first."""
    await connection.execute(INSERT, "n1", "anna")
    old = await connect(database_url)
    rows = await outbox.read_on(old, 10)
    assert await outbox.read_on(connection, 10) == rows
    ids = [row.id for row in rows]
    async with connection.transaction():
        await connection.execute(INSERT, "n2", "anna")
        assert await outbox.read_on(old, 10, ids) == []
    [new] = await outbox.read_on(connection, 10, ids)
    assert new.seq == 2
    assert await outbox.read_on(old, 10, ids) == [new]
    await old.close()


async def test_counters_are_those_of_now(connection: asyncpg.Connection) -> None:
    await connection.execute(INSERT, "n1", "anna")
    await connection.execute(INSERT, "n2", "anna")
    assert [(row.seq, row.unread, row.rev) for row in await outbox.read_on(connection, 10)] == [(1, 2, 2), (2, 2, 2)]


async def test_only_one_leads(database_url: str, connection: asyncpg.Connection) -> None:
    other = await connect(database_url)
    assert await outbox.try_lock(connection, outbox.LEADER_LOCK)
    assert not await outbox.try_lock(other, outbox.LEADER_LOCK)
    await outbox.unlock(connection, outbox.LEADER_LOCK)
    assert await outbox.try_lock(other, outbox.LEADER_LOCK)
    # A leader that is gone leads no more.
    other.terminate()
    async with asyncio.timeout(20):
        while not await outbox.try_lock(connection, outbox.LEADER_LOCK):
            await asyncio.sleep(0.01)


async def test_a_writer_notifies_only_a_relay_that_sleeps(database_url: str, connection: asyncpg.Connection) -> None:
    relay = await connect(database_url)
    heard: asyncio.Queue[str] = asyncio.Queue()
    await relay.add_listener(outbox.CHANNEL, lambda *_: heard.put_nowait("wake"))
    await connection.execute(INSERT, "awake", "anna")
    assert await outbox.try_lock(relay, outbox.WAKE_LOCK)
    await connection.execute(INSERT, "asleep", "anna")
    await asyncio.wait_for(heard.get(), 20)
    await outbox.unlock(relay, outbox.WAKE_LOCK)
    # It cannot fall asleep while a writer is open that counts on it.
    async with connection.transaction():
        await connection.execute(INSERT, "open", "anna")
        assert not await outbox.try_lock(relay, outbox.WAKE_LOCK)
    assert await outbox.try_lock(relay, outbox.WAKE_LOCK)
    await relay.close()
    assert heard.empty()


async def test_every_commit_wakes_or_is_seen(database_url: str, connection: asyncpg.Connection) -> None:
    """A relay by the rule of the module, which never wakes by itself, gets everything that eight writers commit."""
    wake, asleep = asyncio.Event(), asyncio.Event()
    relay = await connect(database_url)
    await relay.add_listener(outbox.CHANNEL, lambda *_: wake.set())
    chance = random.Random(7)  # noqa: S311 - repeatable, not secret
    total = 8 * 60

    async def writer(name: int) -> None:
        own = await connect(database_url)
        # Once, at least, the relay sleeps when they come.
        await asleep.wait()
        for n in range(60):
            await asyncio.sleep(chance.choice([0, 0, 0.002, 0.01]))
            await own.execute(INSERT, f"{name}-{n}", f"user-{n % 5}")
        await own.close()

    writing = asyncio.gather(*(writer(name) for name in range(8)))
    relayed = 0
    rows: list[OutboxRow] = []

    async def read_on() -> int:
        rows[:] = await outbox.read_on(relay, 50, [row.id for row in rows])
        return len(rows)

    while relayed < total:
        if count := await read_on():
            relayed += count
            continue
        if not await outbox.try_lock(relay, outbox.WAKE_LOCK):
            await asyncio.sleep(0.001)
            continue
        wake.clear()
        count = await read_on()
        relayed += count
        if not count and relayed < total:
            asleep.set()
            await asyncio.wait_for(wake.wait(), 20)
        await outbox.unlock(relay, outbox.WAKE_LOCK)
    await writing
    assert await read_on() == 0
    assert await outbox_size(connection) == 0
    await relay.close()
