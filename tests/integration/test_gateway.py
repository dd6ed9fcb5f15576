"""From a commit to a socket: any program's INSERT is pushed, in order, once, and found again after an absence."""

import asyncio
from typing import get_args

import asyncpg
import msgspec
import pytest

from jasaweb_rt.config import Settings
from jasaweb_rt.exceptions import ConfigurationError, DatabaseUnavailableError
from jasaweb_rt.gateway import Gateway
from jasaweb_rt.messages import Envelope
from jasaweb_rt.probe_watch import ProbeWatch
from jasaweb_rt.realtime import NewNotification, NotificationType
from tests.support.databases import add_users
from tests.support.sockets import closed, frame, frames, opened, opened_many, until

INSERT = """insert into public.real_time_notifications (id, user_id, type, title, message, data)
            select $1 || n, $2, 'project_update', 'Title ' || n, 'Message', '{"projectId": "p"}'
            from generate_series($3::int, $4::int) n order by n"""


async def insert(connection: asyncpg.Connection, user_id: str, first: int, last: int) -> None:
    await connection.execute(INSERT, f"{user_id}-", user_id, first, last)


async def test_a_commit_is_a_push(gateway: Gateway, connection: asyncpg.Connection) -> None:
    async with opened(gateway.server, "anna") as socket:
        sync = await frame(socket)
        assert sync["type"] == "sync"
        assert sync["data"] | {"epoch": ""} == {"epoch": "", "headSeq": 0, "unread": 0, "rev": 0, "resumedFrom": None}
        await insert(connection, "anna", 1, 1)
        pushed = await frame(socket)
    assert {key: pushed[key] for key in ("type", "id", "seq", "unread")} == {
        "type": "project_update",
        "id": "anna-1",
        "seq": 1,
        "unread": 1,
    }
    assert pushed["data"] == {"projectId": "p", "title": "Title 1", "message": "Message"}


async def test_a_rollback_is_none(gateway: Gateway, connection: asyncpg.Connection) -> None:
    async with opened(gateway.server, "anna") as socket:
        await frame(socket)
        transaction = connection.transaction()
        await transaction.start()
        await insert(connection, "anna", 1, 3)
        await transaction.rollback()
        await insert(connection, "anna", 9, 9)
        assert (await frame(socket))["id"] == "anna-9"


async def test_notify_is_part_of_the_callers_transaction(gateway: Gateway, connection: asyncpg.Connection) -> None:
    realtime = gateway.realtime
    async with opened(gateway.server, "anna") as anna, opened(gateway.server, "citra", "admin") as citra:
        await frame(anna), await frame(citra)
        async with connection.transaction():
            first = await realtime.notify(
                "anna", "user_message", title="One", message="1", data={"content": "x"}, connection=connection
            )
            assert await realtime.notify_many([], connection) == []
            many = [NewNotification(user_id="anna", type="admin_alert", title="Two", message="2")]
            await realtime.notify_many(many, connection)
            await realtime.notify_role("admin", "admin_alert", title="Three", message="3", connection=connection)
        one, two = await frames(anna, 2)
        assert (one["id"], one["seq"], one["data"]["content"]) == (first, 1, "x")
        assert (two["seq"], two["data"]) == (2, {"title": "Two", "message": "2"})
        assert (await frame(citra))["data"]["title"] == "Three"


async def test_nobody_gets_anothers(gateway: Gateway, connection: asyncpg.Connection) -> None:
    async with opened(gateway.server, "anna") as anna, opened(gateway.server, "budi") as budi:
        await frame(anna), await frame(budi)
        for number in range(1, 20):
            await insert(connection, "anna" if number % 3 else "budi", number, number)
        assert {(await frame(anna))["id"].split("-")[0] for _ in range(13)} == {"anna"}
        assert {(await frame(budi))["id"].split("-")[0] for _ in range(6)} == {"budi"}


async def test_five_connections_each_never_see_the_others(gateway: Gateway, connection: asyncpg.Connection) -> None:
    """Whatever the type, durable or direct, and for changes of the read state too."""
    async with opened_many(gateway.server, ("anna", "client"), ("budi", "client"), count=5) as sockets:
        for own in sockets.values():
            assert [(await frame(socket))["type"] for socket in own] == ["sync"] * 5
        types = get_args(NotificationType)
        for kind in types:
            gateway.realtime.broadcast_to_user("anna", Envelope(type=kind, data={}, timestamp="", id="direct"))
            notification = await gateway.realtime.notify("anna", kind, title=kind, message="", connection=connection)
            await connection.execute("update real_time_notifications set read_at = now() where id = $1", notification)
        for socket in sockets["anna"]:
            received = [item["type"] for item in await frames(socket, 3 * len(types))]
            assert sorted(received) == sorted([*types, *types, *["read"] * len(types)])
        gateway.realtime.broadcast_to_all('{"type": "end"}')
        for socket in [*sockets["anna"], *sockets["budi"]]:
            assert await frame(socket) == {"type": "end"}


async def test_writers_at_once_are_seen_in_commit_order(
    gateway: Gateway, database_url: str, connection: asyncpg.Connection
) -> None:
    async def write(writer: int) -> None:
        own = await asyncpg.connect(database_url)
        for number in range(40):
            await insert(own, "anna", writer * 1000 + number, writer * 1000 + number)
        await own.close()

    async with opened(gateway.server, "anna") as socket:
        await frame(socket)
        await asyncio.gather(*(write(writer) for writer in range(1, 6)))
        received = await frames(socket, 200)
    assert [item["seq"] for item in received] == list(range(1, 201))
    stored = await connection.fetch("select notification_id from jasaweb_rt.feed where user_id = 'anna' order by seq")
    assert [item["id"] for item in received] == [row["notification_id"] for row in stored]
    await until_empty(connection)


async def until_empty(connection: asyncpg.Connection) -> None:
    async with asyncio.timeout(20):
        while await connection.fetchval("select count(*) from jasaweb_rt.outbox"):
            await asyncio.sleep(0.01)


async def test_what_was_missed_is_replayed_in_order_before_what_is_new(
    gateway: Gateway, connection: asyncpg.Connection
) -> None:
    await insert(connection, "anna", 1, 300)
    await connection.execute("delete from public.real_time_notifications where id = 'anna-7'")
    await until_empty(connection)
    async with opened(gateway.server, "anna", query="?last_seq=5") as socket:
        sync = await frame(socket)
        await insert(connection, "anna", 301, 310)
        assert (sync["type"], sync["data"]["resumedFrom"], sync["data"]["unread"]) == ("sync", 5, 299)
        assert [item["seq"] for item in await frames(socket, 304)] == [6, *range(8, 311)]


async def test_a_client_that_missed_too_much_pages_by_http(gateway: Gateway, connection: asyncpg.Connection) -> None:
    await insert(connection, "anna", 1, 600)
    await until_empty(connection)
    async with opened(gateway.server, "anna", query="?last_seq=3") as socket:
        resync = await frame(socket)
        assert resync["type"] == "resync"
        assert (resync["data"]["fromSeq"], resync["data"]["headSeq"]) == (3, 600)
        await insert(connection, "anna", 601, 601)
        assert (await frame(socket))["seq"] == 601


@pytest.mark.parametrize("query", ["?last_seq=2&epoch=of-another-database", "?last_seq=99"])
async def test_a_foreign_position_starts_anew(gateway: Gateway, connection: asyncpg.Connection, query: str) -> None:
    await insert(connection, "anna", 1, 3)
    async with opened(gateway.server, "anna", query=query) as socket:
        resync = await frame(socket)
        assert (resync["type"], resync["data"]["fromSeq"], resync["data"]["headSeq"]) == ("resync", 0, 3)
        await insert(connection, "anna", 4, 4)
        assert (await frame(socket))["seq"] == 4


async def test_the_epoch_of_this_database_resumes(gateway: Gateway, connection: asyncpg.Connection) -> None:
    await insert(connection, "anna", 1, 3)
    epoch = await connection.fetchval("select epoch from jasaweb_rt.epoch")
    async with opened(gateway.server, "anna", query=f"?last_seq=2&epoch={epoch}") as socket:
        assert (await frame(socket))["data"]["epoch"] == epoch
        assert (await frame(socket))["seq"] == 3


async def test_every_device_agrees_on_what_is_read(gateway: Gateway, connection: asyncpg.Connection) -> None:
    await insert(connection, "anna", 1, 5)
    async with opened(gateway.server, "anna") as phone, opened(gateway.server, "anna") as laptop:
        await frame(phone), await frame(laptop)
        await connection.execute("update public.real_time_notifications set read_at = now() where id = 'anna-2'")
        for socket in (phone, laptop):
            read = await frame(socket)
            assert (read["type"], read["data"]["ids"], read["data"]["unread"]) == ("read", ["anna-2"], 4)
        await phone.send('{"type": "read", "data": {"upTo": 4}, "id": "r1"}')
        for socket in (phone, laptop):
            read = await frame(socket)
            assert (read["data"]["upTo"], read["data"]["unread"]) == (4, 1)
        await laptop.send('{"type": "read", "data": {"ids": ["anna-5", "budi-1"]}}')
        for socket in (phone, laptop):
            assert (await frame(socket))["data"]["unread"] == 0


async def test_an_unknown_user_and_a_changed_role(gateway: Gateway) -> None:
    async with opened(gateway.server, "nobody") as socket:
        assert await closed(socket) == (1008, "Invalid authentication")
    async with opened(gateway.server, "anna", "admin") as socket:
        assert (await frame(socket))["type"] == "sync"
        assert gateway.server.broadcast_to_admins("{}") == 0


async def test_sockets_outlive_the_database_connections(gateway: Gateway, connection: asyncpg.Connection) -> None:
    await until(lambda: gateway.is_relay_ready)
    async with opened(gateway.server, "anna") as socket:
        await frame(socket)
        await connection.execute(
            """
            select pg_terminate_backend(pid) from pg_stat_activity
            where pid <> pg_backend_pid() and datname = current_database()
            """
        )
        await insert(connection, "anna", 1, 3)
        assert [item["seq"] for item in await frames(socket, 3)] == [1, 2, 3]


async def test_a_lost_frame_is_found_by_comparison(gateway: Gateway, connection: asyncpg.Connection) -> None:
    await until(lambda: gateway.is_relay_ready)
    async with opened(gateway.server, "anna") as socket:
        await frame(socket)
        # Committed and numbered, but taken out of the outbox before the relay came to it.
        async with connection.transaction():
            await insert(connection, "anna", 1, 2)
            await connection.execute("delete from jasaweb_rt.outbox")
        await gateway.compare()
        received = await frames(socket, 3)
    assert sorted(item["type"] for item in received) == ["project_update", "project_update", "read"]


async def test_only_one_of_two_gateways_relays(
    gateway: Gateway, settings: Settings, database_url: str, connection: asyncpg.Connection
) -> None:
    other = Gateway(settings, database_url)
    await asyncio.to_thread(other.start)
    try:
        await until(lambda: gateway.is_relay_ready and other.is_relay_ready)
        async with opened(gateway.server, "anna") as here, opened(other.server, "anna") as there:
            await frame(here), await frame(there)
            await asyncio.to_thread(gateway.stop, 1)
            assert (await closed(here))[0] == 1001
            await insert(connection, "anna", 1, 2)
            assert [item["seq"] for item in await frames(there, 2)] == [1, 2]
    finally:
        await asyncio.to_thread(other.stop, 1)


async def test_a_stop_gives_notice_to_who_watches_and_sockets_stay_meanwhile(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    moments = iter([0.0, 0.1, 0.2])
    gateway.probes = ProbeWatch(lambda: next(moments, 0.2))
    for _ in range(3):
        gateway.probes.asked()
    async with opened(gateway.server, "anna") as socket:
        with caplog.at_level("INFO"):
            await asyncio.to_thread(gateway.stop, 10)
        assert (await closed(socket))[0] == 1001
    assert "/readyz says that this server stops; sockets are closed from 0.3 s on" in caplog.messages


async def test_a_taken_port_and_a_missing_database_are_said_plainly(
    gateway: Gateway, settings: Settings, database_url: str
) -> None:
    taken = msgspec.structs.replace(settings, port=gateway.server.address[1])
    with pytest.raises(ConfigurationError, match=r"Cannot listen on 127\.0\.0\.1 port \d+ .*JASAWEB_RT_PORT"):
        await asyncio.to_thread(Gateway(taken, database_url).start)
    with pytest.raises(DatabaseUnavailableError):
        await asyncio.to_thread(Gateway(settings, "postgresql://nobody@127.0.0.1:1/none").start)


async def test_the_outbox_waits_for_a_gateway(
    settings: Settings, database_url: str, connection: asyncpg.Connection
) -> None:
    await add_users(connection, ("anna", "client"))
    await insert(connection, "anna", 1, 3)
    gateway = Gateway(settings, database_url)
    await asyncio.to_thread(gateway.start)
    try:
        await until_empty(connection)
        async with opened(gateway.server, "anna", query="?last_seq=1") as socket:
            assert (await frame(socket))["type"] == "sync"
            assert [item["seq"] for item in await frames(socket, 2)] == [2, 3]
    finally:
        await asyncio.to_thread(gateway.stop, 1)


async def test_a_moment_beyond_what_python_can_hold_stops_nobody(
    gateway: Gateway, connection: asyncpg.Connection
) -> None:
    """As a program writes it that takes milliseconds for seconds."""
    async with opened(gateway.server, "anna") as socket:
        await frame(socket)
        for number, moment in enumerate(["56840-01-01", "0044-03-15 BC", "infinity", "-infinity"], start=1):
            await connection.execute(
                """insert into public.real_time_notifications (id, user_id, type, title, message, created_at)
                   values ($1, 'anna', 'project_update', 't', 'm', $2::text::timestamp)""",
                f"odd-{number}",
                moment,
            )
        await insert(connection, "anna", 5, 5)
        received = await frames(socket, 5)
    assert [item["seq"] for item in received] == [1, 2, 3, 4, 5]
    assert received[0]["timestamp"].startswith("9999-12-31")
    async with opened(gateway.server, "anna", query="?last_seq=0") as socket:
        assert (await frame(socket))["type"] == "sync"
        assert [item["seq"] for item in await frames(socket, 5)] == [1, 2, 3, 4, 5]


async def test_a_role_of_the_sites_own_turns_nobody_else_away(gateway: Gateway, connection: asyncpg.Connection) -> None:
    await connection.execute("""alter type public."Role" add value 'editor'""")
    await add_users(connection, ("edi", "editor"))
    async with opened_many(gateway.server, ("edi", "client"), ("anna", "client")) as sockets:
        assert await closed(sockets["edi"][0]) == (1008, "Invalid authentication")
        assert (await frame(sockets["anna"][0]))["type"] == "sync"


async def test_a_statement_that_fails_is_told_to_its_client_alone(
    gateway: Gateway, connection: asyncpg.Connection
) -> None:
    await insert(connection, "anna", 1, 2)
    await connection.execute("alter table public.real_time_notifications add check (read_at is null)")
    async with opened(gateway.server, "anna") as socket:
        await frame(socket)
        for ref in ("r1", "r2"):
            await socket.send(f'{{"type": "read", "data": {{"upTo": 2}}, "id": "{ref}"}}')
            error = await frame(socket)
            assert (error["type"], error["data"]["code"], error["data"]["ref"]) == ("error", "internal", ref)
