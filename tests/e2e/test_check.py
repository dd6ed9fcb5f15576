"""`jasaweb-rt check` as an operator calls it: what it says, and by what it exits."""

from pathlib import Path

import asyncpg

from tests.support.databases import add_role
from tests.support.ledger import INSERT, check_ledger
from tests.support.program import environment, run

CLEAN = "Nothing is wrong: {} notifications, {} counters.\n"


async def test_what_is_wrong_is_said_and_mended(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    environ = environment(database_url)
    for number in range(1, 4):
        await connection.execute(INSERT, f"n{number}", "anna")
    assert await run(tmp_path, environ, "check") == (0, CLEAN.format(3, 1))
    assert await run(tmp_path, environ, "check", "--mend") == (0, CLEAN.format(3, 1))
    await connection.execute("set session_replication_role = replica")
    for number in range(1, 7):
        await connection.execute(INSERT, f"late{number}", "bu\x1bdi")
    await connection.execute("delete from public.real_time_notifications where id = 'n1'")
    wrong = """1 user without a counter
    bu\N{REPLACEMENT CHARACTER}di: 6 unread, the feed goes up to 0
1 wrong unread count
    anna: 3 by the counter, 2 by the notifications
6 notifications without a number
    bu\N{REPLACEMENT CHARACTER}di: late1
    bu\N{REPLACEMENT CHARACTER}di: late2
    bu\N{REPLACEMENT CHARACTER}di: late3
    bu\N{REPLACEMENT CHARACTER}di: late4
    bu\N{REPLACEMENT CHARACTER}di: late5
1 place in the feed that must not be
    anna: 1, of n1, which this user does not have
"""
    assert await run(tmp_path, environ, "check") == (1, wrong)
    mended = (
        "Mended: 2 counters corrected or made, 1 places removed, 6 notifications numbered and pushed, "
        "0 rows of the outbox removed.\n"
    )
    assert await run(tmp_path, environ, "check", "--mend") == (0, wrong + mended + CLEAN.format(8, 2))
    await check_ledger(connection)


async def test_what_cannot_be_mended_now_stays_wrong(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute(INSERT, "n1", "anna")
    await connection.execute("update jasaweb_rt.counters set unread = 9")
    async with connection.transaction():
        await connection.execute("select from jasaweb_rt.counters for update")
        code, output = await run(tmp_path, environment(database_url), "check", "--mend")
    assert code == 1
    assert "somebody keeps a lock on anna; it is left as it is" in output
    assert "Mended: 0 counters" in output
    code, output = await run(tmp_path, environment(database_url), "check", "--mend")
    assert (code, "Mended: 1 counters" in output) == (0, True)
    await check_ledger(connection)


async def test_what_cannot_be_found_out_exits_with_2(
    tmp_path: Path, database_url: str, empty_database_url: str, connection: asyncpg.Connection
) -> None:
    async def refused(url: str | None) -> str:
        code, output = await run(tmp_path, environment(url), "check")
        assert code == 2
        assert "Traceback" not in output
        return output

    assert "no embedded PostgreSQL runs in this folder" in await refused(None)
    assert "run `jasaweb-rt migrate` first" in await refused(empty_database_url)
    assert "is not available" in await refused("postgresql://127.0.0.1:1/none")
    async with add_role(database_url, "usage on schema jasaweb_rt", "select on jasaweb_rt.migrations") as role:
        as_role = f"{database_url}{'&' if '?' in database_url else '?'}role={role}"
        assert "check as the role that migrates (JASAWEB_RT_MIGRATE_URL)" in await refused(as_role)
    async with connection.transaction():
        await connection.execute("lock table jasaweb_rt.feed in access exclusive mode")
        assert "end what holds the table, then try again" in await refused(database_url)
    await connection.execute("alter table public.real_time_notifications disable trigger jasaweb_rt_inserted")
    assert "jasaweb-rt check --mend" in await refused(database_url)
