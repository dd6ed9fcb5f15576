"""PostgreSQL: the embedded server, connections, migrations, and one module of SQL for each table. SQL lives only here.

Every name in SQL carries its schema, so a foreign `search_path` does not matter. Timestamps are `TIMESTAMP(3)` in UTC
in the tables and aware `datetime` in the structs; the statements convert, whatever the time zone of the connection.
JSON is read as text and decoded row by row, so that one odd value spoils its own row at most.
"""
