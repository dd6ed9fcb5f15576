"""Our migrations end in the very tables that Prisma makes: compared by PostgreSQL's catalogs, index by index."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jasaweb_rt.database.migrations import migrate

PRISMA = Path(__file__).parent.parent / "data" / "prisma_reference.sql"

CATALOGS = {
    "columns": """
        select c.relname as name, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull,
               pg_get_expr(d.adbin, d.adrelid) as default_value, a.attidentity, a.attgenerated
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')""",
    "tables": """
        select relname as name, relkind::text, relpersistence::text, reloptions, relrowsecurity
        from pg_class where relnamespace = 'public'::regnamespace and relkind <> 'i'""",
    "constraints": """
        select conrelid::regclass::text as name, conname, contype::text, pg_get_constraintdef(oid) as definition,
               convalidated, condeferrable
        from pg_constraint where connamespace = 'public'::regnamespace""",
    "indexes": """
        select tablename as name, indexname, indexdef, indisvalid
        from pg_indexes join pg_index on indexrelid = format('public.%I', indexname)::regclass
        where schemaname = 'public'""",
    "enums": """
        select t.typname as name, array_agg(e.enumlabel::text order by e.enumsortorder) as labels
        from pg_type t join pg_enum e on e.enumtypid = t.oid
        where t.typnamespace = 'public'::regnamespace group by t.typname""",
    "functions": "select proname as name from pg_proc where pronamespace = 'public'::regnamespace",
}


async def catalog(url: str, query: str) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(url)
    try:
        rows = [dict(row.items()) for row in await connection.fetch(query)]
    finally:
        await connection.close()
    return sorted(rows, key=str)


@pytest.mark.parametrize("kind", CATALOGS)
async def test_equals_what_prisma_makes(kind: str, empty_database_url: str, database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(PRISMA.read_text())
    await connection.close()
    expected = await catalog(empty_database_url, CATALOGS[kind])
    assert await catalog(database_url, CATALOGS[kind]) == expected
    assert expected or kind == "functions"

    # Adopted, too, they stay as Prisma made them.
    await migrate(empty_database_url)
    assert await catalog(empty_database_url, CATALOGS[kind]) == expected


async def test_nothing_of_ours_depends_on_the_sites_tables(database_url: str) -> None:
    """`prisma db push` may drop and create its tables again: no foreign key of ours is in its way."""
    connection = await asyncpg.connect(database_url)
    across = await connection.fetch(
        """select conname from pg_constraint where contype = 'f' and connamespace = 'jasaweb_rt'::regnamespace"""
    )
    await connection.execute("drop table public.real_time_notifications")
    await connection.close()
    assert across == []
