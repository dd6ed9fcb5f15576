"""Traces where something happened to the database before: adopted tables, restored ones, no commit times."""

import asyncio
from pathlib import Path

import asyncpg

from jasaweb_rt.database import message_log, traces
from jasaweb_rt.database.embedded import EmbeddedPostgres
from jasaweb_rt.database.migrations import migrate
from jasaweb_rt.database.pool import connect
from tests.support.databases import add_users

PRISMA = Path(__file__).parent.parent / "data" / "prisma_reference.sql"
INSERT = """insert into public.real_time_notifications (id, user_id, type, title, message)
            values ($1, 'anna', 'user_message', 'Title', 'Message')"""


async def test_what_was_there_before_the_numbering_is_told_apart(empty_database_url: str) -> None:
    connection = await connect(empty_database_url)
    try:
        await connection.execute(PRISMA.read_text())
        await add_users(connection, ("anna", "client"))
        await connection.execute(INSERT, "before")
        await migrate(empty_database_url)
        await connection.execute(INSERT, "after")
        before, after = [await traces.find(connection, one, 10) for one in ("before", "after")]
    finally:
        await connection.close(timeout=20)
    assert before is not None
    assert after is not None
    assert (before.numbered, before.seq, before.committed_at, before.waiting) == ("by_migration", 1, None, None)
    assert (after.numbered, after.seq, after.waiting and after.waiting.ahead) == ("on_insert", 2, 0)


async def test_the_moment_of_a_restore_is_not_taken_for_that_of_a_commit(connection: asyncpg.Connection) -> None:
    await add_users(connection, ("anna", "client"))
    await connection.execute(INSERT, "n")
    # What a restore does, table by table and in the order of their names: the same rows, written by transactions of
    # its own.
    for table in ("feed", "migrations"):
        await connection.execute(
            f"create temporary table copy as table jasaweb_rt.{table}; delete from jasaweb_rt.{table};"
            f"insert into jasaweb_rt.{table} table copy; drop table copy"
        )
    found = await traces.find(connection, "n", 10)
    assert found is not None
    assert (found.seq, found.numbered, found.committed_at) == (1, "on_insert", None)


async def test_without_commit_times_none_is_made_up(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, settings={"track_commit_timestamp": "off", "fsync": "off"})
    url = await asyncio.to_thread(server.start)
    try:
        await server.wait_ready()
        await migrate(url)
        connection = await connect(url)
        await add_users(connection, ("anna", "client"))
        await connection.execute(INSERT, "n")
        found = await traces.find(connection, "n", 10)
        await connection.close(timeout=20)
    finally:
        await asyncio.to_thread(server.stop)
    assert found is not None
    assert (found.seq, found.committed_at, found.waiting is not None) == (1, None, True)


async def test_plans_use_their_indexes(connection: asyncpg.Connection) -> None:
    """At a size where reading a table whole would hurt; the outbox is short, or else it is the trouble."""
    await connection.execute(
        f"""
        insert into public.users (id, email, password, name)
        select 'user-' || n, n, '', '' from generate_series(0, 999) n;
        insert into public.real_time_notifications (id, user_id, type, title, message)
        select 'n' || n, 'user-' || n % 1000, 'user_message', '', '' from generate_series(1, 30000) n;
        insert into public.websocket_connections (id, user_id, connection_id)
        select 'row-' || n, 'user-' || n % 1000, 'node-' || n from generate_series(1, 5000) n;
        insert into public.websocket_messages (id, connection_id, message_type, payload)
        select {message_log.MESSAGE_ID.format(seq="f.seq")}, c.id, 'user_message',
               jsonb_build_object('id', f.notification_id)
        from public.websocket_connections c join jasaweb_rt.feed f using (user_id) where f.seq <= 10;
        delete from jasaweb_rt.outbox;
        """
    )
    await connection.execute("analyze")
    found = await traces.find(connection, "n7001", 10)
    assert found is not None
    assert (found.user_id, found.seq, found.sent_total) == ("user-1", 8, 5)
    statements = (
        traces._FIND.replace("$1", "'n7001'"),
        traces._SENT_TO.replace("$1", "'user-1'").replace("$2", "8").replace("$3", "'n7001'").replace("$4", "500"),
    )
    text = "\n".join([row[0] for one in statements for row in await connection.fetch("explain (costs off) " + one)])
    for table in ("real_time_notifications", "feed", "websocket_connections", "websocket_messages"):
        assert f" on {table}" in text
        assert f"Seq Scan on {table}" not in text
