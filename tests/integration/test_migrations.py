"""Migrations: applied once by any number of nodes, refused when they do not fit, and adopting what is there."""

import asyncio
import importlib.resources
import uuid
from pathlib import Path

import asyncpg
import pytest

from jasaweb_rt.database import migrations, notifications, outbox
from jasaweb_rt.database.migrations import load_migrations, migrate, pending
from jasaweb_rt.database.pool import connect
from jasaweb_rt.exceptions import ConfigurationError, DatabaseUnavailableError, MigrationError
from tests.support.databases import acting_as, add_role
from tests.support.ledger import outbox_size

NAMES = [migration.name for migration in load_migrations()]
PRISMA = Path(__file__).parent.parent / "data" / "prisma_reference.sql"


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def write(directory: Path, **files: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name, sql in files.items():
        (directory / f"{name.removeprefix('m')}.sql").write_text(sql)
    return directory


def test_the_package_has_the_migrations_of_the_repository() -> None:
    shipped = importlib.resources.files("jasaweb_rt") / "migrations"
    source = Path(__file__).parents[2] / "migrations"
    assert {file.name: file.read_bytes() for file in shipped.iterdir()} == {
        file.name: file.read_bytes() for file in source.iterdir()
    }
    assert NAMES[0] == "0001_site_tables"


async def test_applies_once(empty_database_url: str) -> None:
    assert await pending(empty_database_url) == NAMES
    assert await migrate(empty_database_url) == NAMES
    assert await pending(empty_database_url) == []
    assert await migrate(empty_database_url) == []


async def test_many_nodes_at_once(empty_database_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_database_url) for _ in range(8)))
    assert max(applied, key=len) == NAMES
    assert sum(map(len, applied)) == len(NAMES)


async def test_gives_up_waiting_for_another_that_migrates(empty_database_url: str) -> None:
    holder = await connect(empty_database_url)
    try:
        assert await outbox.try_lock(holder, migrations.MIGRATION_LOCK)
        with pytest.raises(MigrationError, match="Another process"):
            await migrate(empty_database_url, turn_seconds=0)
    finally:
        await holder.close()
    assert await migrate(empty_database_url) == NAMES


async def test_refuses_an_edited_file(empty_database_url: str, tmp_path: Path) -> None:
    directory = write(tmp_path / "m", m0001_one="select 1", m0002_two="select 2")
    await migrate(empty_database_url, directory=directory)
    write(directory, m0002_two="select 22", m0003_three="create table public.three ()")
    for call in (migrate, pending):
        with pytest.raises(MigrationError, match="0002_two was edited"):
            await call(empty_database_url, directory=directory)
    write(directory, m0002_two="select 2")
    assert await migrate(empty_database_url, directory=directory) == ["0003_three"]


async def test_line_ends_do_not_count(empty_database_url: str, tmp_path: Path) -> None:
    directory = write(tmp_path / "m", m0001_one="select\n1;\n")
    await migrate(empty_database_url, directory=directory)
    (directory / "0001_one.sql").write_bytes(b"select\r\n1;\r\n")
    assert await pending(empty_database_url, directory=directory) == []


async def test_refuses_a_database_from_the_future(empty_database_url: str, tmp_path: Path) -> None:
    directory = write(tmp_path / "m", m0001_one="select 1", m0002_two="select 2")
    await migrate(empty_database_url, directory=directory)
    (directory / "0002_two.sql").unlink()
    for call in (migrate, pending):
        with pytest.raises(MigrationError, match=r"newer than this version of jasaweb-rt.*0002_two"):
            await call(empty_database_url, directory=directory)


@pytest.mark.parametrize("names", [["0002_two"], ["0001_one", "0003_three"], ["0001_one", "0001_other"], ["first"]])
def test_refuses_bad_numbers(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / f"{name}.sql").write_text("select 1")
    with pytest.raises(MigrationError):
        load_migrations(tmp_path)


async def test_a_failed_file_leaves_nothing(empty_database_url: str, tmp_path: Path) -> None:
    directory = write(
        tmp_path / "m", m0001_one="create table public.one ()", m0002_two="create table public.two (); select 1 / 0"
    )
    with pytest.raises(MigrationError, match="0002_two was rolled back: division by zero"):
        await migrate(empty_database_url, directory=directory)
    assert await pending(empty_database_url, directory=directory) == ["0002_two"]
    connection = await connect(empty_database_url)
    assert await connection.fetchval(
        "select to_regclass('public.one') is not null and to_regclass('public.two') is null"
    )
    await connection.close()
    write(directory, m0002_two="create table public.two ()")
    assert await migrate(empty_database_url, directory=directory) == ["0002_two"]


async def test_outside_of_a_transaction(empty_database_url: str, tmp_path: Path) -> None:
    directory = write(
        tmp_path / "m",
        m0001_table="create table public.t (a int)",
        m0002_index="-- no-transaction\ncreate index concurrently if not exists t_a_idx on public.t (a)",
    )
    # Many at once: whoever waits for its turn must not hold a snapshot, or the index would wait for it.
    applied = await asyncio.gather(*(migrate(empty_database_url, directory=directory) for _ in range(4)))
    assert sum(map(len, applied)) == 2


async def test_does_not_stand_in_the_way_of_a_long_transaction(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write(tmp_path / "m", m0001_one="lock table public.busy in share row exclusive mode")
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT", "50ms")
    await run(empty_database_url, "create table public.busy (a int)")
    busy = await connect(empty_database_url)
    transaction = busy.transaction()
    await transaction.start()
    await busy.execute("insert into public.busy values (1)")
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "_LOCK_ATTEMPTS", 2)
        with pytest.raises(MigrationError, match=r"0001_one got no lock .* in 2 times 50ms"):
            await migrate(empty_database_url, directory=directory)
    monkeypatch.setattr(migrations, "_LOCK_ATTEMPTS", 100)
    attempt = asyncio.create_task(migrate(empty_database_url, directory=directory))
    await transaction.commit()
    assert await attempt == ["0001_one"]
    await busy.close()


async def test_refuses_an_old_postgres(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "OLDEST_POSTGRES", 99)
    with pytest.raises(MigrationError, match="PostgreSQL 99 or newer is needed"):
        await migrate(empty_database_url)


async def test_says_where_no_server_answers(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailableError, match=f"{tmp_path}/shop is not available") as caught:
        await migrate(f"postgresql://someone:hush@/shop?host={tmp_path}")
    assert "hush" not in str(caught.value)


async def test_says_that_the_database_is_missing(postgres_url: str, empty_database_url: str) -> None:
    missing = f"no_{uuid.uuid4().hex}"
    with pytest.raises(DatabaseUnavailableError, match=missing):
        await migrate(empty_database_url.replace(empty_database_url.split("/test_")[1].split("?")[0], missing))


async def test_a_prisma_url_is_understood(database_url: str) -> None:
    joint = "&" if "?" in database_url else "?"
    url = f"{database_url}{joint}schema=public&connection_limit=5&pool_timeout=3&pgbouncer=true&connect_timeout=9"
    assert await pending(url) == []
    with pytest.raises(ConfigurationError, match="schema 'other'"):
        await pending(f"{database_url}{joint}schema=other")
    with pytest.raises(ConfigurationError, match="must begin with postgresql://"):
        await pending("prisma+postgres://accelerate.example/?api_key=hush")


async def test_says_that_rights_are_missing(empty_database_url: str, postgres_url: str) -> None:
    async with add_role(empty_database_url) as role:
        joint = "&" if "?" in empty_database_url else "?"
        options = f"options=-c%20role%3D{role}"
        with pytest.raises(MigrationError, match="JASAWEB_RT_MIGRATE_URL"):
            await migrate(f"{empty_database_url}{joint}{options}")


async def test_says_that_a_role_that_only_runs_cannot_upgrade(empty_database_url: str, tmp_path: Path) -> None:
    directory = write(tmp_path / "m", m0001_one="select 1")
    await migrate(empty_database_url, directory=directory)
    write(directory, m0002_two="create table jasaweb_rt.two ()")
    rights = ("usage on schema jasaweb_rt", "select on jasaweb_rt.migrations")
    async with add_role(empty_database_url, *rights) as role:
        joint = "&" if "?" in empty_database_url else "?"
        with pytest.raises(MigrationError, match=r"permission denied .*JASAWEB_RT_MIGRATE_URL"):
            await migrate(f"{empty_database_url}{joint}options=-c%20role%3D{role}", directory=directory)
    assert await pending(empty_database_url, directory=directory) == ["0002_two"]


async def test_the_sites_tables_stay_as_they_are(empty_database_url: str) -> None:
    prisma = PRISMA.read_text()
    await run(
        empty_database_url,
        prisma,
        """alter table public.users add column nickname text; drop index public.users_role_idx""",
        """insert into public.users (id, email, password, name, nickname) values ('u', 'u@site', 'x', 'U', 'nick')""",
    )
    assert await migrate(empty_database_url) == NAMES
    connection = await connect(empty_database_url)
    assert await connection.fetchval("select nickname from public.users") == "nick"
    assert await connection.fetchval("select to_regclass('public.users_role_idx')") is None
    await connection.close()


async def test_a_foreign_search_path_does_not_matter(empty_database_url: str) -> None:
    name = empty_database_url.rsplit("/test_", 1)[1].split("?")[0]
    await run(
        empty_database_url,
        "create schema elsewhere",
        "create table elsewhere.users (other int)",
        "create table elsewhere.real_time_notifications (other int)",
        f'alter database "test_{name}" set search_path = elsewhere',
    )
    assert await migrate(empty_database_url) == NAMES
    connection = await connect(empty_database_url)
    assert await connection.fetchval("show search_path") == "elsewhere"
    new = notifications.NewNotification(user_id="u", type="admin_alert", title="t", message="m")
    await notifications.insert_many(connection, [new])
    assert (await notifications.mark_read_up_to(connection, "u", 1)) == (1, (1, 0, 2))
    assert [item.id for item in (await notifications.inbox(connection, "u")).items] == [new.id]
    assert len(await outbox.read_on(connection, 10)) == 2
    await connection.close()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            "alter table public.real_time_notifications alter column data type text",
            "column real_time_notifications.data is text where jsonb is expected",
        ),
        (
            "alter table public.real_time_notifications alter column user_id drop not null",
            "column real_time_notifications.user_id must be NOT NULL",
        ),
        (
            "alter table public.websocket_messages drop column payload",
            r"column websocket_messages.payload is missing \(expected: jsonb\)",
        ),
        (
            "alter table public.websocket_connections alter column connected_at type timestamptz(3)",
            r"column websocket_connections.connected_at is timestamp\(3\) with time zone",
        ),
        (
            "alter table public.real_time_notifications add column tenant text not null",
            "column real_time_notifications.tenant is unknown, NOT NULL and without a default",
        ),
        (
            "alter table public.real_time_notifications drop constraint real_time_notifications_pkey",
            r"table real_time_notifications needs the primary key \(id\)",
        ),
        (
            """alter type public."NotificationType" rename value 'admin_alert' to 'alert'""",
            """enum "NotificationType" lacks 'admin_alert'""",
        ),
        ("alter table public.users alter column name drop not null", "column users.name must be NOT NULL"),
        (
            """alter table public.users alter column role drop default, alter column role type text""",
            'column users.role is text where public."Role" is expected',
        ),
    ],
)
async def test_says_which_table_and_column_do_not_fit(empty_database_url: str, change: str, complaint: str) -> None:
    await run(empty_database_url, PRISMA.read_text(), change)
    with pytest.raises(MigrationError, match=f"0003_check_tables was rolled back: .*{complaint}"):
        await migrate(empty_database_url)


async def test_what_the_guide_leaves_open_is_filled_in(empty_database_url: str) -> None:
    await run(
        empty_database_url,
        PRISMA.read_text(),
        "drop index public.real_time_notifications_user_id_read_at_idx",
        "alter table public.websocket_messages drop constraint websocket_messages_connection_id_fkey",
        """alter type public."NotificationType" add value 'of_the_site'""",
        "alter table public.real_time_notifications add column remark text",
    )
    await migrate(empty_database_url)
    connection = await connect(empty_database_url)
    assert await connection.fetchval("select to_regclass('public.real_time_notifications_user_id_read_at_idx')")
    assert await connection.fetchval(
        "select count(*) from pg_constraint where conname = 'websocket_messages_connection_id_fkey'"
    )
    await connection.close()


async def test_old_rows_are_numbered_and_not_pushed(empty_database_url: str) -> None:
    await run(
        empty_database_url,
        PRISMA.read_text(),
        """
        insert into public.real_time_notifications (id, user_id, type, title, message, created_at, read_at) values
          ('c', 'anna', 'user_message', '', '', '2026-01-02 10:00', null),
          ('b', 'anna', 'user_message', '', '', '2026-01-02 10:00', '2026-01-03'),
          ('z', 'anna', 'user_message', '', '', '2026-01-01 10:00', null),
          ('a', 'budi', 'user_message', '', '', '2026-01-01 10:00', '2026-01-02')
        """,
    )
    await migrate(empty_database_url)
    connection = await connect(empty_database_url)
    assert [(n.seq, n.id) for n in (await notifications.inbox(connection, "anna")).items] == [
        (1, "z"),
        (2, "b"),
        (3, "c"),
    ]
    assert await notifications.get_counters(connection, "anna") == (3, 2, 1)
    assert await notifications.get_counters(connection, "budi") == (1, 0, 1)
    assert await outbox_size(connection) == 0
    new = notifications.NewNotification(user_id="budi", type="user_message", title="", message="")
    await notifications.insert_many(connection, [new])
    assert [row.seq for row in await outbox.read_on(connection, 10)] == [2]
    await connection.close()


async def test_no_insert_is_missed_while_rows_are_adopted(empty_database_url: str) -> None:
    await run(empty_database_url, PRISMA.read_text())
    insert = """insert into public.real_time_notifications (id, user_id, type, title, message)
                values ($1, 'anna', 'user_message', '', '')"""
    migrated, written = asyncio.Event(), 0

    async def writer(name: str) -> None:
        nonlocal written
        connection = await asyncpg.connect(empty_database_url)
        number = 0
        after_migration = 20
        while after_migration:
            after_migration -= migrated.is_set()
            await connection.execute(insert, f"{name}-{number}")
            number += 1
            written += 1
        await connection.close()

    async def nodes() -> None:
        while written < 40:
            await asyncio.sleep(0.001)
        await asyncio.gather(migrate(empty_database_url), migrate(empty_database_url))
        migrated.set()

    await asyncio.gather(*(writer(name) for name in "abcd"), nodes())
    connection = await connect(empty_database_url)
    assert (await notifications.get_counters(connection, "anna"))[:2] == (written, written)
    seqs = await connection.fetch("select seq from jasaweb_rt.feed order by seq")
    assert [row["seq"] for row in seqs] == list(range(1, written + 1))
    pushed = [row.seq for row in await outbox.read_on(connection, written)]
    assert pushed == list(range(written - len(pushed) + 1, written + 1))
    assert len(pushed) >= 80
    await connection.close()


async def test_public_has_no_rights_on_ours(database_url: str) -> None:
    connection = await connect(database_url)
    async with add_role(database_url) as role, acting_as(connection, role):
        for statement in (
            "select * from jasaweb_rt.counters",
            "delete from jasaweb_rt.outbox",
            "select jasaweb_rt.wake_relay()",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    await connection.close()


async def test_notices_that_the_table_was_made_anew(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    await run(empty_database_url, "alter table public.real_time_notifications disable trigger jasaweb_rt_updated")
    for call in (migrate, pending):
        with pytest.raises(MigrationError, match=r"lost its triggers \(jasaweb_rt_updated\)"):
            await call(empty_database_url)
    await run(
        empty_database_url,
        "create table public.anew (like public.real_time_notifications including all)",
        "drop table public.real_time_notifications",
        "alter table public.anew rename to real_time_notifications",
        """insert into public.real_time_notifications (id, user_id, type, title, message)
           values ('a', 'anna', 'user_message', '', '')""",
    )
    with pytest.raises(MigrationError, match="DROP SCHEMA jasaweb_rt CASCADE and migrate again"):
        await migrate(empty_database_url)
    await run(empty_database_url, "drop schema jasaweb_rt cascade")
    assert await migrate(empty_database_url) == NAMES
    connection = await connect(empty_database_url)
    assert await notifications.get_counters(connection, "anna") == (1, 1, 1)
    await connection.close()


async def test_notices_that_users_lost_their_triggers(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    await run(
        empty_database_url,
        "alter table public.users disable trigger jasaweb_rt_deleted",
        "drop trigger jasaweb_rt_changed on public.users",
    )
    for call in (migrate, pending):
        with pytest.raises(
            MigrationError, match=r"users has lost its triggers \(jasaweb_rt_changed, jasaweb_rt_deleted\)"
        ):
            await call(empty_database_url)
    again = next(migration.sql for migration in load_migrations() if migration.name == "0008_standing")
    await run(
        empty_database_url,
        "drop trigger jasaweb_rt_deleted on public.users",
        "drop trigger jasaweb_rt_truncated on public.users",
        again[again.index("create trigger") :],
    )
    assert await pending(empty_database_url) == []
