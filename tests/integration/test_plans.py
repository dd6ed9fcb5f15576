"""With a million notifications, no query of a running server reads the whole of a table, nor do the triggers.

What a query reads is counted, not read off its plan: so it is the text that the server sends, with the plan that the
server gets, and with all that triggers do for it. Each runs once with plans for its arguments and once with plans for
any arguments, for a connection that lives long may have either.
"""

import asyncio
import importlib
import inspect
import pkgutil
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest

import jasaweb_rt.database
from jasaweb_rt.database import feed, message_log, notifications, outbox
from jasaweb_rt.database.message_log import SentRange
from jasaweb_rt.database.pool import connect
from jasaweb_rt.domain import ledger
from jasaweb_rt.domain.ledger import Mended
from tests.support.databases import create_database, drop_database, with_database
from tests.support.million import NOTIFICATIONS, load, reads_of
from tests.support.operations import OPERATIONS, WHOLE, Operation

pytestmark = pytest.mark.timeout(300)

SMALL = 1000
"""Rows of a table that may be gone through: leases, the epoch."""


@pytest.fixture(scope="module")
def million_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """URL of a database that is filled once for this module; its tests undo what they do, or leave it in order."""
    name = f"million_{uuid.uuid4().hex}"
    url = with_database(postgres_url, name)

    async def make() -> None:
        await create_database(postgres_url, name, template=template_database)
        connection = await connect(url, statement_timeout=250)
        await load(connection)
        await connection.close(timeout=20)

    asyncio.run(make())
    yield url
    asyncio.run(drop_database(postgres_url, name))


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=[operation.name for operation in OPERATIONS])
async def test_it_reads_what_it_is_about(million_url: str, operation: Operation, plans: str) -> None:
    connection = await connect(million_url, server_settings={"plan_cache_mode": plans})
    try:
        transaction = connection.transaction(isolation=operation.isolation)
        await transaction.start()
        reads = await reads_of(connection, lambda: operation.work(connection))
        await transaction.rollback()
    finally:
        await connection.close(timeout=20)
    assert {table for table, rows in reads.scanned.items() if rows > SMALL} <= operation.scans, reads
    if not operation.scans:
        assert sum(reads.blocks.values()) < 1000 + 40 * operation.rows, reads


async def test_a_plan_that_was_made_for_small_tables_is_good_for_large_ones(
    database_url: str, connection: asyncpg.Connection
) -> None:
    """Connections live longer than a table stays small. By its id alone a notification is found in any table."""
    await connection.execute(
        """
        insert into public.real_time_notifications (id, user_id, type, title, message)
        select gen_random_uuid()::text, 'user-' || n, 'user_message', 'Title', 'Message' from generate_series(1, 20) n
        """
    )
    # What is not known to be small is taken for larger.
    await connection.execute("vacuum")
    settings = {"plan_cache_mode": "force_generic_plan", **outbox.RELAY_SETTINGS}
    early = await connect(database_url, server_settings=settings)
    await early.execute(
        "load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_level = 'notice'"
    )
    plans: list[str] = []
    early.add_log_listener(lambda _, message: plans.append(message.message))
    works: list[Callable[[], Awaitable[object]]] = [
        lambda: outbox.read_on(early, 10),
        lambda: feed.catch_up(early, [feed.CatchUpRequest("c", "user-1", 0)], 20, 1_000_000),
        lambda: notifications.inbox(early, "user-1", 0, 20),
        lambda: message_log.add_many(early, [SentRange("node-1", "user-1", 1, 1, 0, 0.0)]),
    ]
    for work in works:
        plans.clear()
        await work()
        # The driver asks about types before.
        plan = "\n".join(plans)
        assert set(re.findall(r"real_time_notifications_\w+", plan)) == {"real_time_notifications_pkey"}, plan
    await early.close(timeout=20)


def test_nothing_is_left_out() -> None:
    """Whoever adds a query says here what it is about."""
    measured = {operation.calls for operation in OPERATIONS}
    missing = [
        function.__qualname__ for function in _queries() if function not in measured and function.__name__ not in WHOLE
    ]
    assert missing == []


def _queries() -> Iterator[Callable[..., Any]]:
    for module in pkgutil.iter_modules(jasaweb_rt.database.__path__, f"{jasaweb_rt.database.__name__}."):
        for name, member in vars(importlib.import_module(module.name)).items():
            if inspect.isfunction(member) and member.__module__ == module.name and not name.startswith("_"):
                parameters = list(inspect.signature(member).parameters)
                if parameters[:1] == ["connection"]:
                    yield member


async def test_a_check_finds_and_mends_the_few_among_a_million(million_url: str) -> None:
    connection = await connect(million_url, statement_timeout=250, lock_timeout=0.5)
    async with connection.transaction(isolation="repeatable_read"):
        reads = await reads_of(connection, lambda: _finds_nothing(connection))
    # The whole of each table, once for the comparison and once to count.
    assert max(reads.scanned.values()) <= 3 * NOTIFICATIONS
    assert max(reads.blocks.values()) <= 100_000
    for statement in (
        "delete from jasaweb_rt.feed where user_id between 'user-1' and 'user-1099' and seq <= 3",
        "update jasaweb_rt.counters set unread = unread + 1 where user_id between 'user-1' and 'user-1099'",
        "insert into jasaweb_rt.feed select user_id, head_seq + 1, 'gone' from jasaweb_rt.counters "
        "where user_id between 'user-1' and 'user-1099'",
    ):
        await connection.execute(statement)
    users = await connection.fetchval(
        "select count(*) from jasaweb_rt.counters where user_id between 'user-1' and 'user-1099'"
    )
    report = await ledger.check(connection)
    assert {finding.kind: finding.count for finding in report.findings} == {
        "head_behind": users,
        "wrong_unread": users,
        "unnumbered": 3 * users,
        "stray_place": users,
    }
    mended = await ledger.mend(connection, report)
    assert mended == Mended(counters=users, numbered=3 * users, places=users, outbox_rows=0)
    await _finds_nothing(connection)
    await connection.close(timeout=20)


async def _finds_nothing(connection: asyncpg.Connection) -> None:
    assert (await ledger.check(connection)).findings == ()
