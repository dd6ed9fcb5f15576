"""The SQL that Prisma's client sends for the guide's model, parameters included."""

COLUMNS = ("id", "user_id", "type", "title", "message", "data", "read_at", "created_at")
TABLE = '"public"."real_time_notifications"'
RETURNING = ", ".join(f'{TABLE}."type"::text' if column == "type" else f'{TABLE}."{column}"' for column in COLUMNS)

CREATE = (
    f'INSERT INTO {TABLE} ("id","user_id","type","title","message","data","created_at") '
    'VALUES ($1,$2,CAST($3::text AS "public"."NotificationType"),$4,$5,$6,$7) '
    f"RETURNING {RETURNING}"
)
"""`create`: id, user_id, type, title, message, data, created_at."""

UPDATE_READ_AT = f'UPDATE {TABLE} SET "read_at" = $1 WHERE ({TABLE}."id" = $2 AND 1=1) RETURNING {RETURNING}'
"""`update`: read_at, id."""

UPDATE_MANY_READ_AT = f'UPDATE {TABLE} SET "read_at" = $1 WHERE ({TABLE}."user_id" = $2 AND {TABLE}."read_at" IS NULL)'
"""`updateMany`: read_at, user_id."""

DELETE = f'DELETE FROM {TABLE} WHERE ({TABLE}."id" = $1 AND 1=1) RETURNING {RETURNING}'
"""`delete`: id."""

UPSERT = (
    f'INSERT INTO {TABLE} ("id","user_id","type","title","message","created_at") '
    'VALUES ($1,$2,CAST($3::text AS "public"."NotificationType"),$4,$5,$6) '
    f'ON CONFLICT ("id") DO UPDATE SET "read_at" = $7 WHERE ({TABLE}."id" = $8 AND 1=1) RETURNING {RETURNING}'
)
"""`upsert`: id, user_id, type, title, message, created_at, read_at, id again."""


def create_many(rows: int) -> str:
    """`createMany` of so many rows: id, user_id, type, title, message, created_at of each."""
    values = ",".join(
        f'(${n + 1},${n + 2},CAST(${n + 3}::text AS "public"."NotificationType"),${n + 4},${n + 5},${n + 6})'
        for n in range(0, rows * 6, 6)
    )
    return f'INSERT INTO {TABLE} ("id","user_id","type","title","message","created_at") VALUES {values}'
