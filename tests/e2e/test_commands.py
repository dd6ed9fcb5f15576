"""Each command as a user calls it."""

import asyncio
import json
import re
import signal
from pathlib import Path

import asyncpg
import httpx
import jwt
import pytest

from tests.support.live_sockets import socket_of
from tests.support.people import bearer, insert_people
from tests.support.program import START_SECONDS, TOKEN_SECRET, Program, environment, names, program, run
from tests.support.sockets import frame
from tests.support.tcp_relay import tcp_relay


async def test_help_and_version(tmp_path: Path) -> None:
    code, output = await run(tmp_path, environment(), "--help")
    assert code == 0
    for command in ("serve", "migrate", "database-url", "token", "notify", "listen", "trace", "check", "bench"):
        assert command in output
    assert (await run(tmp_path, environment(), "--version"))[0] == 0
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["none"],
        ["serve", "--none"],
        ["serve", "--port", "70000"],
        ["token"],
        ["token", "u", "--role", "root"],
        ["token", "u", "--ttl", "0"],
        ["notify", "u", "--type", "none", "--title", "t", "--message", "m"],
        ["notify", "u", "--type", "user_message", "--title", "t", "--message", "m", "--data", "[1]"],
        ["notify", "u", "--type", "user_message", "--title", "t"],
        ["trace"],
        ["trace", "a", "b"],
        ["trace", "a", "--none"],
        ["check", "all"],
        ["listen"],
        ["listen", "--user", "u", "--token", "t"],
    ],
)
async def test_bad_usage_exits_with_2(tmp_path: Path, arguments: list[str]) -> None:
    code, output = await run(tmp_path, environment(), *arguments)
    assert code == 2
    assert "Traceback" not in output


@pytest.mark.parametrize("arguments", [["serve"], ["migrate"], ["database-url"], ["token", "u", "--role", "admin"]])
async def test_an_unknown_setting_is_an_error_of_every_command(tmp_path: Path, arguments: list[str]) -> None:
    code, output = await run(tmp_path, environment(PROT="1"), *arguments)
    assert code == 2
    assert output == "Error: JASAWEB_RT_PROT is not a setting; did you mean JASAWEB_RT_PORT?\n"


async def test_migrate_applies_once_and_check_says_what_is_missing(tmp_path: Path, empty_database_url: str) -> None:
    environ = environment(empty_database_url)
    code, output = await run(tmp_path, environ, "migrate", "--check")
    assert code == 1
    assert "missing 0001_site_tables" in output
    code, output = await run(tmp_path, environ, "migrate")
    assert code == 0
    assert "applied 0001_site_tables" in output
    for arguments in (["migrate"], ["migrate", "--check"]):
        code, output = await run(tmp_path, environ, *arguments)
        assert (code, "issing" in output) == (0, True)


async def test_an_edited_migration_is_refused(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("update jasaweb_rt.migrations set checksum = 'other' where version = 4")
    for arguments in (["migrate"], ["migrate", "--check"], ["serve"]):
        code, output = await run(tmp_path, environment(database_url), *arguments)
        assert code == 1
        assert "0004_feed" in output
        assert "Traceback" not in output


async def test_the_database_url_is_printed_as_it_is(tmp_path: Path, database_url: str) -> None:
    assert await run(tmp_path, environment(database_url), "database-url") == (0, database_url + "\n")
    code, output = await run(tmp_path, environment(), "database-url")
    assert code == 1
    assert "DATABASE_URL is not set and no embedded PostgreSQL runs in this folder" in output


async def test_a_token_needs_no_database_where_a_role_is_given(tmp_path: Path) -> None:
    code, output = await run(tmp_path, environment(), "token", "somebody", "--role", "admin", "--ttl", "60")
    assert code == 0
    claims = jwt.decode(output.strip(), TOKEN_SECRET, algorithms=["HS256"], audience="websocket")
    assert (claims["sub"], claims["role"], claims["exp"] - claims["iat"]) == ("somebody", "admin", 60)


async def test_a_token_takes_role_and_name_from_the_table(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await insert_people(connection)
    code, output = await run(tmp_path, environment(database_url), "token", "admin")
    assert code == 0
    claims = jwt.decode(output.strip(), TOKEN_SECRET, algorithms=["HS256"], audience="websocket")
    assert (claims["sub"], claims["role"], claims["name"]) == ("admin", "admin", "Admin")
    code, output = await run(tmp_path, environment(database_url), "token", "nobody")
    assert (code, "There is no user with the id 'nobody'" in output) == (1, True)


async def test_notify_reaches_listen(server: Program, tmp_path: Path, database_url: str) -> None:
    url = (await server.url()).replace("http", "ws") + "/ws"
    environ = environment(database_url)
    async with program(tmp_path, environ, "listen", "--user", "client", "--url", url) as listening:
        await listening.line('"type":"sync"')
        code, output = await run(
            tmp_path,
            environ,
            *("notify", "client", "--type", "user_message", "--title", "Hello", "--message", "It works"),
            *("--data", '{"priority": "high"}'),
        )
        assert code == 0
        told = json.loads((await listening.line('.*"user_message".*'))[0])
        assert told["id"] == output.strip()
        assert told["data"] == {"title": "Hello", "message": "It works", "priority": "high"}
        assert await listening.end(signal.SIGINT) == 0
    code, output = await run(
        tmp_path, environ, "notify", "nobody", "--type", "user_message", "--title", "t", "--message", "m"
    )
    assert (code, "There is no user" in output) == (1, True)


async def test_listen_goes_on_after_a_long_break(
    server: Program, tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    async with tcp_relay("127.0.0.1", int((await server.url()).rsplit(":", 1)[1])) as relay:
        url = f"ws://127.0.0.1:{relay.port}/ws"
        async with program(
            tmp_path, environment(database_url), "listen", "--user", "client", "--url", url
        ) as listening:
            await listening.line('"type":"sync"')
            await relay.cut()
            await connection.execute(
                """
                insert into public.real_time_notifications (id, user_id, type, title, message)
                select 'n' || i, 'client', 'user_message', '', '' from generate_series(1, 700) as i order by i
                """
            )
            await relay.start()
            await listening.line('"seq":700,', 60)
            told = [json.loads(line) for line in listening.output.splitlines() if line.startswith("{")]
            assert [frame["id"] for frame in told if "seq" in frame] == [f"n{number}" for number in range(1, 701)]
            assert await listening.end(signal.SIGINT) == 0


async def test_listen_with_a_token_that_is_refused_ends(server: Program, tmp_path: Path) -> None:
    url = (await server.url()).replace("http", "ws") + "/ws"
    code, output = await run(tmp_path, environment(), "listen", "--token", "nonsense", "--url", url)
    assert code == 1
    assert "1008 Invalid authentication" in output
    assert "Traceback" not in output


async def test_trace_tells_the_story_of_a_notification(tmp_path: Path) -> None:
    """On the embedded database of a server that runs in the same folder."""
    environ = environment()
    async with program(tmp_path, environ, "serve", "--demo") as server:
        async with (
            httpx.AsyncClient(base_url=await server.url(), timeout=10) as http,
            socket_of(http, "demo-client") as socket,
        ):
            message = ("--type", "user_message", "--title", "Odd \x1b[31m title", "--message", "m")
            code, output = await run(tmp_path, environ, "notify", "demo-client", *message)
            notification_id = output.strip()
            assert (code, (await frame(socket))["id"]) == (0, notification_id)
            route = f"/api/admin/notifications/{notification_id}/trace"
            async with asyncio.timeout(START_SECONDS):
                while (told := (await http.get(route, headers=bearer("demo-admin"))).json())["stage"] != "delivered":
                    await asyncio.sleep(0.05)
            code, output = await run(tmp_path, environ, "trace", notification_id, "--json")
            assert (code, json.loads(output)) == (0, told)
        code, output = await run(tmp_path, environ, "trace", notification_id)
        assert code == 0
        assert await server.end(signal.SIGTERM) == 0
    [to] = told["connections"]["items"]
    lines = {line[:14].strip(): line[14:] for line in output.splitlines()}
    assert lines["notification"] == (
        f'{notification_id}, user_message "Odd \N{REPLACEMENT CHARACTER}[31m title" for the user demo-client'
    )
    assert lines["created"] == told["notification"]["createdAt"]
    assert lines["committed"] == f"{told['committedAt']}, as number {told['seq']} of this user"
    assert lines["relayed"] == "yes"
    assert lines["sent"] == "to 1 connection, known to have arrived on 1"
    assert lines[""].startswith(f"{to['sentAt']} to {to['connectionId']} from 127.0.0.1 (")
    assert lines[""].endswith(f"): arrived by {to['deliveredBefore']}")
    assert lines["read"] == "not yet"


async def test_trace_says_why_nothing_was_sent(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await insert_people(connection)
    insert = """insert into public.real_time_notifications (id, user_id, type, title, message)
                values ($1, 'client', 'user_message', 't', 'm')"""
    async with connection.transaction():
        await connection.execute("set local session_replication_role = 'replica'")
        await connection.execute(insert, "unnumbered")
    await connection.execute(insert, "waiting")
    environ = environment(database_url)
    code, output = await run(tmp_path, environ, "trace", "waiting")
    assert (code, "no server relays; start `jasaweb-rt serve` on this database" in output) == (0, True)
    assert re.search("^sent +not yet$", output, re.MULTILINE)
    code, output = await run(tmp_path, environ, "trace", "unnumbered")
    assert (code, "written past the triggers" in output, "no, and it will not be" in output) == (0, True, True)
    assert "to no connection, by a log that is some two seconds behind; it is kept for 30 days" in output
    code, output = await run(tmp_path, environ | {"JASAWEB_RT_MESSAGE_LOG": "off"}, "trace", "waiting")
    assert (code, "not known: JASAWEB_RT_MESSAGE_LOG is off" in output) == (0, True)
    code, output = await run(tmp_path, environ, "trace", "none")
    assert code == 1
    assert output == (
        "Error: There is no notification with the id 'none': it was deleted, is not committed yet or never was; "
        "see the table real_time_notifications.\n"
    )
