"""Storing notifications, the inbox, and read state."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from jasaweb_rt.database import notifications, outbox
from jasaweb_rt.database.notifications import Counters, NewNotification, inbox, insert_many
from jasaweb_rt.database.outbox import ReadDetail
from jasaweb_rt.database.pool import connect
from tests.support.ledger import INSERT, check_ledger, drained, feed_of, get_counters


def new(user_id: str, message: str = "M", data: object = None) -> NewNotification:
    return NewNotification(user_id=user_id, type="user_message", title="T", message=message, data=data)


async def test_stored_and_found_again(connection: asyncpg.Connection) -> None:
    first = new("anna", "one", {"text": "naïve — ☃", "n": [1, 2.5, None]})
    second = new("anna", "two")
    assert await insert_many(connection, [first, new("budi"), second]) == [
        first.id,
        (await inbox(connection, "budi")).items[0].id,
        second.id,
    ]
    page = await inbox(connection, "anna")
    assert page[1:] == (2, 2, 2, 1)
    assert [(item.seq, item.id, item.message, item.data) for item in page.items] == [
        (1, first.id, "one", {"text": "naïve — ☃", "n": [1, 2.5, None]}),
        (2, second.id, "two", None),
    ]
    item = page.items[0]
    assert item.user_id == "anna"
    assert item.read_at is None
    assert item.created_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - item.created_at) < timedelta(minutes=1)


async def test_nobodys_inbox_is_empty(connection: asyncpg.Connection) -> None:
    assert await inbox(connection, "nobody") == ([], 0, 0, 0, 0)
    assert await notifications.get_counters(connection, "nobody") == (0, 0, 0)
    assert await notifications.mark_read_up_to(connection, "nobody", 5) == (0, (0, 0, 0))


async def test_nothing_to_store(connection: asyncpg.Connection) -> None:
    assert await insert_many(connection, []) == []
    assert await drained(connection) == []


async def test_pages(connection: asyncpg.Connection) -> None:
    await insert_many(connection, [new("anna", str(n)) for n in range(1, 11)])
    await connection.execute("delete from public.real_time_notifications where message in ('4', '10')")
    await notifications.mark_read_up_to(connection, "anna", 3)

    page = await inbox(connection, "anna", after=2, limit=3)
    assert [item.seq for item in page.items] == [3, 5, 6]
    assert page[1:] == (8, 10, 5, 3)
    page = await inbox(connection, "anna", after=6, limit=3, unread_only=True)
    assert [item.seq for item in page.items] == [7, 8, 9]
    assert page.total == 5
    page = await inbox(connection, "anna", limit=2, unread_only=True)
    assert [item.seq for item in page.items] == [5, 6]
    assert (await inbox(connection, "anna", after=9)).items == []


async def test_a_page_is_one_moment(database_url: str, connection: asyncpg.Connection) -> None:
    """Items and counters agree in each page, whatever is written and read meanwhile."""
    done = asyncio.Event()

    async def writer() -> None:
        own = await connect(database_url)
        for n in range(150):
            await own.execute(INSERT, f"n{n:03}", "anna")
            if n % 3 == 0:
                await own.execute("update public.real_time_notifications set read_at = now() where id = $1", f"n{n:03}")
        await own.close()
        done.set()

    writing = asyncio.create_task(writer())
    while not done.is_set():
        page = await inbox(connection, "anna", limit=1000)
        assert len(page.items) == page.total == page.head_seq
        assert [item.seq for item in page.items] == list(range(1, page.head_seq + 1))
        assert sum(item.read_at is None for item in page.items) == page.unread
    await writing


async def test_mark_by_id(connection: asyncpg.Connection) -> None:
    ids = await insert_many(connection, [new("anna") for _ in range(3)])
    [other] = await insert_many(connection, [new("budi")])
    await drained(connection)
    marked = await notifications.mark_read_ids(connection, "anna", [ids[2], ids[0], other, "unknown"])
    assert marked == (2, Counters(3, 1, 2))
    [event] = await drained(connection)
    assert event.read_detail is not None
    assert sorted(event.read_detail.ids or ()) == sorted([ids[0], ids[2]])
    # Marked before: the time of the first reading stays, and nobody is told.
    before = (await inbox(connection, "anna")).items[0].read_at
    assert await notifications.mark_read_ids(connection, "anna", ids[:1]) == (0, Counters(3, 1, 2))
    assert await notifications.mark_read_ids(connection, "anna", []) == (0, Counters(3, 1, 2))
    assert (await inbox(connection, "anna")).items[0].read_at == before
    assert await drained(connection) == []
    assert (await inbox(connection, "budi")).unread == 1


async def test_mark_up_to(connection: asyncpg.Connection) -> None:
    ids = await insert_many(connection, [new("anna") for _ in range(1500)])
    await insert_many(connection, [new("budi")])
    await notifications.mark_read_ids(connection, "anna", ids[:1])
    await drained(connection)
    assert await notifications.mark_read_up_to(connection, "anna", 1200) == (1199, Counters(1500, 300, 3))
    [event] = await drained(connection)
    assert (event.user_id, event.read_detail, event.unread, event.rev) == ("anna", ReadDetail(up_to=1200), 300, 3)
    assert await notifications.mark_read_up_to(connection, "anna", 10**15) == (300, Counters(1500, 0, 4))
    assert (await inbox(connection, "budi")).unread == 1
    await check_ledger(connection)


async def test_up_to_is_said_of_its_own_statement_only(connection: asyncpg.Connection) -> None:
    """In one transaction, a later statement of another kind is told by its ids again."""
    ids = await insert_many(connection, [new("anna") for _ in range(4)])
    await drained(connection)
    async with connection.transaction():
        await notifications.mark_read_up_to(connection, "anna", 2)
        await notifications.mark_read_up_to(connection, "anna", 2)
        await notifications.mark_read_ids(connection, "anna", ids[2:3])
    await connection.execute("update public.real_time_notifications set read_at = now() where id = $1", ids[3])
    assert [event.read_detail for event in await drained(connection)] == [
        ReadDetail(up_to=2),
        ReadDetail(ids=(ids[2],)),
        ReadDetail(ids=(ids[3],)),
    ]


async def test_two_devices_at_once(database_url: str, connection: asyncpg.Connection) -> None:
    ids = await insert_many(connection, [new("anna") for _ in range(200)])

    async def device(number: int) -> None:
        own = await connect(database_url)
        for n in range(10):
            if number % 2:
                await notifications.mark_read_ids(own, "anna", ids[::-1][: 20 * (n + 1)])
            else:
                await notifications.mark_read_up_to(own, "anna", 20 * (n + 1))
        await own.close()

    await asyncio.gather(*(device(number) for number in range(6)))
    assert (await get_counters(connection, "anna"))[:2] == (200, 0)
    await check_ledger(connection)


async def test_inside_the_callers_transaction_on_a_plain_connection(database_url: str) -> None:
    """An embedding program's connection has neither our codecs nor our time zone."""
    plain = await asyncpg.connect(
        database_url, server_settings={"timezone": "America/New_York", "search_path": "pg_catalog"}
    )
    transaction = plain.transaction()
    await transaction.start()
    await insert_many(plain, [new("anna", data={"a": 1})])
    await transaction.rollback()
    assert await inbox(plain, "anna") == ([], 0, 0, 0, 0)
    await insert_many(plain, [new("anna", data={"a": 1})])
    [item] = (await inbox(plain, "anna")).items
    assert item.data == {"a": 1}
    assert abs(datetime.now(UTC) - item.created_at) < timedelta(minutes=1)
    await plain.close()


@pytest.mark.parametrize(
    ("stored", "decoded"),
    [
        ("null", None),
        ('"text"', "text"),
        ("[1, 2]", [1, 2]),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("1e400", 10**400),
        ("0.1e-400", 0.0),
        ("1e5000", {"truncated": True}),
        ("[" * 3000 + "]" * 3000, {"truncated": True}),
    ],
)
async def test_odd_data_spoils_only_itself(connection: asyncpg.Connection, stored: str, decoded: object) -> None:
    await connection.execute(
        """insert into public.real_time_notifications (id, user_id, type, title, message, data)
           values ('odd', 'anna', 'user_message', '', '', $1::text::jsonb)""",
        stored,
    )
    await connection.execute(INSERT, "next", "anna")
    assert [item.data for item in (await inbox(connection, "anna")).items] == [decoded, None]
    assert [event.notification and event.notification.id for event in await drained(connection)] == ["odd", "next"]


async def test_a_label_of_the_sites_own(connection: asyncpg.Connection) -> None:
    await connection.execute("""alter type public."NotificationType" add value 'of_the_site'""")
    await connection.execute(INSERT.replace("user_message", "of_the_site"), "n", "anna")
    [event] = await outbox.read_on(connection, 1)
    assert event.notification is not None
    assert event.notification.type == "of_the_site"


async def test_unknown_type_is_refused(connection: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        await insert_many(connection, [NewNotification(user_id="u", type="nonsense", title="", message="")])  # type: ignore[arg-type]
    assert await feed_of(connection, "u") == []
