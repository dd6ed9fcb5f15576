"""The gateway that is measured, and who writes to its users."""

import asyncio
import os

import asyncpg
from benches.durable import received
from benches.messages import requests
from benches.postgres import Database
from benches.programs import Program, durable
from benches.writers import write

from jasaweb_rt._core import LoadClient
from tests.support.databases import add_users


async def test_users_who_are_behind_get_what_they_lack_and_then_what_is_written(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await add_users(connection, ("user-0", "client"), ("user-1", "client"))
    await connection.execute(
        """
        insert into public.real_time_notifications (id, user_id, type, title, message, data)
        select user_id || '-' || n, user_id, 'user_message', 't', 'm', jsonb_build_object('stamp', n)
        from unnest(array['user-0', 'user-1']) user_id, generate_series(1, 3) n order by n
        """
    )

    def load() -> tuple[int, int, int]:
        client = LoadClient()
        try:
            with Program(durable(database_url), os.sched_getaffinity(0)) as program:
                client.connect(program.address, requests(["user-0", "user-1"], query="?last_seq=1"))
                replayed = received(client, 4).timed
                client.clear()
                written = write(Database(database_url), users=2, seconds=8, rate=50)
                return replayed, written.count, received(client, written.count).timed
        finally:
            client.stop()

    replayed, written, delivered = await asyncio.to_thread(load)
    assert replayed == 4
    assert 0 < written == delivered
