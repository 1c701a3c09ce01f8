"""The workers' table: who is alive, by the database's clock."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from bgtasks.exceptions import LeaseLost
from bgtasks.models import Worker
from bgtasks.queue import database as db
from bgtasks.queue import pooler


@dataclass(frozen=True)
class Peer:
    """Another worker, as the workers' table showed it at our last heartbeat.

    Attributes:
        lease: the length of its lease in seconds.
        left: seconds until its lease runs out; negative when it has. None if its last heartbeat
            cannot be read, or lies in the future.
    """

    name: str
    host: str
    pid: int
    lease: float
    left: float | None

    def __str__(self) -> str:
        return f"worker {self.name} (process {self.pid} on {self.host})"


def register(worker: Worker) -> None:
    worker.started_at = worker.heartbeat_at = timezone.now()
    Worker.objects.using(db.alias()).bulk_create([worker])  # unlike save(), sends no signals
    sql = f"UPDATE {db.WORKERS} SET started_at = {db.clock(utc=True)} WHERE name = %s"
    db.execute(sql, [worker.name])
    beat(worker.name)


def correct_names(name: str, names: list[str]) -> None:
    """Note which tasks a worker knows by now."""
    Worker.objects.using(db.alias()).filter(pk=name).update(names=names)


def deregister(name: str) -> None:
    db.execute(f"DELETE FROM {db.WORKERS} WHERE name = %s", [name])


def beat(name: str, status: Mapping[str, Any] | None = None) -> None:
    """Renew a worker's lease, and the ``locked_at`` of the rows that it holds.

    The latter is for workers of upstream beside ours: those take a row whose ``locked_at`` is
    older than `MAX_RUN_TIME`.

    Args:
        status: what the worker does, for operators; see `bgtasks.supervisor.status`.

    Raises:
        LeaseLost: somebody declared this worker dead.
    """
    json_type = "::jsonb" if db.on_postgresql() else ""
    sql = (
        f"UPDATE {db.WORKERS} SET heartbeat_at = {db.clock(utc=True)}, status = %s{json_type} "
        "WHERE name = %s"
    )
    if not db.execute(sql, [None if status is None else json.dumps(status), name]):
        raise LeaseLost(f"Worker {name} was declared dead and its tasks were given to others.")
    renew_locks(f"{name}.")


def renew_locks(prefix: str) -> None:
    """Set the ``locked_at`` of all rows whose claims begin with a prefix to now.

    On PostgreSQL, rows that somebody else has locked at this moment are left for the next time, so
    that a heartbeat neither waits for anybody nor blocks anybody.
    """
    held, params = db.held_by(prefix)
    rows = f"SELECT id FROM {db.TASKS} WHERE {held}"
    rows += " FOR UPDATE SKIP LOCKED" if db.on_postgresql() else ""
    db.execute(f"UPDATE {db.TASKS} SET locked_at = {db.clock()} WHERE id IN ({rows})", params)


def limit_waits(seconds: float) -> None:
    """Make the statements of this connection fail rather than wait longer for a lock."""
    milliseconds = int(seconds * 1000)
    if not db.on_postgresql():
        ((limit,),) = db.fetch("PRAGMA busy_timeout")
        if limit > milliseconds:
            db.fetch(f"PRAGMA busy_timeout = {milliseconds}")
        return
    if pooler.is_between():
        return  # the setting would be that of a session, which others use too
    database = db.connection()
    if (
        database.connection is None
        or database.__dict__.get("_bgtasks_limited") is not database.connection
    ):
        db.fetch("SELECT set_config('lock_timeout', %s, false)", [f"{milliseconds}ms"])
        database.__dict__["_bgtasks_limited"] = database.connection


# The longest lease in seconds, a week, and how far in the future a heartbeat may seem to be.
# Whoever writes the table by hand may write what no worker does.
LONGEST_LEASE, EARLY = 7 * 86400.0, 60.0


def peers(name: str, lease: float) -> list[Peer]:
    """The other workers in the table.

    Args:
        lease: seconds; they stand for a lease in the table that makes no sense.
    """
    age = db.age("heartbeat_at", utc=True)
    sql = f"SELECT name, host, pid, lease, {age} FROM {db.WORKERS} WHERE name <> %s"
    return [_peer(lease, *values) for values in db.fetch(sql, [name])]


def _peer(usual: float, name: Any, host: Any, pid: Any, lease: Any, age: Any) -> Peer:
    length = lease if isinstance(lease, float | int) and 0 < lease <= LONGEST_LEASE else usual
    known = isinstance(age, float | int | Decimal) and -EARLY <= age < math.inf
    return Peer(name, host, pid, length, length - float(age) if known else None)


def bury(peer: Peer, gone: bool = False) -> bool:
    """Delete a worker from the table if its lease has run out, or its heartbeat cannot be read.

    Args:
        gone: the worker is known to be dead: delete it whatever its lease.

    Returns:
        Whether it was deleted. It was not if it has renewed its lease meanwhile, or if somebody
        else has deleted it.
    """
    within = f"{db.age('heartbeat_at', utc=True)} BETWEEN -{EARLY} AND %s"
    over, params = ("1 = 1", []) if gone else (f"COALESCE(NOT ({within}), 1 = 1)", [peer.lease])
    sql = f"DELETE FROM {db.WORKERS} WHERE name = %s AND {over}"
    return bool(db.execute(sql, [peer.name, *params]))


def skew() -> timedelta:
    """How far this host's clock is ahead of the database's; with SQLite both are the same."""
    if not db.on_postgresql():
        return timedelta(0)
    ((ahead,),) = db.fetch("SELECT EXTRACT(EPOCH FROM (%s - CLOCK_TIMESTAMP()))", [_now()])
    return timedelta(seconds=float(ahead))


def _now() -> object:
    return db.moment(timezone.now())
