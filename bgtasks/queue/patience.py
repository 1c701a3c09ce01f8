"""How long a worker waits for a database that has taken its connection and answers nothing.

A frozen server or pooler, or a network that loses all packets, breaks no connection: whoever waits
for an answer waits for hours, or for ever. A thread on which others' tasks depend must not.

On PostgreSQL, with psycopg 3, such a thread takes the connection for broken after a while, as if
the server had ended it. The server is told to give up a bit earlier, so that it does not go on with
what nobody waits for. A thread that runs tasks waits as long as they like; TCP alone can tell it
that its connection is dead.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db import DatabaseError, InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.queue import database as db
from bgtasks.queue import pooler

# The shortest limit, in seconds, however short the leases are: a busy server may take so long.
SHORTEST = 3.0
# Seconds for which an answer is awaited after the server should have given up.
MARGIN = 1.0
_limits = threading.local()


@contextmanager
def limited(share: float = 1.0) -> Iterator[None]:
    """Within this context, this thread does not wait for the queue's database for long.

    A statement that takes longer raises Django's `OperationalError`, and the connection is closed.

    Args:
        share: how long, as a share of the lease.
    """
    _limits.seconds = max(SHORTEST, share * conf.lease())
    connection_created.connect(_connected, dispatch_uid="bgtasks.patience")
    for alias in _aliases():
        _limit_open(connections[alias])
    try:
        yield
    finally:
        forget()


@contextmanager
def suspended() -> Iterator[None]:
    """Within this context, this thread waits for answers as long as it takes.

    It is for code of the project. If that takes too long, the server alone gives its statement up,
    which leaves the connection, and the transaction around it, as they are.
    """
    seconds = getattr(_limits, "seconds", None)
    _limits.seconds = None
    try:
        yield
    finally:
        _limits.seconds = seconds


def forget() -> None:
    """Have this thread wait as long as it takes: it is a copy of one in a parent process."""
    _limits.seconds = None


def _limit_open(connection: BaseDatabaseWrapper) -> None:
    """Limit a connection that is open already, or close it: the next one is limited."""
    if connection.connection is not None:
        try:
            _connected(None, connection)
        except (DatabaseError, InterfaceError):
            connection.close()


def break_dead_connections() -> None:
    """From now on, connections of this process to the queue's database break if their peer is gone.

    They do so within a lease. This is for connections over TCP, of all threads. What the settings
    say in ``OPTIONS`` counts.
    """
    if not db.on_postgresql():
        return
    seconds = max(SHORTEST, conf.lease())
    every = max(1, int(seconds / 4))
    defaults = {
        "connect_timeout": max(2, math.ceil(seconds)),
        "keepalives_idle": every,
        "keepalives_interval": every,
        "keepalives_count": 3,
        "tcp_user_timeout": int(seconds * 1000),
    }
    if "PGCONNECT_TIMEOUT" in os.environ:
        del defaults["connect_timeout"]
    for alias in _aliases():
        # The settings of a database are shared by its connections in all threads.
        options = connections.settings[alias].setdefault("OPTIONS", {})
        if "service" in options or "PGSERVICE" in os.environ:
            continue  # what that names may have all of these
        for name, value in defaults.items():
            options.setdefault(name, value)


def _aliases() -> set[str]:
    return {db.alias(), conf.listen_database() or db.alias()}


def _connected(sender: Any, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Limit a new connection, if this thread's waits are limited."""
    seconds, raw = getattr(_limits, "seconds", None), connection.connection
    if not seconds or not hasattr(raw, "pgconn") or connection.alias not in _aliases():
        return
    if "wait" not in raw.__dict__:  # a pool hands out the same connection again
        raw.wait = partial(_wait, raw, raw.wait)
    if not (connection.settings_dict["OPTIONS"].get("pool") or pooler.is_between()):
        # It is a setting of the session. Nobody else has it here.
        with connection.cursor() as cursor:
            milliseconds = f"{int(seconds * 1000)}ms"
            cursor.execute("SELECT set_config('statement_timeout', %s, false)", [milliseconds])


def _wait(raw: Any, wait: Any, gen: Any, *args: Any, **options: Any) -> Any:
    """What psycopg calls to wait for an answer."""
    seconds = getattr(_limits, "seconds", None)
    return wait(_until_late(gen, raw, seconds) if seconds else gen, *args, **options)


def _until_late(gen: Any, raw: Any, seconds: float) -> Generator[Any, Any, Any]:
    """Do what psycopg's generator does, until it has waited too long."""
    ends_at = elapsed() + seconds + MARGIN
    was_late = False
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted  # nothing every 0.1 s
            is_late = not ready and elapsed() > ends_at
            # Not at the first time: a task may have held the interpreter's lock since psycopg has
            # looked, and an answer have come.
            if is_late and was_late:
                raw.pgconn.finish()
                raise raw.OperationalError(
                    f"the database has not answered for {seconds + MARGIN:.3g} s"
                )
            was_late = is_late
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value
