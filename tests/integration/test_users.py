"""Finding users, at a size where reading the table whole would hurt."""

import asyncpg

from jasaweb_rt.database import notifications, users

SCANS = "select seq_scan from pg_stat_xact_user_tables where relid = 'public.users'::regclass"


async def test_administrators_are_found_without_reading_every_client(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """insert into public.users (id, email, password, name, role)
           select 'user-' || n, n || '@jasaweb.test', '', 'User ' || n,
                  (case n when 7 then 'admin' else 'client' end)::public."Role"
           from generate_series(1, 20000) n"""
    )
    await connection.execute("analyze public.users")
    # Often enough for PostgreSQL to consider a plan that fits any role (plan_cache_mode).
    for _ in range(7):
        async with connection.transaction():
            assert await users.list_ids_by_role(connection, "admin") == ["user-7"]
            found, total = await users.search(
                connection, role="admin", without="user-1", words="user", by_email=False, limit=10, offset=0
            )
            assert ([user.id for user in found], total) == (["user-7"], 1)
            await notifications.insert_for_users(connection, "admin_alert", title="t", message="m", role="admin")
            assert await connection.fetchval(SCANS) == 0
