"""Databases of PostgreSQL that tests have used, emptied so that others can use them again.

To copy a database and to drop the copy takes PostgreSQL 0.2 s, and more where several processes do
it at once, for each time it writes all that it has in memory to the disk. To empty one takes a
tenth of that.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from tests.harness.flush import KEPT

# Tables whose rows `migrate` has written.
MIGRATED = sorted({*KEPT, "django_migrations"})
# Bytes of a table from which on a database is not used again: its dead rows would slow a test.
LARGE = 512 * 1024
# All that makes a database what it is, but for the rows of the other tables.
SHAPE = """
WITH ours AS (
  SELECT c.oid, c.relname, c.relkind, c.reloptions FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^(pg_|information_schema$)'
)
SELECT md5(string_agg(line, E'\n' ORDER BY line)) FROM (
  SELECT concat_ws(' ', relname, relkind, reloptions) FROM ours
  UNION ALL SELECT concat_ws(' ', attrelid::regclass, attname, format_type(atttypid, atttypmod),
    attnotnull, attidentity, pg_get_expr(adbin, adrelid))
    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attnum > 0 AND NOT attisdropped AND attrelid IN (SELECT oid FROM ours)
  UNION ALL SELECT concat_ws(' ', pg_get_indexdef(indexrelid), indisvalid)
    FROM pg_index WHERE indrelid IN (SELECT oid FROM ours)
  UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE conrelid IN (SELECT oid FROM ours)
  UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger
    WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM ours)
  UNION ALL SELECT concat_ws(' ', proname, prosrc) FROM pg_proc
    JOIN pg_namespace n ON n.oid = pronamespace WHERE n.nspname !~ '^(pg_|information_schema$)'
  UNION ALL SELECT concat_ws(' ', 'set', setconfig) FROM pg_db_role_setting
    JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database()
) AS lines(line)
"""
ROWS = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} AS t"
TABLES = (
    "SELECT relname, pg_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n "
    "ON n.oid = relnamespace WHERE nspname = 'public' AND relkind = 'r' ORDER BY 1"
)
SEQUENCES = "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public'"
END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def _connect(url: str, name: str) -> Any:
    address = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    return closing(psycopg.connect(address, autocommit=True))


class Spares:
    """The emptied copies of one template.

    Args:
        url: of any database of the server.
        template: the name of the template. Nobody is connected to it.
    """

    def __init__(self, url: str, template: str) -> None:
        self._url = url
        self._names: list[str] = []
        with _connect(url, template) as connection:
            self._shape = self._shape_of(connection)
            self._sequences = connection.execute(SEQUENCES).fetchall()

    def take(self) -> str | None:
        """The name of one that is emptied; None if there is none. The caller renames it.

        Under its old name it would be found by a process that its last test has left behind.
        """
        return self._names.pop() if self._names else None

    def give(self, name: str) -> bool:
        """Empty a database, for `take`; returns False if it is to be dropped instead.

        That is so if it differs from its template in anything but rows, or has become large.
        """
        try:
            with _connect(self._url, name) as connection:
                connection.execute(END_OTHERS)
                emptied = self._empty(connection)
        except psycopg.Error:  # it is gone, or somebody has locked it for good
            return False
        if emptied:
            self._names.append(name)
        return emptied

    def all(self) -> list[str]:
        """The names of those that nobody uses now."""
        return list(self._names)

    def _empty(self, connection: Any) -> bool:
        tables = connection.execute(TABLES).fetchall()
        if any(size > LARGE for _, size in tables) or self._shape_of(connection) != self._shape:
            return False
        emptied = [sql.Identifier(name) for name, _ in tables if name not in MIGRATED]
        statements = [sql.SQL("DELETE FROM {}").format(table) for table in emptied]
        statements += [
            sql.SQL("SELECT setval({}, {}, {})").format(name, last or 1, last is not None)
            for name, last in self._sequences
        ]
        connection.execute(sql.SQL("; ").join(statements))  # all of it in one transaction
        return True

    def _shape_of(self, connection: Any) -> list[Any]:
        there = [name for name, _ in connection.execute(TABLES).fetchall() if name in MIGRATED]
        rows = [sql.SQL(ROWS).format(sql.Identifier(name)) for name in there]
        return [connection.execute(each).fetchone() for each in (SHAPE, *rows)]
