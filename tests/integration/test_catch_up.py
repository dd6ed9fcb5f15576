"""What sessions are answered that resume or miss something."""

import asyncpg

from jasaweb_rt.database import feed
from jasaweb_rt.database.feed import CatchUpRequest, catch_up
from tests.support.databases import add_users
from tests.support.ledger import INSERT
from tests.support.sockets import until


async def fill(connection: asyncpg.Connection, user_id: str, count: int) -> None:
    for n in range(1, count + 1):
        await connection.execute(INSERT, f"{user_id}-{n}", user_id)


async def test_every_session_by_one_statement(connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"), ("budi", "admin"), ("citra", "client"))
    await fill(connection, "anna", 6)
    await fill(connection, "budi", 2)
    await fill(connection, "gone", 1)
    # The driver asks for the types of a statement once for each connection.
    assert await catch_up(connection, [], 100, 1_000_000) == []
    statements: list[str] = []
    connection.add_query_logger(lambda record: statements.append(record.query))
    requests = [
        CatchUpRequest("c1", "anna", 4),
        CatchUpRequest("c2", "budi", 0),
        CatchUpRequest("c3", "anna", None),
        CatchUpRequest("c4", "citra", None),
        CatchUpRequest("c5", "gone", 0),
        CatchUpRequest("c6", "anna", 6),
        CatchUpRequest("c7", "nobody", 3),
        CatchUpRequest("c8", "anna", 9),
    ]
    answers = await catch_up(connection, requests, 100, 1_000_000)
    await until(lambda: statements, "the loggers, which are called in a later turn of the loop")
    assert len(statements) == 1
    assert [(a.connection_id, a.user_id, a.role, a.head_seq, a.after, a.through, a.remaining) for a in answers] == [
        ("c1", "anna", "client", 6, 4, 6, 0),
        ("c2", "budi", "admin", 2, 0, 2, 0),
        ("c3", "anna", "client", 6, 6, 6, 0),
        ("c4", "citra", "client", 0, 0, 0, 0),
        ("c5", "gone", None, 1, 0, 1, 0),
        ("c6", "anna", "client", 6, 6, 6, 0),
        ("c7", "nobody", None, 0, 3, 0, 0),
        ("c8", "anna", "client", 6, 9, 6, 0),
    ]
    assert [[n.seq for n in a.notifications] for a in answers] == [[5, 6], [1, 2], [], [], [1], [], [], []]
    assert [n.id for n in answers[0].notifications] == ["anna-5", "anna-6"]
    assert (answers[0].unread, answers[0].rev) == (6, 6)


async def test_page_by_page(connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"))
    await fill(connection, "anna", 10)
    after, seen, left = 2, [], []
    while True:
        [answer] = await catch_up(connection, [CatchUpRequest("c", "anna", after)], 3, 1_000_000)
        seen += [n.seq for n in answer.notifications]
        left.append(answer.remaining)
        if answer.through == answer.head_seq:
            break
        assert answer.through == seen[-1]
        after = answer.through
    assert seen == [3, 4, 5, 6, 7, 8, 9, 10]
    assert left == [5, 2, 0]


async def test_a_page_ends_where_it_has_enough_bytes(connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"), ("budi", "client"))
    await fill(connection, "anna", 6)
    await fill(connection, "budi", 1)
    await connection.execute(
        "update public.real_time_notifications set data = jsonb_build_object('text', repeat('x', 1000))"
    )
    await connection.execute("delete from public.real_time_notifications where id = 'anna-2'")
    requests = [CatchUpRequest("c1", "anna", 0), CatchUpRequest("c2", "budi", 0), CatchUpRequest("c3", "anna", 4)]
    answers = await catch_up(connection, requests, 100, 2000)
    assert [[n.seq for n in a.notifications] for a in answers] == [[1, 3], [1], [5, 6]]
    assert [(a.through, a.remaining) for a in answers] == [(3, 3), (1, 0), (6, 0)]
    # One that is too large for any page is a page.
    [answer] = await catch_up(connection, requests[:1], 100, 1)
    assert ([n.seq for n in answer.notifications], answer.through, answer.remaining) == ([1], 1, 4)


async def test_deleted_ones_are_skipped_for_good(connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"))
    await fill(connection, "anna", 8)
    await connection.execute("delete from public.real_time_notifications where id in ('anna-2', 'anna-3', 'anna-8')")
    [answer] = await catch_up(connection, [CatchUpRequest("c", "anna", 1)], 2, 1_000_000)
    assert ([n.seq for n in answer.notifications], answer.through, answer.remaining) == ([4, 5], 5, 2)
    [answer] = await catch_up(connection, [CatchUpRequest("c", "anna", 5)], 2, 1_000_000)
    # 8 is the head and was deleted: the answer reaches up to it all the same.
    assert ([n.seq for n in answer.notifications], answer.through, answer.remaining) == ([6, 7], 8, 0)
    [answer] = await catch_up(connection, [CatchUpRequest("c", "anna", 7)], 2, 1_000_000)
    assert (answer.notifications, answer.through, answer.remaining) == ([], 8, 0)


async def test_nobody_gets_what_is_anothers(connection: asyncpg.Connection) -> None:
    """A feed row that leads to a foreign notification, however it came about, leads nowhere."""
    await add_users(connection, ("anna", "client"))
    await fill(connection, "anna", 1)
    await connection.execute("alter table public.real_time_notifications disable trigger user")
    await connection.execute("update public.real_time_notifications set user_id = 'budi'")
    [answer] = await catch_up(connection, [CatchUpRequest("c", "anna", 0)], 10, 1_000_000)
    assert (answer.notifications, answer.through) == ([], 1)


async def test_heads_and_epoch(connection: asyncpg.Connection) -> None:
    await fill(connection, "anna", 2)
    await connection.execute("update public.real_time_notifications set read_at = now() where id = 'anna-1'")
    assert await feed.heads(connection, ["anna", "nobody"]) == {"anna": (2, 1, 3)}
    epoch = await feed.epoch(connection)
    assert len(epoch) == 36
    assert await feed.epoch(connection) == epoch


async def test_plans_use_their_indexes(connection: asyncpg.Connection) -> None:
    """At a size where reading a table whole would hurt."""
    await connection.execute(
        """insert into public.real_time_notifications (id, user_id, type, title, message)
           select 'n' || n, 'user-' || n % 5000, 'user_message', '', '' from generate_series(1, 50000) n"""
    )
    await connection.execute("analyze")
    users = [f"user-{n}" for n in range(100)]
    values = (("$1", f"'{{{','.join(users)}}}'"), ("$2", "'{}'"), ("$3", "20"), ("$4", "'{}'"), ("$5", "1000000"))
    query = feed._CATCH_UP
    for name, value in values:
        query = query.replace(name, value)
    plan = await connection.fetch(f"explain (costs off) {query}")
    text = "\n".join(row[0] for row in plan)
    assert "Seq Scan on feed" not in text
    assert "Seq Scan on real_time_notifications" not in text
