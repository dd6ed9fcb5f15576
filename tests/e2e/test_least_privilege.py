"""A whole server as a role that only runs, on a database that another has migrated, and a program that may less."""

import asyncio
import json
import re
import signal
import urllib.parse
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import httpx
import pytest
from litestar import Litestar
from websockets.asyncio.client import connect

from jasaweb_rt import RealtimePlugin
from jasaweb_rt.config import load_settings
from jasaweb_rt.database.grants import RIGHTS
from jasaweb_rt.exceptions import MigrationError
from tests.support.live_sockets import connection_token, socket_of, socket_url
from tests.support.payments import KEY, midtrans_body
from tests.support.people import PASSWORD, bearer, insert_people
from tests.support.program import environment, program, run
from tests.support.sockets import WAIT_SECONDS, frame

DENIED = asyncpg.InsufficientPrivilegeError
DOCS = Path(__file__).parents[2] / "docs"
INSERT = """insert into public.real_time_notifications (id, user_id, type, title, message)
            values ($1, $2, 'user_message', 'Hello', 'World')"""


class Roles(NamedTuple):
    """URLs of one database, as three roles: none is a superuser."""

    owner: str
    runner: str
    writer: str
    """A foreign program."""


@pytest.fixture
async def roles(postgres_url: str, empty_database_url: str) -> AsyncIterator[Roles]:
    """A database that belongs to one role, and two more that may connect."""
    tag, password = uuid.uuid4().hex, "a-password-of-the-tests"
    names = [f"{kind}_{tag}" for kind in ("owner", "runner", "writer")]
    parts = urllib.parse.urlsplit(empty_database_url)
    server = await asyncpg.connect(postgres_url)
    for name in names:
        await server.execute(f"create role {name} login noinherit password '{password}'")
    await server.execute(f"alter database {parts.path[1:]} owner to {names[0]}")
    inside = await asyncpg.connect(empty_database_url)
    # As it is since PostgreSQL 15.
    await inside.execute("revoke create on schema public from public")
    await inside.execute(f"grant create on schema public to {names[0]}")
    await inside.close()
    place = parts.netloc.rpartition("@")[2]
    urls = [urllib.parse.urlunsplit(parts._replace(netloc=f"{name}:{password}@{place}")) for name in names]
    yield Roles(*urls)
    await server.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{parts.path[1:]}'")
    inside = await asyncpg.connect(empty_database_url)
    await inside.execute(f"drop owned by {', '.join(names)} cascade")
    await inside.close()
    await server.execute(f"alter database {parts.path[1:]} owner to current_user")
    await server.execute(f"drop role {', '.join(names)}")
    await server.close()


@asynccontextmanager
async def acting_as(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close(timeout=30)


async def migrated(tmp_path: Path, roles: Roles) -> asyncpg.Connection:
    """Migrates as the owner, which gives the other its rights; the people of the tests are in it. As the owner."""
    environ = environment(roles.runner, MIGRATE_URL=roles.owner)
    code, output = await run(tmp_path, environ, "migrate")
    assert code == 0, output
    assert "grant select (id, email, password, name, role) on public.users to runner_" in output
    code, again = await run(tmp_path, environ, "migrate")
    assert (code, "grant" in again) == (0, False), again
    owner = await asyncpg.connect(roles.owner)
    await insert_people(owner)
    await owner.execute(
        """
        update public.invoices set midtrans_order_id = 'order-' || id;
        insert into public.websocket_connections (id, user_id, connection_id, last_activity, status)
        values ('old', 'client', 'old-1', '2020-01-01', 'disconnected'), ('dead', 'client', 'dead-1', now(), 'active');
        insert into public.websocket_messages (id, connection_id, message_type, payload, sent_at)
        values ('old', 'old', 'user_message', '{}', '2020-01-01');
        insert into jasaweb_rt.nodes (node_id, renewed_at) values ('dead', '2020-01-01')
        """
    )
    return owner


async def holds(connection: asyncpg.Connection, query: str) -> None:
    """Waits until a query says true."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not await connection.fetchval(query):
            await asyncio.sleep(0.02)


async def test_a_server_does_all_its_work(tmp_path: Path, roles: Roles) -> None:
    owner = await migrated(tmp_path, roles)
    await owner.execute(f"grant insert on public.real_time_notifications to {role_name(roles.writer)}")
    environ = environment(roles.runner, MIDTRANS_SERVER_KEY=KEY)
    async with (
        program(tmp_path, environ, "serve") as server,
        httpx.AsyncClient(base_url=await server.url(), timeout=30) as http,
    ):
        # Whatever runs by itself: retention, the connections of a node that died, its own lease.
        await holds(owner, "select not exists (select from public.websocket_connections where id = 'old')")
        await holds(owner, "select status = 'timeout' from public.websocket_connections where id = 'dead'")
        await holds(owner, "select count(*) = 1 from jasaweb_rt.nodes")
        log_in = {"email": "client@jasaweb.test", "password": PASSWORD}
        answer = await http.post("/api/auth/login", json=log_in, headers={"Origin": str(http.base_url).rstrip("/")})
        assert answer.status_code == 200, answer.text
        http.cookies.clear()
        async with socket_of(http, "client") as socket:
            # A foreign program, a command, and the server's own services.
            async with acting_as(roles.writer) as writer:
                await writer.execute(INSERT, "foreign", "client")
            assert (await frame(socket))["id"] == "foreign"
            told = ("notify", "client", "--type", "user_message", "--title", "T", "--message", "M")
            code, output = await run(tmp_path, environ, *told)
            assert code == 0, output
            assert (await frame(socket))["data"]["title"] == "T"
            changed = await http.patch("/api/projects/p-client", json={"status": "review"}, headers=bearer("admin"))
            assert changed.status_code == 200
            assert (await frame(socket))["type"] == "project_update"
            message = {"toUserId": "admin", "subject": "S", "content": "C"}
            await socket.send(json.dumps({"type": "user_message", "data": message}))
            await socket.send(json.dumps({"type": "ack", "data": {"seq": 3}}))
            await socket.send(json.dumps({"type": "read", "data": {"ids": ["foreign"]}}))
            assert (await frame(socket))["data"]["ids"] == ["foreign"]
            connections = await http.get("/api/admin/websocket/connections", headers=bearer("admin"))
            assert connections.json()["total"] == 1
        assert (await http.post("/api/webhooks/midtrans", json=midtrans_body("settlement"))).status_code == 200
        by_hand = await http.patch("/api/invoices/i-client", json={"status": "paid"}, headers=bearer("admin"))
        assert by_hand.status_code == 200
        word = {"audience": "all", "type": "system_announcement", "title": "t", "message": "m"}
        assert (
            await http.post("/api/admin/websocket/broadcast", json=word, headers=bearer("admin"))
        ).status_code == 200
        for path in ("projects", "invoices", "notifications", "notifications?unread=true", "users", "auth/me"):
            for who in ("client", "admin"):
                assert (await http.get(f"/api/{path}", headers=bearer(who))).status_code == 200
        read = await http.post("/api/notifications/read", json={"upTo": 2}, headers=bearer("client"))
        assert read.status_code == 200
        # Resume, from the feed.
        url = f"{socket_url(http)}?last_seq=1&token={await connection_token(http, 'client')}"
        async with connect(url) as socket:
            assert [(await frame(socket)).get("seq") for _ in range(4)] == [None, None, 2, 3]
        # The log knows what was sent, and that it has arrived.
        await holds(
            owner,
            "select bool_and(delivered) and count(*) >= 3 from public.websocket_messages m"
            " join public.websocket_connections c on c.id = m.connection_id where c.status <> 'active'",
        )
        trace = await http.get("/api/admin/notifications/foreign/trace", headers=bearer("admin"))
        assert (trace.status_code, trace.json()["stage"]) == (200, "read")
        for command in (("trace", "foreign"), ("check",), ("migrate", "--check"), ("migrate",), ("token", "client")):
            code, output = await run(tmp_path, environ, *command)
            assert code == 0, output
        assert (await http.get("/readyz")).json()["success"] is True
        assert (await http.get("/metrics")).status_code == 200
        assert await server.end(signal.SIGTERM) == 0
    assert "permission denied" not in server.output
    await owner.close(timeout=30)


def role_name(url: str) -> str:
    return str(urllib.parse.urlsplit(url).username)


MAY_NOT = [
    "create table public.mine (x int)",
    "create schema mine",
    "create table jasaweb_rt.mine (x int)",
    "create function public.mine() returns int language sql as 'select 1'",
    "create function jasaweb_rt.mine() returns int language sql as 'select 1'",
    "create or replace function jasaweb_rt.wake_relay() returns void language sql as ''",
    "alter table public.users add column x int",
    "alter table public.real_time_notifications disable trigger jasaweb_rt_inserted",
    "alter table jasaweb_rt.counters drop column rev",
    "drop table public.websocket_messages",
    "drop table jasaweb_rt.outbox",
    "drop trigger jasaweb_rt_inserted on public.real_time_notifications",
    "drop schema jasaweb_rt cascade",
    "truncate public.real_time_notifications",
    "truncate jasaweb_rt.outbox",
    "set session_replication_role = replica",
    "select phone from public.users",
    "select * from public.users",
    "select credentials from public.projects",
    "select * from public.projects",
    "update public.users set role = 'admin'",
    "update public.users set password = ''",
    "delete from public.users",
    "insert into public.users (id, email, password, name) values ('x', 'x', 'x', 'x')",
    "update public.projects set user_id = 'client'",
    "delete from public.projects",
    "update public.invoices set amount = 0",
    "delete from public.invoices",
    "update public.real_time_notifications set user_id = 'client'",
    "update public.real_time_notifications set message = ''",
    "delete from public.real_time_notifications",
    "insert into jasaweb_rt.counters values ('x', 1, 1, 1)",
    "update jasaweb_rt.counters set unread = 0",
    "delete from jasaweb_rt.feed",
    "insert into jasaweb_rt.outbox (kind, user_id, seq) values ('notification', 'x', 1)",
    "update jasaweb_rt.epoch set epoch = 'x'",
    "delete from jasaweb_rt.migrations",
    "select jasaweb_rt.wake_relay()",
    "select pg_read_file('/etc/passwd')",
    "copy public.websocket_messages to program 'true'",
]


async def test_what_a_role_that_only_runs_may_not(tmp_path: Path, roles: Roles, subtests: pytest.Subtests) -> None:
    owner = await migrated(tmp_path, roles)
    async with acting_as(roles.runner) as runner:
        for statement in MAY_NOT:
            with subtests.test(statement), pytest.raises(DENIED):
                await runner.execute(statement)
    await owner.close(timeout=30)


async def test_who_may_only_insert_may_only_insert(tmp_path: Path, roles: Roles, subtests: pytest.Subtests) -> None:
    owner = await migrated(tmp_path, roles)
    await owner.execute(f"grant insert on public.real_time_notifications to {role_name(roles.writer)}")
    async with acting_as(roles.writer) as writer:
        await writer.execute(INSERT, "n", "client")
        await writer.executemany(INSERT, [(f"n-{n}", "client") for n in range(3)])
        for statement in (*MAY_NOT, "select * from public.real_time_notifications", "select * from jasaweb_rt.feed"):
            with subtests.test(statement), pytest.raises(DENIED):
                await writer.execute(statement)
    assert await owner.fetchval("select head_seq from jasaweb_rt.counters where user_id = 'client'") == 4
    await owner.close(timeout=30)


async def test_without_rights_a_server_says_how_to_give_them(tmp_path: Path, roles: Roles) -> None:
    for step in ("empty", "migrated"):
        code, output = await run(tmp_path, environment(roles.runner), "serve")
        assert (code, "Traceback" in output) == (1, False), output
        assert "JASAWEB_RT_MIGRATE_URL" in output
        assert "--grant-to" in output
        if step == "empty":
            code, output = await run(tmp_path, environment(roles.owner), "migrate")
            assert (code, "grant" in output) == (0, False), output
    code, output = await run(tmp_path, environment(roles.owner), "migrate", "--grant-to", "nobody of this name")
    assert (code, "CREATE ROLE" in output) == (1, True), output
    code, output = await run(tmp_path, environment(roles.owner), "migrate", "--grant-to", role_name(roles.runner))
    assert code == 0, output
    code, output = await run(tmp_path, environment(roles.runner), "migrate", "--check")
    assert code == 0, output


@pytest.mark.parametrize(
    ("revoked", "told"),
    [
        ("update on jasaweb_rt.nodes", "(update on jasaweb_rt.nodes)"),
        ("select (email) on public.users", "(select (id, email, password, name, role) on public.users)"),
        ("usage on schema jasaweb_rt", "permission denied for schema jasaweb_rt"),
        ("all on all tables in schema public", ", and 6 more)"),
    ],
)
async def test_a_server_that_lacks_some_rights_does_not_start(
    tmp_path: Path, roles: Roles, revoked: str, told: str
) -> None:
    owner, runner = await migrated(tmp_path, roles), role_name(roles.runner)
    await owner.execute(f"revoke {revoked} from {runner}, public")
    for command in (("serve",), ("migrate", "--check")):
        code, output = await run(tmp_path, environment(roles.runner), *command)
        assert (code, "Traceback" in output) == (1, False), output
        assert told in output
        assert "jasaweb-rt migrate --grant-to " in output
    settings = load_settings(environment(roles.runner), None, data_dir=tmp_path)
    denied = pytest.RaisesExc(MigrationError, match="jasaweb-rt migrate --grant-to ")
    with pytest.RaisesGroup(denied, flatten_subgroups=True):
        async with Litestar(plugins=[RealtimePlugin(settings)]).lifespan():
            pass
    code, output = await run(tmp_path, environment(roles.runner, MIGRATE_URL=roles.owner), "migrate")
    assert code == 0, output
    code, output = await run(tmp_path, environment(roles.runner), "migrate", "--check")
    assert code == 0, output
    await owner.close(timeout=30)


@pytest.mark.parametrize("kept", ["nothing", "select"])
async def test_rights_on_a_table_of_another_owner_are_told(
    tmp_path: Path, roles: Roles, empty_database_url: str, kept: str
) -> None:
    code, output = await run(tmp_path, environment(roles.owner), "migrate")
    assert code == 0, output
    async with acting_as(empty_database_url) as superuser:
        await superuser.execute("alter table public.invoices owner to current_user")
        if kept != "nothing":
            # Without the option to pass it on, GRANT gives a warning and succeeds.
            await superuser.execute(f"grant {kept} on public.invoices to {role_name(roles.owner)}")
        code, output = await run(tmp_path, environment(roles.owner), "migrate", "--grant-to", role_name(roles.runner))
        assert (code, "Traceback" in output) == (1, False), output
        assert re.search(r"have whoever owns it run: grant select \(.*\) on public.invoices to runner_", output)
        may = "select has_table_privilege($1, 'public.websocket_messages', 'select')"
        assert not await superuser.fetchval(may, role_name(roles.runner))


async def test_every_table_of_ours_has_its_rights_decided(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "select schemaname || '.' || tablename as name from pg_tables where schemaname in ('public', 'jasaweb_rt')"
    )
    assert {row["name"] for row in rows} == {right.table for right in RIGHTS}


def test_the_page_has_the_rights_as_they_are() -> None:
    written = re.findall(
        r"^grant (.*) on (\S+\.\S+) to jasaweb_rt_run;$", (DOCS / "security.md").read_text(), re.MULTILINE
    )
    columns = [f" ({', '.join(right.columns)})" if right.columns else "" for right in RIGHTS]
    assert written == [
        (f"{', '.join(right.privileges)}{of}", right.table) for right, of in zip(RIGHTS, columns, strict=True)
    ]
