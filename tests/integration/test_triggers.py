"""Any committed change of the guide's table, by whatever program, is numbered, counted and put into the outbox."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import asyncpg
import pytest

from jasaweb_rt.database.outbox import ReadDetail
from tests.support import prisma
from tests.support.databases import acting_as, add_role
from tests.support.ledger import INSERT, check_ledger, drained, feed_of, get_counters

NOW = datetime(2026, 11, 22, 10, 30, 0, 123000)  # noqa: DTZ001 - the column has no zone
NONE_READ = ReadDetail(ids=())


@pytest.fixture
async def foreign(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A program that knows nothing of us: rights on the guide's table only, another search_path, another time zone."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("create schema elsewhere; create table elsewhere.real_time_notifications (x int)")
    await connection.execute("set search_path = elsewhere; set timezone = 'Asia/Jakarta'")
    grants = (
        "usage on schema public",
        "select, insert, update, delete, truncate on public.real_time_notifications",
    )
    async with add_role(database_url, *grants) as role, acting_as(connection, role):
        yield connection
    await connection.close()


async def test_what_prisma_creates(foreign: asyncpg.Connection, connection: asyncpg.Connection) -> None:
    row = await foreign.fetchrow(prisma.CREATE, "n1", "anna", "project_update", "T", "M", '{"a": [1, null]}', NOW)
    assert row["user_id"] == "anna"
    [event] = await drained(connection)
    assert (event.kind, event.user_id, event.seq, event.unread, event.rev) == ("notification", "anna", 1, 1, 1)
    assert event.notification is not None
    assert event.notification.id == "n1"
    assert event.notification.type == "project_update"
    assert event.notification.data == {"a": [1, None]}
    assert event.notification.timestamp == "2026-11-22T10:30:00.123Z"


async def test_what_prisma_creates_in_bulk(foreign: asyncpg.Connection, connection: asyncpg.Connection) -> None:
    users = ["budi", "anna", "anna", "citra", "anna"]
    values = [value for n, user in enumerate(users) for value in (f"n{n}", user, "admin_alert", "T", "M", NOW)]
    await foreign.execute(prisma.create_many(len(users)), *values)
    assert await feed_of(connection, "anna") == [(1, "n1"), (2, "n2"), (3, "n4")]
    assert await feed_of(connection, "budi") == [(1, "n0")]
    assert [(row.user_id, row.seq) for row in await drained(connection)] == [
        ("anna", 1),
        ("anna", 2),
        ("anna", 3),
        ("budi", 1),
        ("citra", 1),
    ]
    await check_ledger(connection)


async def test_what_prisma_marks_read_and_deletes(foreign: asyncpg.Connection, connection: asyncpg.Connection) -> None:
    for n in (1, 2, 3):
        await foreign.execute(INSERT, f"n{n}", "anna")
    await drained(connection)

    assert len(await foreign.fetch(prisma.UPDATE_READ_AT, NOW, "n2")) == 1
    [event] = await drained(connection)
    assert (event.kind, event.read_detail, event.unread, event.rev) == ("read", ReadDetail(ids=("n2",)), 2, 4)

    # Marked again, or otherwise changed: nothing that anyone must be told.
    await foreign.execute(prisma.UPDATE_READ_AT, NOW, "n2")
    await foreign.execute(f"update {prisma.TABLE} set title = 'Other' where id = 'n1'")
    assert await drained(connection) == []
    assert await get_counters(connection, "anna") == (3, 2, 4)

    await foreign.execute(prisma.UPDATE_READ_AT, None, "n2")
    [event] = await drained(connection)
    assert (event.read_detail, event.unread, event.rev) == (NONE_READ, 3, 5)

    await foreign.execute(prisma.UPDATE_MANY_READ_AT, NOW, "anna")
    [event] = await drained(connection)
    assert event.read_detail is not None
    assert sorted(event.read_detail.ids or ()) == ["n1", "n2", "n3"]
    assert event.unread == 0

    # A read one goes without a word; the count has not moved.
    await foreign.execute(prisma.DELETE, "n3")
    assert await drained(connection) == []
    assert await feed_of(connection, "anna") == [(1, "n1"), (2, "n2")]
    await check_ledger(connection)


async def test_what_prisma_upserts(foreign: asyncpg.Connection, connection: asyncpg.Connection) -> None:
    values = ("n1", "anna", "user_message", "T", "M", NOW, NOW, "n1")
    await foreign.execute(prisma.UPSERT, *values)
    await foreign.execute(prisma.UPSERT, *values)
    events = await drained(connection)
    assert [(event.kind, event.seq, event.read_detail) for event in events] == [
        ("notification", 1, None),
        ("read", None, ReadDetail(ids=("n1",))),
    ]
    assert await get_counters(connection, "anna") == (1, 0, 2)
    await foreign.execute(f"insert into {prisma.TABLE} select * from {prisma.TABLE} on conflict do nothing")
    assert await drained(connection) == []
    await check_ledger(connection)


async def test_neither_a_programs_operators_nor_its_settings_matter_and_they_stay(
    foreign: asyncpg.Connection, connection: asyncpg.Connection
) -> None:
    await connection.execute("""
        create function elsewhere.wrong(bigint, bigint) returns bigint language sql return -7;
        create function elsewhere.never(text, text) returns boolean language sql return false;
        create operator elsewhere.+ (leftarg = bigint, rightarg = bigint, function = elsewhere.wrong);
        create operator elsewhere.- (leftarg = bigint, rightarg = bigint, function = elsewhere.wrong);
        create operator elsewhere.= (leftarg = text, rightarg = text, function = elsewhere.never);
        grant usage on schema elsewhere to public""")

    def two(first: int) -> list[object]:
        return [value for n in (first, first + 1) for value in (f"n{n}", "anna", "admin_alert", "T", "M", NOW)]

    await foreign.execute("set search_path = elsewhere, pg_catalog; set enable_nestloop = on; set jit = on")
    assert await foreign.fetchval("select 1::bigint + 1::bigint") == -7
    # A type of the session's own comes before all others that are not named in full, when the trigger is first called.
    await foreign.execute("create domain pg_temp.text as pg_catalog.text not null")
    await foreign.execute(INSERT, "n1", "anna")
    await foreign.execute("drop domain pg_temp.text")
    await foreign.execute(prisma.create_many(2), *two(2))
    async with foreign.transaction():
        await foreign.execute("set local enable_nestloop = off")
        await foreign.execute(prisma.create_many(2), *two(4))
        assert await foreign.fetchval("show enable_nestloop") == "off"
    assert [await foreign.fetchval(f"show {setting}") for setting in ("enable_nestloop", "jit")] == ["on", "on"]
    await foreign.execute(INSERT, "n6", "anna")
    assert await feed_of(connection, "anna") == [(n, f"n{n}") for n in range(1, 7)]
    await check_ledger(connection)


async def test_a_row_that_arrives_read(connection: asyncpg.Connection) -> None:
    await connection.execute(
        f"""insert into {prisma.TABLE} (id, user_id, type, title, message, read_at)
            values ('a', 'u', 'admin_alert', '', '', now())"""
    )
    assert await get_counters(connection, "u") == (1, 0, 1)


async def test_copy(foreign: asyncpg.Connection, connection: asyncpg.Connection) -> None:
    await foreign.execute("set search_path = public")
    columns = ("id", "user_id", "type", "title", "message")
    records = [(f"n{n:04}", f"user-{n % 3}", "user_message", "T", "M") for n in range(1000)]
    await foreign.copy_records_to_table("real_time_notifications", records=records, columns=columns)
    for n in range(3):
        expected = [key for key, user, *_ in records if user == f"user-{n}"]
        assert await feed_of(connection, f"user-{n}") == list(enumerate(expected, start=1))
    assert len(await drained(connection)) == 1000
    await check_ledger(connection)


async def test_rollback_leaves_nothing(connection: asyncpg.Connection) -> None:
    await connection.execute(INSERT, "n1", "anna")
    await drained(connection)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(INSERT, "n2", "anna")
    await connection.execute(INSERT, "n3", "budi")
    await connection.execute(f"delete from {prisma.TABLE} where id = 'n1'")
    await transaction.rollback()
    assert await drained(connection) == []
    assert await get_counters(connection, "anna") == (1, 1, 1)
    assert await get_counters(connection, "budi") == (0, 0, 0)
    await connection.execute(INSERT, "n4", "anna")
    assert await feed_of(connection, "anna") == [(1, "n1"), (2, "n4")]


async def test_savepoints(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        await connection.execute(INSERT, "n1", "anna")
        savepoint = connection.transaction()
        await savepoint.start()
        await connection.execute(INSERT, "n2", "anna")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(INSERT, "n1", "anna")
        await savepoint.rollback()
        await connection.execute(INSERT, "n3", "anna")
    assert await feed_of(connection, "anna") == [(1, "n1"), (2, "n3")]
    assert [event.seq for event in await drained(connection)] == [1, 2]
    await check_ledger(connection)


async def test_a_new_user_or_a_new_id_is_a_move(connection: asyncpg.Connection) -> None:
    for n in (1, 2, 3):
        await connection.execute(INSERT, f"n{n}", "anna")
    await connection.execute(INSERT, "b1", "budi")
    await drained(connection)

    await connection.execute(f"update {prisma.TABLE} set user_id = 'budi' where id = 'n2'")
    events = await drained(connection)
    assert [(event.user_id, event.kind, event.seq, event.unread) for event in events] == [
        ("anna", "read", None, 2),
        ("budi", "notification", 2, 2),
    ]
    assert await feed_of(connection, "anna") == [(1, "n1"), (3, "n3")]
    assert await feed_of(connection, "budi") == [(1, "b1"), (2, "n2")]

    await connection.execute(f"update {prisma.TABLE} set id = 'x' where id = 'n1'")
    assert await feed_of(connection, "anna") == [(3, "n3"), (4, "x")]
    events = await drained(connection)
    assert [(event.kind, event.seq, event.unread) for event in events] == [("notification", 4, 2)]

    await connection.execute(f"update {prisma.TABLE} set user_id = 'citra', read_at = now()")
    assert await feed_of(connection, "anna") == []
    assert len(await feed_of(connection, "citra")) == 4
    assert await get_counters(connection, "citra") == (4, 0, 1)
    assert await get_counters(connection, "anna") == (4, 0, 6)
    await check_ledger(connection)


async def test_delete_and_truncate(foreign: asyncpg.Connection, connection: asyncpg.Connection) -> None:
    for user in ("anna", "budi", "citra"):
        for n in (1, 2):
            await foreign.execute(INSERT, f"{user}{n}", user)
    await foreign.execute(prisma.UPDATE_MANY_READ_AT, NOW, "citra")
    await drained(connection)

    await foreign.execute(f"delete from {prisma.TABLE} where id in ('anna1', 'citra1')")
    [event] = await drained(connection)
    assert (event.user_id, event.read_detail, event.unread) == ("anna", NONE_READ, 1)
    await check_ledger(connection)

    await foreign.execute(f"truncate {prisma.TABLE}")
    events = await drained(connection)
    assert [(event.user_id, event.read_detail, event.unread) for event in events] == [
        ("anna", NONE_READ, 0),
        ("budi", NONE_READ, 0),
    ]
    await check_ledger(connection)
    await foreign.execute(INSERT, "new", "anna")
    assert await feed_of(connection, "anna") == [(3, "new")]


async def test_one_that_was_deleted_before_it_was_relayed(connection: asyncpg.Connection) -> None:
    await connection.execute(INSERT, "n1", "anna")
    await connection.execute(f"delete from {prisma.TABLE}")
    event, read = await drained(connection)
    assert (event.kind, event.seq, event.notification, event.unread) == ("notification", 1, None, 0)
    assert read.kind == "read"


async def test_many_ids_are_told_in_pieces(connection: asyncpg.Connection) -> None:
    await connection.execute(
        f"""insert into {prisma.TABLE} (id, user_id, type, title, message)
            select 'n' || n, 'anna', 'user_message', '', '' from generate_series(1, 1201) n"""
    )
    await drained(connection)
    await connection.execute(prisma.UPDATE_MANY_READ_AT, NOW, "anna")
    events = await drained(connection)
    ids = [event.read_detail.ids for event in events if event.read_detail is not None and event.read_detail.ids]
    assert [len(part) for part in ids] == [500, 500, 201]
    assert len({key for part in ids for key in part}) == 1201


async def test_a_statement_of_no_rows_tells_nobody(connection: asyncpg.Connection) -> None:
    await connection.execute(f"insert into {prisma.TABLE} select * from {prisma.TABLE}")
    await connection.execute(f"update {prisma.TABLE} set read_at = now()")
    await connection.execute(f"delete from {prisma.TABLE}")
    await connection.execute(f"truncate {prisma.TABLE}")
    assert await drained(connection) == []


@pytest.mark.timeout(300)
async def test_a_hundred_thousand_users_on_a_warm_connection(connection: asyncpg.Connection) -> None:
    """A plan that was made for one row must not be used for bulk: it would be quadratic, minutes instead of seconds."""
    await connection.execute("set statement_timeout = '80s'")
    for n in range(12):
        await connection.execute(INSERT, f"warm-{n}", "user-1")
        await connection.execute(prisma.UPDATE_READ_AT, NOW, f"warm-{n}")
        await connection.execute(prisma.DELETE, f"warm-{n}")
        two = [f"two-{n}", "user-1", "admin_alert", "T", "M", NOW, f"three-{n}", "user-2", "admin_alert", "T", "M", NOW]
        await connection.execute(prisma.create_many(2), *two)
    await connection.execute(f"delete from {prisma.TABLE}")
    await drained(connection)
    for statement in (
        f"""insert into {prisma.TABLE} (id, user_id, type, title, message)
            select 'bulk-' || n, 'user-' || n, 'admin_alert', 'T', 'M' from generate_series(1, 100000) n""",
        f"update {prisma.TABLE} set read_at = now() where id like 'bulk-1%'",
        f"delete from {prisma.TABLE} where id like 'bulk-1%'",
    ):
        await connection.execute(statement, timeout=90)
    assert await connection.fetchval("select count(*) from jasaweb_rt.counters where head_seq > 0") == 100_000
    assert await connection.fetchval("select count(*) from jasaweb_rt.outbox where kind = 'notification'") == 100_000
    await check_ledger(connection)


async def test_bulk_statements_in_opposite_order_do_not_wait_for_each_other(database_url: str) -> None:
    users = [f"user-{n:03}" for n in range(200)]
    statement = f"""insert into {prisma.TABLE} (id, user_id, type, title, message)
                    select $1 || '-' || n, u, 'user_message', '', '' from unnest($2::text[]) with ordinality t (u, n)"""

    async def writer(name: str, order: list[str]) -> None:
        connection = await asyncpg.connect(database_url)
        for n in range(15):
            await connection.execute(statement, f"{name}{n}", order)
            await connection.execute(f"update {prisma.TABLE} set read_at = now() where id like $1", f"{name}{n}-%")
        await connection.close()

    await asyncio.gather(writer("a", users), writer("b", users[::-1]), writer("c", users[100:] + users[:100]))
    connection = await asyncpg.connect(database_url)
    assert (
        await connection.fetchval("select count(*) from jasaweb_rt.counters where head_seq = 45 and unread = 0") == 200
    )
    await check_ledger(connection)
    await connection.close()


async def test_concurrent_writers_are_numbered_in_commit_order(
    database_url: str, connection: asyncpg.Connection
) -> None:
    """Whoever has seen seq N, and then sees N+1, has missed nothing: a reader looks on while eight writers write."""
    committed = looks = 0
    done = asyncio.Event()

    async def writer(name: str) -> None:
        nonlocal committed
        own = await asyncpg.connect(database_url)
        n = -1
        # So many, and until the reader has looked on some times.
        while (n := n + 1) < 40 or looks <= 3:
            transaction = own.transaction()
            await transaction.start()
            await own.execute(INSERT, f"{name}-{n}", "anna")
            if n % 5 == 4:
                await transaction.rollback()
            else:
                await own.execute(INSERT, f"{name}-{n}-second", "anna")
                await transaction.commit()
                committed += 2
        await own.close()

    async def reader() -> None:
        nonlocal looks
        own = await asyncpg.connect(database_url)
        last = 0
        while not done.is_set():
            rows = await own.fetch(
                "select seq from jasaweb_rt.feed where user_id = 'anna' and seq > $1 order by seq", last
            )
            assert [row["seq"] for row in rows] == list(range(last + 1, last + 1 + len(rows)))
            last += len(rows)
            looks += 1
        await own.close()

    reading = asyncio.create_task(reader())
    await asyncio.gather(*(writer(name) for name in "abcdefgh"))
    done.set()
    await reading
    assert await get_counters(connection, "anna") == (committed, committed, committed)
    assert [event.seq for event in await drained(connection)] == list(range(1, committed + 1))
    await check_ledger(connection)


async def test_a_second_user_is_not_held_up(database_url: str, connection: asyncpg.Connection) -> None:
    """Only writers of one user wait for each other."""
    other = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute(INSERT, "a1", "anna")
        await asyncio.wait_for(other.execute(INSERT, "b1", "budi"), 20)
        pid = other.get_server_pid()
        waiting = asyncio.create_task(other.execute(INSERT, "a2", "anna"))
        while not await connection.fetchval("select exists (select from pg_locks where not granted and pid = $1)", pid):
            assert not waiting.done()
    await waiting
    assert await feed_of(connection, "anna") == [(1, "a1"), (2, "a2")]
    await other.close()
