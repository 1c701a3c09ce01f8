"""The workers' table: who is alive, by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from bgtasks.exceptions import LeaseLost
from bgtasks.models import Worker
from bgtasks.queue import database as db


@dataclass(frozen=True)
class Peer:
    """Another worker, as a heartbeat saw it.

    Attributes:
        left: seconds until its lease runs out; negative when it has.
    """

    name: str
    host: str
    pid: int
    left: float

    def __str__(self) -> str:
        return f"worker {self.name} (process {self.pid} on {self.host})"


def register(worker: Worker) -> None:
    worker.started_at = worker.heartbeat_at = timezone.now()
    Worker.objects.using(db.alias()).bulk_create([worker])  # no signals: a row of our own
    sql = f"UPDATE {db.WORKERS} SET started_at = {db.clock(utc=True)} WHERE name = %s"
    db.execute(sql, [worker.name])
    beat(worker.name)


def deregister(name: str) -> None:
    db.execute(f"DELETE FROM {db.WORKERS} WHERE name = %s", [name])


def beat(name: str) -> None:
    """Renew a worker's lease, and the age of the locks that it holds.

    A stock worker beside ours takes a row whose ``locked_at`` is older than `MAX_RUN_TIME`.

    Raises:
        LeaseLost: somebody declared this worker dead.
    """
    sql = f"UPDATE {db.WORKERS} SET heartbeat_at = {db.clock(utc=True)} WHERE name = %s"
    if not db.execute(sql, [name]):
        raise LeaseLost(f"Worker {name} was declared dead and its tasks were given to others.")
    renew_locks(f"{name}.")


def renew_locks(prefix: str) -> None:
    """Set the age of the locks that begin with a prefix to nothing.

    Rows that somebody is writing at this moment are left for the next time: a heartbeat waits
    for nobody, and is in nobody's way.
    """
    held, params = db.held_by(prefix)
    rows = f"SELECT id FROM {db.TASKS} WHERE {held}"
    rows += " FOR UPDATE SKIP LOCKED" if db.on_postgresql() else ""
    db.execute(f"UPDATE {db.TASKS} SET locked_at = {db.clock()} WHERE id IN ({rows})", params)


def limit_waits(seconds: float) -> None:
    """Have this connection's statements fail rather than wait for a lock long."""
    milliseconds = int(seconds * 1000)
    if not db.on_postgresql():
        ((limit,),) = db.fetch("PRAGMA busy_timeout")
        if limit > milliseconds:
            db.fetch(f"PRAGMA busy_timeout = {milliseconds}")
        return
    database = db.connection()
    if (
        database.connection is None
        or database.__dict__.get("_bgtasks_limited") is not database.connection
    ):
        db.fetch("SELECT set_config('lock_timeout', %s, false)", [f"{milliseconds}ms"])
        database.__dict__["_bgtasks_limited"] = database.connection


def peers(name: str) -> list[Peer]:
    """The other workers in the table."""
    left = f"lease - {db.age('heartbeat_at', utc=True)}"
    sql = f"SELECT name, host, pid, {left} FROM {db.WORKERS} WHERE name <> %s"
    return [Peer(other, host, pid, float(left)) for other, host, pid, left in db.fetch(sql, [name])]


def bury(name: str, gone: bool = False) -> bool:
    """Take a worker out of the table whose lease has run out. It may have sent word meanwhile.

    Args:
        gone: it is known to be dead, whatever its lease.
    """
    over = "1 = 1" if gone else f"{db.age('heartbeat_at', utc=True)} > lease"
    return bool(db.execute(f"DELETE FROM {db.WORKERS} WHERE name = %s AND {over}", [name]))


def skew() -> timedelta:
    """How far this host's clock is ahead of the database's. SQLite has only this host's."""
    if not db.on_postgresql():
        return timedelta(0)
    ((ahead,),) = db.fetch("SELECT EXTRACT(EPOCH FROM (%s - CLOCK_TIMESTAMP()))", [_now()])
    return timedelta(seconds=float(ahead))


def _now() -> object:
    return db.moment(timezone.now())
