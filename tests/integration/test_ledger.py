"""What others have done behind the triggers' back is found, and mended beside those who write."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from websockets.asyncio.client import ClientConnection

from jasaweb_rt.database import connections, message_log
from jasaweb_rt.database.connections import Connection
from jasaweb_rt.database.ledger import correct_counters, number_late
from jasaweb_rt.database.message_log import SentRange
from jasaweb_rt.database.outbox import ReadDetail
from jasaweb_rt.database.pool import connect
from jasaweb_rt.domain import ledger
from jasaweb_rt.domain.ledger import Mended, Report
from jasaweb_rt.gateway import Gateway
from tests.support.databases import add_users
from tests.support.ledger import INSERT, check_ledger, drained, feed_of, get_counters
from tests.support.sockets import frame, opened

TABLE = "public.real_time_notifications"
NOTHING = Mended(counters=0, numbered=0, places=0, outbox_rows=0)
MANY = f"""insert into {TABLE} (id, user_id, type, title, message, created_at)
           select $1 || n, $2, 'user_message', 'Title', 'Message', timestamp '2026-11-01' + n * interval '1 s'
           from generate_series($3::int, $4::int) n order by n"""

# Rows are locked in the order of their ids, so that no two writers wait for each other: whoever is ended because of
# that was in the way of the mend.
ORDERED = f"""id = any (array(
  select id from {TABLE} where user_id = $1 and id like $2 order by id for update
))"""


@asynccontextmanager
async def mending(url: str, lock_timeout: float = 0.5) -> AsyncIterator[asyncpg.Connection]:
    """A connection as `jasaweb-rt check` opens its own."""
    connection = await connect(url, lock_timeout=lock_timeout)
    try:
        yield connection
    finally:
        await connection.close(timeout=20)


@asynccontextmanager
async def past_the_triggers(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Inside the block no trigger fires, as in `pg_restore --disable-triggers` or on a replica."""
    await connection.execute("set session_replication_role = replica")
    try:
        yield
    finally:
        await connection.execute("reset session_replication_role")


def counts(report: Report) -> dict[str, int]:
    return {finding.kind: finding.count for finding in report.findings}


def examples(report: Report) -> list[str]:
    return [example for finding in report.findings for example in finding.examples]


@pytest.fixture
async def filled(connection: asyncpg.Connection) -> None:
    """User anna has 1 to 5, of which the first is read; budi 1 to 3, of which the last is gone; nothing waits."""
    await connection.execute(MANY, "a", "anna", 1, 5)
    await connection.execute(MANY, "b", "budi", 1, 3)
    await connection.execute(f"update {TABLE} set read_at = now() where id = 'a1'")
    await connection.execute(f"delete from {TABLE} where id = 'b3'")
    await drained(connection)


async def test_nothing_is_wrong_with_what_the_triggers_do(connection: asyncpg.Connection) -> None:
    await connection.execute(MANY, "a", "anna", 1, 5)
    await connection.execute(f"update {TABLE} set read_at = now() where id in ('a1', 'a2')")
    await connection.execute(f"update {TABLE} set user_id = 'budi' where id = 'a3'")
    # Deleted before they were relayed: their rows in the outbox are in order.
    await connection.execute(f"delete from {TABLE} where id in ('a1', 'a5')")
    report = await ledger.check(connection)
    assert (report.findings, report.size.notifications, report.size.counters) == ((), 3, 2)
    assert await ledger.mend(connection, report) == NOTHING
    await connection.execute(f"truncate {TABLE}")
    assert (await ledger.check(connection)).findings == ()


DAMAGE = {
    "read past the triggers": (
        f"update {TABLE} set read_at = now() where id in ('a2', 'a3')",
        {"wrong_unread": 1},
        ["anna: 4 by the counter, 2 by the notifications"],
        Mended(counters=1, numbered=0, places=0, outbox_rows=0),
    ),
    "a count changed by hand": (
        "update jasaweb_rt.counters set unread = -7",
        {"wrong_unread": 2},
        ["anna: -7 by the counter, 4 by the notifications", "budi: -7 by the counter, 2 by the notifications"],
        Mended(counters=2, numbered=0, places=0, outbox_rows=0),
    ),
    "inserted past the triggers": (
        f"""insert into {TABLE} (id, user_id, type, title, message)
            values ('x', 'anna', 'user_message', '', ''), ('y', 'citra', 'user_message', '', '')""",
        {"no_counter": 1, "wrong_unread": 1, "unnumbered": 2},
        [
            "citra: 1 unread, the feed goes up to 0",
            "anna: 4 by the counter, 5 by the notifications",
            "anna: x",
            "citra: y",
        ],
        Mended(counters=2, numbered=2, places=0, outbox_rows=0),
    ),
    "deleted past the triggers": (
        f"delete from {TABLE} where id in ('a1', 'b1')",
        {"wrong_unread": 1, "stray_place": 2},
        [
            "budi: 2 by the counter, 1 by the notifications",
            "anna: 1, of a1, which this user does not have",
            "budi: 1, of b1, which this user does not have",
        ],
        Mended(counters=1, numbered=0, places=2, outbox_rows=0),
    ),
    "given to another user past the triggers": (
        f"update {TABLE} set user_id = 'budi' where id = 'a1'",
        {"unnumbered": 1, "stray_place": 1},
        ["budi: a1", "anna: 1, of a1, which this user does not have"],
        Mended(counters=0, numbered=1, places=1, outbox_rows=0),
    ),
    "a number given twice": (
        "insert into jasaweb_rt.feed values ('anna', 0, 'a3')",
        {"stray_place": 1},
        ["anna: 0, of a3, which is also 3"],
        Mended(counters=0, numbered=0, places=1, outbox_rows=0),
    ),
    "a number that nobody asks for": (
        "update jasaweb_rt.feed set seq = 0 where notification_id = 'a3'",
        {"unnumbered": 1, "stray_place": 1},
        ["anna: a3", "anna: 0, of a3; numbers begin at 1"],
        Mended(counters=0, numbered=1, places=1, outbox_rows=0),
    ),
    "a head set back": (
        "update jasaweb_rt.counters set head_seq = 3 where user_id = 'anna'",
        {"head_behind": 1},
        ["anna: the head is 3, the feed goes up to 5"],
        Mended(counters=1, numbered=0, places=0, outbox_rows=0),
    ),
    "counters lost": (
        "delete from jasaweb_rt.counters",
        {"no_counter": 2},
        ["anna: 4 unread, the feed goes up to 5", "budi: 2 unread, the feed goes up to 2"],
        Mended(counters=2, numbered=0, places=0, outbox_rows=0),
    ),
    "the feed lost": (
        "truncate jasaweb_rt.feed",
        {"unnumbered": 7},
        ["anna: a1", "anna: a2", "anna: a3", "anna: a4", "anna: a5"],
        Mended(counters=0, numbered=7, places=0, outbox_rows=0),
    ),
    "the feed alone is left": (
        f"truncate {TABLE}, jasaweb_rt.counters",
        {"no_counter": 2, "stray_place": 7},
        [
            "anna: 0 unread, the feed goes up to 5",
            "budi: 0 unread, the feed goes up to 2",
            *(f"anna: {n}, of a{n}, which this user does not have" for n in range(1, 6)),
        ],
        Mended(counters=2, numbered=0, places=7, outbox_rows=0),
    ),
    "a number that was never given": (
        """insert into jasaweb_rt.outbox (kind, user_id, seq)
           values ('notification', 'anna', 6), ('notification', 'nobody', 1), ('notification', 'budi', 3)""",
        {"dangling": 2},
        ["anna: 6", "nobody: 1"],
        Mended(counters=0, numbered=0, places=0, outbox_rows=2),
    ),
}


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("damage", DAMAGE)
async def test_each_kind_is_found_and_mended(connection: asyncpg.Connection, damage: str) -> None:
    statement, found, words, mended = DAMAGE[damage]
    async with past_the_triggers(connection):
        await connection.execute(statement)
    report = await ledger.check(connection)
    assert counts(report) == found
    assert sorted(examples(report)) == sorted(words)
    assert counts(await ledger.check(connection)) == found, "a check changes nothing"
    assert await ledger.mend(connection, report) == mended
    assert (await ledger.check(connection)).findings == ()
    await check_ledger(connection)
    # What is written from now on is numbered and counted on top of that.
    before = await get_counters(connection, "anna")
    await connection.execute(INSERT, "next", "anna")
    after = await get_counters(connection, "anna")
    assert (after.head_seq, after.unread) == (before.head_seq + 1, before.unread + 1)
    await check_ledger(connection)


@pytest.mark.usefixtures("filled")
async def test_late_ones_come_after_all_others_in_the_order_of_their_creation(connection: asyncpg.Connection) -> None:
    before = await get_counters(connection, "anna")
    async with past_the_triggers(connection):
        await connection.execute(
            f"""insert into {TABLE} (id, user_id, type, title, message, created_at, read_at) values
                ('third', 'anna', 'user_message', '', '', '2026-10-03', null),
                ('first', 'anna', 'user_message', '', '', '2026-10-01', null),
                ('second', 'anna', 'user_message', '', '', '2026-10-02', now())"""
        )
    await ledger.mend(connection, await ledger.check(connection))
    assert (await feed_of(connection, "anna"))[5:] == [(6, "first"), (7, "second"), (8, "third")]
    counters = await get_counters(connection, "anna")
    assert (counters.head_seq, counters.unread) == (8, 6)
    assert counters.rev > before.rev
    count, *late = await drained(connection)
    assert (count.kind, count.user_id, count.read_detail, count.unread) == ("read", "anna", ReadDetail(ids=()), 6)
    assert [(event.kind, event.seq, event.rev) for event in late] == [
        ("notification", seq, counters.rev) for seq in (6, 7, 8)
    ]


@pytest.mark.usefixtures("filled")
async def test_nothing_is_numbered_where_the_head_is_wrong_still(connection: asyncpg.Connection) -> None:
    """As where a counter was locked while heads were mended, and was free when late ones were numbered."""
    async with past_the_triggers(connection):
        await connection.execute("update jasaweb_rt.counters set head_seq = 3 where user_id = 'anna'")
        await connection.execute(INSERT, "late", "anna")
    async with connection.transaction():
        assert await number_late(connection, [("anna", "late")]) == 0
    assert await ledger.mend(connection, await ledger.check(connection)) == Mended(
        counters=1, numbered=1, places=0, outbox_rows=0
    )


@pytest.mark.usefixtures("filled")
async def test_a_lost_counter_is_ahead_of_all_that_clients_have_seen(connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"), ("budi", "client"))
    await connection.execute(f"delete from {TABLE} where id = 'a5'")
    await connection.execute(INSERT, "b4", "budi")
    await connection.execute(f"delete from {TABLE} where id = 'b4'")
    row = Connection("node-1", "anna", "::1", None, 0, 0, "active")
    await connections.save_many(connection, [row])
    await connection.execute(INSERT, "a6", "anna")
    await message_log.add_many(connection, [SentRange("node-1", "anna", 4, 6, 6, 0)])
    await connection.execute(f"delete from {TABLE} where id = 'a6'")
    # A row that another program has put there says nothing.
    await connection.execute(
        """insert into public.websocket_messages (id, connection_id, message_type, payload)
           select v.id, c.id, '', v.payload from public.websocket_connections c, (values
             ('m1', '{"seq": 900}'::jsonb), ('m2', '{"seq": "x"}'), ('m3', '{"seq": 1e400}'), ('m4', '[]')
           ) as v (id, payload)"""
    )
    before = {user: await get_counters(connection, user) for user in ("anna", "budi")}
    await connection.execute("delete from jasaweb_rt.outbox where user_id = 'anna'")
    await connection.execute("delete from jasaweb_rt.counters")
    await ledger.mend(connection, await ledger.check(connection))
    for user, old in before.items():
        new = await get_counters(connection, user)
        assert (new.head_seq, new.unread) == (old.head_seq, old.unread), user
        assert new.rev > old.rev + 1_000_000, user
    assert (await ledger.check(connection)).findings == ()


@pytest.mark.usefixtures("filled")
async def test_what_somebody_keeps_locked_is_left_and_the_rest_is_mended(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await connection.execute("update jasaweb_rt.counters set unread = 9")
    async with past_the_triggers(connection):
        await connection.execute(INSERT, "late-a", "anna")
        await connection.execute(INSERT, "late-b", "budi")
        await connection.execute(f"delete from {TABLE} where id in ('a4', 'b2')")
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(INSERT, "open", "anna")
    await connection.execute("select from jasaweb_rt.feed where user_id = 'anna' for update")
    async with mending(database_url, lock_timeout=0.05) as mender:
        mended = await ledger.mend(mender, await ledger.check(mender))
        assert mended == Mended(counters=1, numbered=1, places=1, outbox_rows=0)
        await transaction.commit()
        report = await ledger.check(mender)
        assert counts(report) == {"wrong_unread": 1, "unnumbered": 1, "stray_place": 1}
        assert all(example.startswith("anna: ") for example in examples(report))
        await ledger.mend(mender, report)
    await check_ledger(connection)


@pytest.mark.usefixtures("filled")
async def test_one_that_is_being_deleted_gets_no_place(connection: asyncpg.Connection, database_url: str) -> None:
    """A place that is given while the deleting trigger has looked already would stay for ever."""
    async with past_the_triggers(connection):
        for number in range(3):
            await connection.execute(INSERT, f"late-{number}", "anna")
        await connection.execute(f"update {TABLE} set read_at = now() where id like 'late-%'")
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(f"delete from {TABLE} where id = 'late-1'")
    async with mending(database_url) as mender:
        assert (await ledger.mend(mender, await ledger.check(mender))).numbered == 2
        await transaction.commit()
        assert (await ledger.check(mender)).findings == ()
    assert (await feed_of(connection, "anna"))[5:] == [(6, "late-0"), (7, "late-2")]


@pytest.mark.usefixtures("filled")
async def test_a_truncate_waits_its_turn(connection: asyncpg.Connection, database_url: str) -> None:
    await connection.execute("update jasaweb_rt.counters set unread = 9")
    pid = connection.get_server_pid()
    async with mending(database_url) as mender:
        transaction = mender.transaction()
        await transaction.start()
        assert await correct_counters(mender, ["anna", "budi"]) == 2
        truncate = asyncio.ensure_future(connection.execute(f"truncate {TABLE}"))
        while not await mender.fetchval("select exists (select from pg_locks where not granted and pid = $1)", pid):
            assert not truncate.done()
        await mender.execute(f"select from {TABLE} limit 1")
        await transaction.commit()
        await truncate
        assert (await ledger.check(mender)).findings == ()
    assert (await get_counters(connection, "anna")).unread == 0


async def test_beside_writers(database_url: str, connection: asyncpg.Connection) -> None:
    """Programs write, mark and delete, one of them past the triggers, while others check and mend."""
    users = [f"user-{n}" for n in range(6)]
    stop = asyncio.Event()
    written = 0

    async def writer(name: str, seed: int) -> None:
        nonlocal written
        draw = random.Random(seed)  # noqa: S311 - repeatable, not secret
        own = await connect(database_url)
        number = 0
        while not stop.is_set():
            number += 1
            user = draw.choice(users)
            match draw.randrange(6):
                case 0:
                    await own.execute(f"update {TABLE} set read_at = now() where {ORDERED}", user, "%7")
                case 1:
                    await own.execute(f"delete from {TABLE} where {ORDERED}", user, "%3")
                case 2:
                    await own.execute(
                        f"""insert into {TABLE} (id, user_id, type, title, message)
                            select $1 || u, u, 'user_message', '', '' from unnest($2::text[]) u""",
                        f"{name}-{number}-",
                        draw.sample(users, 4),
                    )
                case _:
                    await own.execute(INSERT, f"{name}-{number}", user)
            written += 1
        await own.close()

    async def vandal(rounds: int) -> None:
        draw = random.Random(99)  # noqa: S311 - repeatable, not secret
        own = await connect(database_url)
        for number in range(rounds):
            async with past_the_triggers(own):
                user = draw.choice(users)
                await own.execute(MANY, f"lost-{number}-", user, 1, draw.randrange(1, 40))
                await own.execute(f"update {TABLE} set read_at = null where {ORDERED}", user, "%7")
                await own.execute(f"delete from {TABLE} where {ORDERED}", draw.choice(users), "%9")
            await own.execute("update jasaweb_rt.counters set unread = unread + 3 where user_id = $1", user)
            async with mending(database_url) as mender:
                await ledger.mend(mender, await ledger.check(mender))
        await own.close()

    async def second_mender(rounds: int) -> None:
        async with mending(database_url) as mender:
            for _ in range(rounds):
                await ledger.mend(mender, await ledger.check(mender))

    async with asyncio.TaskGroup() as group:
        writers = [group.create_task(writer(f"w{n}", n)) for n in range(4)]
        for task in [group.create_task(vandal(20)), group.create_task(second_mender(20))]:
            await task
        # Writers go on; every snapshot from here on must be clean, but for what they themselves held locked.
        async with mending(database_url) as mender:
            async with asyncio.timeout(60):
                while (report := await ledger.check(mender)).findings:
                    await ledger.mend(mender, report)
            so_far = written
            while written < so_far + 20:
                assert (await ledger.check(mender)).findings == ()
                await asyncio.sleep(0)
        stop.set()
        await asyncio.gather(*writers)
    await check_ledger(connection)
    assert written > 20


@pytest.mark.usefixtures("filled")
async def test_who_is_online_learns_of_it(gateway: Gateway, connection: asyncpg.Connection) -> None:
    async with opened(gateway.server, "anna") as socket:
        assert (await frame(socket))["data"]["unread"] == 4
        async with past_the_triggers(connection):
            await connection.execute(f"update {TABLE} set read_at = now() where id in ('a2', 'a3')")
        await ledger.mend(connection, await ledger.check(connection))
        count = await frame(socket)
        assert (count["type"], count["data"]["unread"]) == ("read", 2)
        async with past_the_triggers(connection):
            await connection.execute(MANY, "late", "anna", 1, 2)
        await ledger.mend(connection, await ledger.check(connection))
        assert [await numbered(socket, 4) for _ in range(2)] == [("late1", 6, 4), ("late2", 7, 4)]
        # A counter that was lost counts on from where clients are.
        await connection.execute("delete from jasaweb_rt.counters where user_id = 'anna'")
        await ledger.mend(connection, await ledger.check(connection))
        await connection.execute(INSERT, "next", "anna")
        assert await numbered(socket, 4) == ("next", 8, 5)


async def numbered(socket: ClientConnection, unread: int) -> tuple[str, int, int]:
    """The next notification; frames of the count may come before it, and say `unread`."""
    while (got := await frame(socket))["type"] == "read":
        assert got["data"]["unread"] == unread
    return got["id"], got["seq"], got["unread"]
