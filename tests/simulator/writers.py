"""Those who write: services through `Realtime`, foreign programs by plain SQL.

A transaction that fails because the database went away, or lost a deadlock, is not tried again: the table says in the
end what was committed. What the database has confirmed is noted, for that must be in the table.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator

import asyncpg

from jasaweb_rt.database import pool
from jasaweb_rt.exceptions import DatabaseUnavailableError
from jasaweb_rt.realtime import NewNotification, Realtime
from tests.simulator.plan import Say, Statement, Transaction, Writer

WRITERS = "simulator writer"
"""Application name of their connections."""

_TYPES = ("user_message", "system_announcement", "payment_update")
_RECONNECT_SECONDS = 40.0
_PAUSE_SECONDS = 0.05

# Deadlocks, time-outs on a lock or of a statement: the other side of a fault, and for the caller to repeat.
_LOST = ("40P01", "40001", "55P03", "57014")


class Author:
    """Carries out one writer's transactions."""

    def __init__(self, writer: Writer, seed: int, url: str) -> None:
        self.confirmed: set[str] = set()
        """Ids of the rows whose commit was confirmed, deleted since or not."""
        self.deleted: set[str] = set()
        """Ids of the rows that it deleted, or tried to."""
        self.committed = 0
        self.failed = 0
        self._writer = writer
        self._seed = seed
        self._url = url
        self._rows = 0
        self._realtime = Realtime()
        self._connection: asyncpg.Connection | None = None

    async def write(self) -> None:
        """Writes all there is to write."""
        try:
            for transaction in self._writer.transactions:
                await asyncio.sleep(transaction.pause)
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._connect()
                await self._carry_out(transaction, self._connection)
        finally:
            self._leave()

    async def _connect(self) -> asyncpg.Connection:
        async with asyncio.timeout(_RECONNECT_SECONDS):
            while True:
                try:
                    if self._writer.is_service:
                        return await pool.connect(self._url, application_name=WRITERS)
                    return await asyncpg.connect(
                        self._url, timeout=5, command_timeout=30, server_settings={"application_name": WRITERS}
                    )
                except (
                    DatabaseUnavailableError,
                    OSError,
                    asyncpg.PostgresError,
                    asyncpg.InterfaceError,
                    asyncpg.InternalClientError,
                ):
                    await asyncio.sleep(_PAUSE_SECONDS)

    async def _carry_out(self, transaction: Transaction, connection: asyncpg.Connection) -> None:
        written: list[str] = []
        frame = connection.transaction()
        try:
            await frame.start()
            for statement in transaction.statements:
                written += await _SAY[statement.say](self, connection, statement)
                await asyncio.sleep(transaction.think)
            if transaction.undone:
                await frame.rollback()
            else:
                await frame.commit()
                self.confirmed.update(written)
                self.committed += 1
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            if not _is_lost(error, connection):
                raise
            self.failed += 1
            self._leave()

    def _leave(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _next(self, statement: Statement) -> Iterator[tuple[str, str, str, dict[str, object]]]:
        """A row for each user of a statement: id, user, type, data."""
        for user in statement.users:
            self._rows += 1
            number = self._rows
            data = {"n": number, "by": self._writer.name, "pad": "x" * statement.pad}
            yield f"{self._seed}-{self._writer.name}-{number}", user, _TYPES[number % len(_TYPES)], data

    async def _notify(self, connection: asyncpg.Connection, statement: Statement) -> list[str]:
        (_, user, _, data), *_ = self._next(statement)
        return [
            await self._realtime.notify(
                user, "user_message", title="Title", message="Message", data=data, connection=connection
            )
        ]

    async def _notify_many(self, connection: asyncpg.Connection, statement: Statement) -> list[str]:
        items = [
            NewNotification(user_id=user, type="project_update", title="Title", message=key, data=data)
            for key, user, _, data in self._next(statement)
        ]
        return await self._realtime.notify_many(items, connection)

    async def _notify_role(self, connection: asyncpg.Connection, statement: Statement) -> list[str]:
        (_, _, _, data), *_ = self._next(statement)
        return await self._realtime.notify_role(
            None, "system_announcement", title="Title", message="Message", data=data, connection=connection
        )

    async def _insert(self, connection: asyncpg.Connection, statement: Statement) -> list[str]:
        ((key, user, kind, data),) = self._next(statement)
        await connection.execute(
            "insert into public.real_time_notifications (id, user_id, type, title, message, data) "
            'values ($1, $2, $3::text::public."NotificationType", $4, $5, $6)',
            *(key, user, kind, "Title", key, json.dumps(data)),
        )
        return [key]

    async def _insert_select(self, connection: asyncpg.Connection, statement: Statement) -> list[str]:
        rows = list(self._next(statement))
        await connection.execute(
            "insert into public.real_time_notifications (id, user_id, type, title, message, data) "
            "select id, user_id, 'admin_alert', 'Title', id, data::jsonb "
            "from unnest($1::text[], $2::text[], $3::text[]) with ordinality as row (id, user_id, data, n) order by n",
            [key for key, *_ in rows],
            [user for _, user, _, _ in rows],
            [json.dumps(data) for *_, data in rows],
        )
        return [key for key, *_ in rows]

    async def _copy(self, connection: asyncpg.Connection, statement: Statement) -> list[str]:
        rows = list(self._next(statement))
        copying = connection.copy_records_to_table(
            "real_time_notifications",
            schema_name="public",
            columns=("id", "user_id", "type", "title", "message", "data"),
            records=[(key, user, kind, "Title", key, json.dumps(data)) for key, user, kind, data in rows],
        )
        await _unless_lost(connection, copying)
        return [key for key, *_ in rows]

    async def _read(self, connection: asyncpg.Connection, statement: Statement) -> list[str]:
        await connection.execute(
            "update public.real_time_notifications set read_at = case when read_at is null then now() end "
            "where id = any (array(select id from public.real_time_notifications where user_id = $1 limit 20))",
            statement.users[0],
        )
        return []

    async def _delete(self, connection: asyncpg.Connection, statement: Statement) -> list[str]:
        rows = await connection.fetch(
            "delete from public.real_time_notifications where id = any (array("
            "select id from public.real_time_notifications where user_id = $1 order by created_at desc, id limit 3)) "
            "returning id",
            statement.users[0],
        )
        self.deleted.update(row["id"] for row in rows)
        return []


_SAY: dict[Say, Callable[[Author, asyncpg.Connection, Statement], Awaitable[list[str]]]] = {
    Say.NOTIFY: Author._notify,
    Say.NOTIFY_MANY: Author._notify_many,
    Say.NOTIFY_ROLE: Author._notify_role,
    Say.INSERT: Author._insert,
    Say.INSERT_SELECT: Author._insert_select,
    Say.COPY: Author._copy,
    Say.READ: Author._read,
    Say.DELETE: Author._delete,
}


async def _unless_lost(connection: asyncpg.Connection, copying: Awaitable[object]) -> None:
    """Waits for a COPY, or raises `ConnectionError` where its connection ends.

    asyncpg 0.32 does not: in the middle of more than 512 KiB it waits for ever until it may go on writing.
    """
    task = asyncio.ensure_future(copying)

    def give_up(_: object) -> None:
        task.cancel()

    connection.add_termination_listener(give_up)
    try:
        await asyncio.wait([task])
        if task.cancelled():
            raise ConnectionError("the connection ended in the middle of a COPY")
        task.result()
    finally:
        task.cancel()
        connection.remove_termination_listener(give_up)


def _is_lost(error: Exception, connection: asyncpg.Connection) -> bool:
    if isinstance(error, asyncpg.InternalClientError):
        # The server has said goodbye, and the end of the connection has not come yet.
        return True
    if isinstance(error, asyncpg.PostgresError) and str(error.sqlstate).startswith(("08", "57P", *_LOST)):
        return True
    # A connection that broke is reported in many ways; whatever it was, it is closed now.
    with contextlib.suppress(asyncpg.InterfaceError):
        return bool(connection.is_closed())
    return True
