"""A pooler between this process and PostgreSQL, such as PgBouncer.

In its transaction mode each transaction may have another connection of the server's. Nothing that
belongs to a session can be used then: no LISTEN, and no setting that outlives its transaction.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from bgtasks.queue import database as db


def is_between() -> bool:
    """Whether a pooler stands between. The database is asked once in a process.

    Raises:
        DatabaseError, InterfaceError: the database does not answer.
    """
    return db.on_postgresql() and _is_between(db.alias())


@cache
def _is_between(alias: str) -> bool:
    # A pooler makes up the process id that PostgreSQL tells its clients when they connect.
    ((actual,),) = db.fetch("SELECT pg_backend_pid()")
    return bool(_told(db.connection().connection) != actual)


def _told(raw: Any) -> int:
    """The process id that a connection was told."""
    return int(raw.info.backend_pid)
