"""A client that was away for thousands of notifications gets through, whatever happens meanwhile."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import asyncpg
import httpx
import pytest

from jasaweb_rt.client import FilePosition, Frame, InboxPages, Position, RealtimeClient
from jasaweb_rt.database import feed
from tests.support.pages import sample
from tests.support.people import bearer, session_token
from tests.support.program import Program, environment, program, python
from tests.support.tcp_relay import TcpRelay, tcp_relay

pytestmark = pytest.mark.timeout(300)

WAIT_SECONDS = 120.0
MANY = 10_000
FLOOD = 700
"""More than a client holds back."""


@pytest.fixture
async def relay(server: Program) -> AsyncIterator[TcpRelay]:
    """Stands between client and server, to be cut or led elsewhere."""
    async with tcp_relay("127.0.0.1", await port_of(server)) as relay:
        yield relay


async def port_of(server: Program) -> int:
    return int((await server.url()).rsplit(":", 1)[1])


async def store(connection: asyncpg.Connection, count: int) -> None:
    """Stores notifications; the title of each is its `seq`, in a database where nothing else stores any."""
    await connection.execute(
        """
        insert into public.real_time_notifications (id, user_id, type, title, message)
        select gen_random_uuid(), 'client', 'user_message', coalesce(head_seq, 0) + i, ''
        from (select) as one left join jasaweb_rt.counters on user_id = 'client', generate_series(1, $1) as i order by i
        """,
        count,
    )


async def stored(connection: asyncpg.Connection) -> list[int]:
    """Every `seq` that is there."""
    rows = await connection.fetch(
        """
        select f.seq from jasaweb_rt.feed f join public.real_time_notifications n on n.id = f.notification_id
        where f.user_id = 'client' order by f.seq
        """
    )
    return [row["seq"] for row in rows]


def client_of(relay: TcpRelay, **options: object) -> RealtimeClient:
    url = f"ws://127.0.0.1:{relay.port}"

    async def fetch_token() -> str:
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{relay.port}", timeout=30) as http:
                answer = await http.post("/api/websocket/token", headers=bearer("client"))
        except httpx.TransportError as error:
            raise ConnectionError(str(error)) from error
        if answer.status_code == 503:
            raise ConnectionError("not ready")
        token: str = answer.json()["token"]
        return token

    pages = InboxPages(url, session_token("client"))
    return RealtimeClient(f"{url}/ws", fetch_token, fetch_page=pages, **options)  # type: ignore[arg-type]


async def collect(
    client: RealtimeClient, last: int, events: Mapping[int, Callable[[], Awaitable[object]]] | None = None
) -> list[Frame]:
    """Durable frames up to the `seq` `last`; at the first one from a key of `events` on, that is done."""
    found: list[Frame] = []
    waiting = sorted((events or {}).items())
    async with asyncio.timeout(WAIT_SECONDS):
        async for frame in client:
            if "seq" not in frame:
                continue
            found.append(frame)
            while waiting and frame["seq"] >= waiting[0][0]:
                await waiting.pop(0)[1]()
            if frame["seq"] >= last:
                return found
    raise AssertionError("it ended")


async def test_ten_thousand_come_in_order_while_more_are_stored_and_the_network_fails(
    relay: TcpRelay, connection: asyncpg.Connection
) -> None:
    await store(connection, MANY)
    await connection.execute("delete from public.real_time_notifications where title::int % 97 = 0 or title = '10000'")
    epoch = await feed.epoch(connection)

    async def cut() -> None:
        await relay.cut()
        await store(connection, 10)
        await relay.start()

    async def flood() -> None:
        await store(connection, FLOOD)

    events = {1_000: flood, 3_000: cut, 5_050: cut, 7_000: flood, 9_900: cut, 10_900: flood}
    last = MANY + 3 * FLOOD + 3 * 10
    async with client_of(relay, last_seq=0, epoch=epoch) as client:
        found = await collect(client, last, events)
        assert [frame["seq"] for frame in found] == await stored(connection)
        assert [frame["data"]["title"] for frame in found] == [str(frame["seq"]) for frame in found]
        assert (client.last_seq, client.epoch) == (last, epoch)
        assert client.unread == len(found)


async def test_a_server_that_is_killed_meanwhile_loses_nothing(
    tmp_path: Path, server: Program, relay: TcpRelay, connection: asyncpg.Connection, database_url: str
) -> None:
    await store(connection, 3_000)
    (tmp_path / "second").mkdir()

    async def kill() -> None:
        await server.end(signal.SIGKILL)
        await store(connection, 50)

    async with (
        client_of(relay, last_seq=0, epoch=await feed.epoch(connection)) as client,
        program(tmp_path / "second", environment(database_url), "serve") as second,
    ):
        target = ("127.0.0.1", await port_of(second))

        async def move() -> None:
            await kill()
            relay.target = target

        found = await collect(client, 3_050, {1_150: move})
        assert [frame["seq"] for frame in found] == list(range(1, 3_051))


async def test_an_older_state_of_the_database_is_read_from_the_beginning(
    relay: TcpRelay, connection: asyncpg.Connection
) -> None:
    await store(connection, 1_200)
    async with client_of(relay, last_seq=5_000, epoch=await feed.epoch(connection)) as client:
        found = await collect(client, 1_200)
        await store(connection, 1)
        found += await collect(client, 1_201)
    assert [frame["seq"] for frame in found] == list(range(1, 1_202))


async def test_another_database_is_read_from_the_beginning(relay: TcpRelay, connection: asyncpg.Connection) -> None:
    await store(connection, 700)
    async with client_of(relay, last_seq=600, epoch="another-database") as client:
        found = await collect(client, 700)
        assert client.epoch == await feed.epoch(connection)
    assert [frame["seq"] for frame in found] == list(range(1, 701))


async def test_a_program_that_is_killed_goes_on_at_its_position(
    tmp_path: Path, server: Program, connection: asyncpg.Connection
) -> None:
    """The README's sample: every notification, and after a kill at most 100 of them once more."""
    (tmp_path / "watch.py").write_text(sample("README.md", "watch.py"))
    await FilePosition(tmp_path / "watch.json").save(Position(await feed.epoch(connection), 0))
    await store(connection, MANY)
    environ = environment() | {"SITE": await server.url(), "SESSION": session_token("client")}
    heard: list[int] = []
    for last in (1_000, 4_000, MANY):
        async with python(tmp_path, environ, "watch.py") as watch:
            await watch.line(rf"'title': '{last}'", WAIT_SECONDS)
            await watch.end(signal.SIGKILL)
            heard_now = [
                int(line.split("'title': '")[1].split("'")[0])
                for line in watch.output.splitlines()
                if line.startswith("user_message ") and line.endswith("}")
            ]
        begin = heard_now[0]
        assert heard_now == list(range(begin, heard_now[-1] + 1))
        assert len(heard) - 100 <= begin - 1 <= len(heard)
        heard = [*heard[: begin - 1], *heard_now]
    assert heard == list(range(1, MANY + 1))
