"""A database with a million notifications, and what a piece of work reads of it."""

from collections.abc import Awaitable, Callable

import asyncpg
import msgspec

from jasaweb_rt.database.message_log import MESSAGE_ID

NOTIFICATIONS = 1_000_000
USERS = 50_000
CONNECTIONS = 100_000
MESSAGES_EACH = 5
"""Of a connection, but for the oldest quarter, which have none left."""
OF_HEAVY = 20_000
"""Notifications of the user `heavy`; every other one has some 20, the first half of them read."""
ENDED = 100_000
"""Sessions that were ended by a log-out; of a hundredth it is time to forget them."""
WAITING = 20_000
"""Rows of the outbox: a relay that was away for a while."""

# Filled without its indexes, which are made afterwards in a fraction of the time.
_BARE = ("public.real_time_notifications", "public.websocket_messages", "jasaweb_rt.feed")

_LOAD = f"""
set session_replication_role = replica;
insert into public.users (id, email, password, name, role)
select 'user-' || n, 'user-' || n || '@jasaweb.test', '', 'User ' || n,
       case when n % 500 = 0 then 'admin' else 'client' end::public."Role"
from generate_series(0, {USERS - 1}) n
union all select 'heavy', 'heavy@jasaweb.test', '', 'Heavy', 'client';

insert into public.real_time_notifications (id, user_id, type, title, message, data, read_at, created_at)
select 'n-' || n, case when n < {OF_HEAVY} then 'heavy' else 'user-' || n % {USERS} end, 'project_update', 'Title',
       'A message of some length, as they are', '{{"projectId": "p"}}', case when n % 1000 < 500 then created_at end,
       created_at
from generate_series(0, {NOTIFICATIONS - 1}) n,
     lateral (select timestamp '2026-10-01' + n * interval '4 s' as created_at) c;

insert into jasaweb_rt.feed (user_id, seq, notification_id)
select case when n < {OF_HEAVY} then 'heavy' else 'user-' || n % {USERS} end,
       case when n < {OF_HEAVY} then n + 1 else (n - {OF_HEAVY}) / {USERS} + 1 end, 'n-' || n
from generate_series(0, {NOTIFICATIONS - 1}) n;

insert into jasaweb_rt.counters (user_id, head_seq, unread, rev)
select n.user_id, count(*), count(*) filter (where n.read_at is null), count(*)
from public.real_time_notifications n group by n.user_id;

insert into jasaweb_rt.outbox (kind, user_id, seq)
select 'notification', 'heavy', {OF_HEAVY} - {WAITING} + n from generate_series(1, {WAITING}) n;

insert into public.websocket_connections
  (id, user_id, connection_id, client_ip, connected_at, last_activity, status)
select 'c-' || n, 'user-' || n % {USERS}, node || '-' || n, '192.0.2.1', moment, moment,
       case node when 'past' then 'disconnected' else 'active' end::public."ConnectionStatus"
from generate_series(0, {CONNECTIONS - 1}) n,
     lateral (
       select (now() at time zone 'UTC') - n % 60 * interval '1 day' as moment,
              case n % 40 when 0 then 'live' when 20 then 'dead' else 'past' end as node
     ) m;

insert into public.websocket_messages (id, connection_id, message_type, payload, sent_at, delivered)
select {MESSAGE_ID.format(seq="s")}, c.id, 'project_update', jsonb_build_object('id', f.notification_id, 'seq', s),
       c.last_activity, s % 50 <> 0
from public.websocket_connections c cross join generate_series(1, {MESSAGES_EACH}) s
cross join lateral (
  select 'n-' || ({OF_HEAVY} + (s - 1) * {USERS} + substr(c.user_id, 6)::int) as notification_id
) f
where c.last_activity > (now() at time zone 'UTC') - interval '45 days';

insert into public.projects (id, user_id, name, type, created_at, updated_at)
select 'p-' || n, 'user-' || n % {USERS}, 'Project', 'company', moment, moment
from generate_series(0, {2 * USERS - 1}) n, lateral (select timestamp '2026-01-01' + n * interval '1 min' as moment) m;
insert into public.invoices (id, project_id, amount, midtrans_order_id, created_at)
select 'i-' || n, 'p-' || n, 1000, 'order-' || n, timestamp '2026-01-01' + n * interval '1 min'
from generate_series(0, {2 * USERS - 1}) n;

insert into jasaweb_rt.ended_sessions (user_id, session_id, ends_at)
select 'user-' || n % {USERS}, lpad(to_hex(n + 1), 16, '0'), now() + (n % 100 - 1) * interval '1 day'
from generate_series(0, {ENDED - 1}) n;

insert into jasaweb_rt.nodes (node_id, lapsed) values ('live', false), ('dead', true);
reset session_replication_role;
"""


async def load(connection: asyncpg.Connection) -> None:
    """Fills a migrated database as it would be after a year; takes some half a minute."""
    indexes = await connection.fetch(
        """
        select i.indexrelid::regclass::text as name, pg_get_indexdef(i.indexrelid) as create,
               i.indrelid::regclass::text as table, c.conname, pg_get_constraintdef(c.oid) as constraint
        from pg_index i left join pg_constraint c on c.conindid = i.indexrelid and c.contype = 'p'
        where i.indrelid = any ($1::regclass[])
        """,
        list(_BARE),
    )
    for index in indexes:
        if index["conname"]:
            await connection.execute(f"alter table {index['table']} drop constraint {index['conname']}")
        else:
            await connection.execute(f"drop index {index['name']}")
    await connection.execute(_LOAD)
    for index in indexes:
        if index["conname"]:
            await connection.execute(
                f"alter table {index['table']} add constraint {index['conname']} {index['constraint']}"
            )
        else:
            await connection.execute(index["create"])
    await connection.execute("vacuum analyze")


class Reads(msgspec.Struct, frozen=True):
    """What was read of tables and indexes."""

    scanned: dict[str, int]
    """Rows read by going through a table from its begin, by table."""
    blocks: dict[str, int]
    """Blocks of 8 KiB that were looked at, by table and index."""


_READS = """
select c.oid::regclass::text as name, c.relkind = 'r' as is_table,
       pg_stat_get_xact_tuples_returned(c.oid) as returned, pg_stat_get_xact_blocks_fetched(c.oid) as blocks
from pg_class c where c.relnamespace in ('public'::regnamespace, 'jasaweb_rt'::regnamespace) and c.relkind in ('r', 'i')
"""


async def reads_of(connection: asyncpg.Connection, work: Callable[[], Awaitable[object]]) -> Reads:
    """What `work` reads on `connection`, inside triggers too. To be called in a transaction, which keeps the counts."""
    before = {row["name"]: row for row in await connection.fetch(_READS)}
    await work()
    after = await connection.fetch(_READS)
    scanned = {row["name"]: row["returned"] - before[row["name"]]["returned"] for row in after if row["is_table"]}
    blocks = {row["name"]: row["blocks"] - before[row["name"]]["blocks"] for row in after}
    return Reads(
        scanned={name: count for name, count in scanned.items() if count},
        blocks={name: count for name, count in blocks.items() if count},
    )
