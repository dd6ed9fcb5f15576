"""What changes with a user, or is ended by a log-out, reaches the sockets that are open: nobody has to come anew."""

import contextlib
import json
import threading
import time
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest
from websockets.exceptions import ConnectionClosed

from jasaweb_rt import standing
from jasaweb_rt._core import ConnectionInfo, OverloadedError
from jasaweb_rt.database import sessions
from jasaweb_rt.database.pool import connect
from jasaweb_rt.database.sessions import Standing
from jasaweb_rt.gateway import Gateway
from tests.support.databases import acting_as, add_role
from tests.support.sockets import closed, frame, opened, until
from tests.support.tokens import SECRET, connection_token

A, B = "00000000000000aa", "00000000000000bb"
GONE, ENDED = (1008, "Invalid authentication"), (4001, "Session expired")
LATER = int(time.time()) + 86_400


@pytest.fixture(autouse=True)
async def listens(gateway: Gateway) -> None:
    await until(lambda: gateway.is_relay_ready)


@pytest.fixture
async def unheard(connection: asyncpg.Connection) -> None:
    """Nobody is told of changes."""
    await connection.execute("alter table public.users disable trigger user")


def acting(gateway: Gateway) -> dict[str, str]:
    """Users who are connected, and the roles in which they act."""
    return {one.user_id: one.role for one in connections_of(gateway)}


def connections_of(gateway: Gateway) -> Sequence[ConnectionInfo]:
    try:
        return gateway.server.connections()
    except OverloadedError:  # its thread was stopped for some seconds
        return ()


async def set_role(connection: asyncpg.Connection, user_id: str, role: str) -> None:
    await connection.execute('update public.users set role = $2::text::public."Role" where id = $1', user_id, role)


async def test_another_role_is_another_audience_on_the_same_socket(
    gateway: Gateway, connection: asyncpg.Connection
) -> None:
    async with opened(gateway.server, "anna") as anna, opened(gateway.server, "budi") as budi:
        await frame(anna), await frame(budi)
        await set_role(connection, "anna", "admin")
        await until(lambda: acting(gateway) == {"anna": "admin", "budi": "client"})
        assert gateway.server.broadcast_to_admins('{"to":"admins"}') == 1
        assert gateway.server.broadcast_to_clients('{"to":"clients"}') == 1
        assert await frame(anna) == {"to": "admins"}
        assert await frame(budi) == {"to": "clients"}
        await set_role(connection, "anna", "client")
        await until(lambda: acting(gateway) == {"anna": "client", "budi": "client"})
        assert gateway.server.broadcast_to_admins('{"to":"admins"}') == 0
        gateway.server.broadcast_to_clients('{"to":"clients"}')
        assert await frame(anna) == {"to": "clients"}


async def test_the_site_may_change_the_type_of_a_role(gateway: Gateway, connection: asyncpg.Connection) -> None:
    async with opened(gateway.server, "anna") as anna:
        await frame(anna)
        # As Prisma writes it where a label is removed; the same session has set off the trigger before, and does again.
        await set_role(connection, "anna", "admin")
        await until(lambda: acting(gateway) == {"anna": "admin"})
        await connection.execute(
            """
            begin;
            create type public."Role_new" as enum ('admin', 'client', 'guest');
            alter table public.users alter column role drop default;
            alter table public.users alter column role type public."Role_new" using (role::text::public."Role_new");
            alter type public."Role" rename to "Role_old";
            alter type public."Role_new" rename to "Role";
            drop type public."Role_old";
            alter table public.users alter column role set default 'client';
            commit;
            """
        )
        await connection.execute("update public.users set name = 'Anna' where id = 'anna'")
        await set_role(connection, "anna", "client")
        await until(lambda: acting(gateway) == {"anna": "client"})


async def test_what_a_client_may_send_goes_by_the_role_of_now(gateway: Gateway, connection: asyncpg.Connection) -> None:
    alert = {"type": "admin_alert", "data": {"event": "e", "message": "m"}, "timestamp": "", "id": "r"}
    async with opened(gateway.server, "citra", "admin") as citra, opened(gateway.server, "anna") as anna:
        await frame(citra), await frame(anna)
        await set_role(connection, "citra", "client")
        await citra.send(json.dumps(alert))
        assert (await frame(citra))["data"]["code"] == "forbidden"
        await set_role(connection, "anna", "admin")
        await anna.send(json.dumps(alert))
        assert (await frame(anna))["type"] == "admin_alert"


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("delete from public.users where id = 'anna'", {"budi"}),
        ("update public.users set id = 'anna-2' where id = 'anna'", {"budi"}),
        ("delete from public.users where role = 'client'", set()),
        ("truncate public.users cascade", set()),
    ],
)
async def test_who_is_gone_is_closed_and_nobody_else(
    gateway: Gateway, connection: asyncpg.Connection, statement: str, left: set[str]
) -> None:
    async with opened(gateway.server, "anna") as anna, opened(gateway.server, "budi") as budi:
        await frame(anna), await frame(budi)
        await connection.execute(statement)
        assert await closed(anna) == GONE
        await until(lambda: set(acting(gateway)) == left)
        if left:
            gateway.server.broadcast_to_user("budi", '{"still":"here"}')
            assert await frame(budi) == {"still": "here"}


async def test_what_is_rolled_back_or_is_none_of_our_business_changes_nothing(
    gateway: Gateway, connection: asyncpg.Connection, database_url: str
) -> None:
    heard: list[str] = []
    listener = await connect(database_url)
    await listener.add_listener(sessions.CHANNEL, lambda *args: heard.append(str(args[-1])))
    async with opened(gateway.server, "anna") as anna:
        await frame(anna)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("delete from public.users where id = 'anna'")
        await transaction.rollback()
        await connection.execute("update public.users set name = 'Another', role = role")
        await set_role(connection, "budi", "admin")
        await until(lambda: bool(heard))
        assert heard == ["budi"]
        await gateway.compare()
        gateway.server.broadcast_to_user("anna", '{"still":"here"}')
        assert await frame(anna) == {"still": "here"}
    await listener.close(timeout=20)


async def test_a_program_with_rights_on_the_table_alone_is_heard(
    gateway: Gateway, connection: asyncpg.Connection, database_url: str
) -> None:
    grants = ("usage on schema public", "select, update, delete on public.users")
    async with opened(gateway.server, "anna") as anna, add_role(database_url, *grants) as role:
        await frame(anna)
        async with acting_as(connection, role):
            await connection.execute("set search_path = pg_temp")
            await set_role(connection, "anna", "admin")
            await until(lambda: acting(gateway) == {"anna": "admin"})
            await connection.execute("delete from public.users where id = 'anna'")
        assert await closed(anna) == GONE


async def test_an_id_beyond_what_a_payload_holds_does_not_fail_its_writer(
    gateway: Gateway, connection: asyncpg.Connection
) -> None:
    long = "x" * 4100  # an index holds it, since it can be compressed
    await connection.execute(
        "insert into public.users (id, email, password, name) values ($1, 'long@jasaweb.test', '', 'Long')", long
    )
    token = connection_token("x", sub=long)
    async with opened(gateway.server, "x", token=token) as socket:
        await frame(socket)
        await set_role(connection, long, "admin")
        await until(lambda: acting(gateway) == {long: "admin"})
        await sessions.end(connection, long, A, LATER)
        await connection.execute("delete from public.users where id = $1", long)
        assert await closed(socket) == GONE


async def test_a_session_that_is_ended_takes_its_sockets_along_and_no_others(
    gateway: Gateway, connection: asyncpg.Connection
) -> None:
    async with (
        opened(gateway.server, "anna", token=connection_token("anna", sid=A)) as first,
        opened(gateway.server, "anna", token=connection_token("anna", sid=A)) as second,
        opened(gateway.server, "anna", token=connection_token("anna", sid=B)) as other,
        opened(gateway.server, "anna") as nameless,
        opened(gateway.server, "budi", token=connection_token("budi", sid=A)) as budi,
    ):
        await sessions.end(connection, "anna", A, LATER)
        assert await closed(first) == await closed(second) == ENDED
        await gateway.compare()
        for socket in (other, nameless, budi):
            assert (await frame(socket))["type"] == "sync"
        assert gateway.server.broadcast_to_all("{}") == 3


async def test_a_token_that_was_issued_before_the_log_out_opens_nothing(
    gateway: Gateway, connection: asyncpg.Connection
) -> None:
    await sessions.end(connection, "anna", A, LATER)
    async with opened(gateway.server, "anna", token=connection_token("anna", sid=A)) as socket:
        assert await closed(socket) == ENDED


@pytest.mark.usefixtures("unheard")
async def test_what_nobody_was_told_of_is_found_by_comparison(gateway: Gateway, connection: asyncpg.Connection) -> None:
    async with (
        opened(gateway.server, "anna") as anna,
        opened(gateway.server, "budi", token=connection_token("budi", sid=A)) as budi,
        opened(gateway.server, "citra", "admin") as citra,
    ):
        await frame(anna), await frame(budi), await frame(citra)
        await connection.execute("delete from public.users where id = 'anna'")
        await connection.execute("insert into jasaweb_rt.ended_sessions values ('budi', $1, now() + '1 day')", A)
        await set_role(connection, "citra", "client")
        await gateway.compare()
        assert (await closed(anna), await closed(budi)) == (GONE, ENDED)
        await until(lambda: acting(gateway) == {"citra": "client"})


@pytest.mark.usefixtures("unheard")
async def test_everybody_is_looked_at_when_listening_begins_anew(
    gateway: Gateway, connection: asyncpg.Connection
) -> None:
    async with opened(gateway.server, "anna") as anna:
        await frame(anna)
        await connection.execute("delete from public.users where id = 'anna'")
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'jasaweb-rt relay' and datname = current_database()"
        )
        assert await closed(anna) == GONE


async def test_more_hints_than_are_kept_are_one_for_everybody(
    gateway: Gateway, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "_MANY", 2)
    await connection.execute(
        """insert into public.users (id, email, password, name)
           select 'user-' || n, n || '@jasaweb.test', '', '' from generate_series(1, 5000) n"""
    )
    async with opened(gateway.server, "user-4321") as socket:
        await frame(socket)
        await connection.execute("delete from public.users where id like 'user-%'")
        assert await closed(socket) == GONE


async def test_an_answer_that_was_read_before_the_change_is_read_again(
    gateway: Gateway,
    connection: asyncpg.Connection,
    slow_answers: tuple[threading.Event, threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, go_on = slow_answers
    looked: list[str] = []
    standings = sessions.standings

    async def noted(on: asyncpg.Connection, user_ids: Sequence[str]) -> dict[str, Standing]:
        found = await standings(on, user_ids)
        looked.extend(found)
        return found

    monkeypatch.setattr(sessions, "standings", noted)
    async with opened(gateway.server, "anna") as anna:
        await until(read.is_set)
        await set_role(connection, "anna", "admin")
        await until(lambda: "anna" in looked)
        go_on.set()
        assert (await frame(anna))["type"] == "sync"
        assert acting(gateway) == {"anna": "admin"}
        assert gateway.server.broadcast_to_admins('{"to":"admins"}') == 1
        assert await frame(anna) == {"to": "admins"}


async def refresh(socket: Any, token: str) -> None:
    await socket.send(json.dumps({"type": "refresh", "data": {"token": token}, "timestamp": "", "id": "r"}))


@pytest.mark.parametrize(
    ("claims", "secret"),
    [
        ({"sub": "budi"}, SECRET),
        ({}, "another key that is long enough, too"),
        ({"exp": 1}, SECRET),
        ({"session_exp": 1}, SECRET),
        ({"sid": B}, SECRET),
        ({"sid": "b"}, SECRET),
        ({"aud": None, "id": "anna"}, SECRET),
    ],
    ids=["another's", "forged", "expired", "of a session that is over", "of an ended one", "odd", "a session's own"],
)
async def test_a_token_that_is_of_no_use_renews_nothing(
    gateway: Gateway, connection: asyncpg.Connection, claims: dict[str, Any], secret: str
) -> None:
    await sessions.end(connection, "anna", B, LATER)
    async with opened(gateway.server, "anna", token=connection_token("anna", sid=A)) as socket:
        await frame(socket)
        await refresh(socket, connection_token("anna", secret=secret, **{"sid": "00000000000000cc", **claims}))
        refused = await frame(socket)
        assert (refused["type"], refused["data"]["code"]) == ("error", "invalid_token")
        # It stands for the session that it stood for.
        await sessions.end(connection, "anna", A, LATER)
        assert await closed(socket) == ENDED


async def test_a_refresh_renews_session_and_role(gateway: Gateway, connection: asyncpg.Connection) -> None:
    await connection.execute("alter table public.users disable trigger user")
    async with opened(gateway.server, "anna", token=connection_token("anna", sid=A)) as socket:
        await frame(socket)
        await set_role(connection, "anna", "admin")
        await refresh(socket, connection_token("anna", sid=B))
        # That it was taken shows by the role, which is looked up anew.
        await until(lambda: acting(gateway) == {"anna": "admin"})
        await sessions.end(connection, "anna", A, LATER)
        await gateway.compare()
        gateway.server.broadcast_to_admins('{"still":"here"}')
        assert await frame(socket) == {"still": "here"}
        await sessions.end(connection, "anna", B, LATER)
        assert await closed(socket) == ENDED


async def test_a_refresh_moves_the_end(gateway: Gateway) -> None:
    async with opened(gateway.server, "anna", token=connection_token("anna", session_exp=LATER)) as socket:
        await frame(socket)
        with contextlib.suppress(ConnectionClosed):
            while True:
                # Refused where the machine has stood still until that moment.
                await refresh(socket, connection_token("anna", session_exp=int(time.time()) + 2))
                assert (await frame(socket))["data"]["code"] == "invalid_token"
        assert (socket.close_code, socket.close_reason) == ENDED
