"""What may go wrong, one kind in each cell: a strike begins a fault, and ends it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path

import psycopg

from tests.chaos.arena import CLOCK_SEEN, LEASE, Arena, Member, have_one_right, send
from tests.harness.fleets import APP
from tests.harness.process import children

ENGINES = ("builtin", "celery-rabbitmq", "celery-redis")
FLEETS = ENGINES[1:]
# Tasks that are enqueued in a second of a soak: about as many as one worker runs on two cores,
# beside all else. The other one is idle while its clock is an hour back.
FULL = 70


class Cell:
    """A kind of fault.

    Attributes:
        name: for the command line.
        title: for the table of results.
        engines: to which of `ENGINES` it may happen.
        databases: with which databases.
        least: how many strikes there are at least: each of the things that it does comes once.
        rest: the seconds of load between two strikes.
        restarts_broker: it needs a broker of its own.
    """

    name = title = ""
    engines: Sequence[str] = ENGINES
    databases: Sequence[str] = ("postgresql", "sqlite")
    least = 2
    rest = 0.3
    restarts_broker = False

    def suits(self, arena: Arena) -> bool:
        """Whether it may happen to this engine and database."""
        database = "postgresql" if arena.server else "sqlite"
        return arena.fleet.engine in self.engines and database in self.databases

    def prepare(self, arena: Arena, stack: ExitStack) -> None:
        """Set up what the strikes need, before anything is started."""

    def strike(self, arena: Arena) -> None:
        raise NotImplementedError

    def check(self, arena: Arena) -> None:
        """Check, at the end, that the faults did happen."""


def one_of(arena: Arena, *deeds: Callable[[Arena], None]) -> None:
    """Do one of these things: each once, in an order by chance, before any comes again.

    In a soak, where other cells strike in between, one may come again earlier.
    """
    turn = arena.strikes % len(deeds)
    order = list(range(len(deeds)))
    random.Random(arena.seed + arena.strikes // len(deeds)).shuffle(order)
    deeds[order[turn]](arena)


class Kill(Cell):
    name, title = "kill", "`kill -9` of children, of main processes, and of whole hosts"
    least = 4
    rest = 0.0

    def strike(self, arena: Arena) -> None:
        one_of(arena, self.child, self.host, self.main, self.several)

    def child(self, arena: Arena) -> None:
        found = children(arena.any_member().process.pid)
        send([arena.random.choice(found)] if found else [], signal.SIGKILL)

    def host(self, arena: Arena) -> None:
        arena.kill(arena.any_member())

    def main(self, arena: Arena) -> None:
        member = arena.any_member()
        send([member.process.pid], signal.SIGKILL)
        arena.replace(member)

    def several(self, arena: Arena) -> None:
        for _ in range(3):
            self.child(arena)
            time.sleep(arena.random.uniform(0, 0.3))
        self.host(arena)


class Database(Cell):
    name = "database"
    title = "PostgreSQL restarted (fast, immediate), backends terminated, connections exhausted"
    databases = ("postgresql",)
    least = 4

    def strike(self, arena: Arena) -> None:
        one_of(arena, self.restart, self.crash, self.terminate, self.exhaust)

    def restart(self, arena: Arena) -> None:
        assert arena.server
        arena.server.stop(signal.SIGINT)
        arena.server.start()

    def crash(self, arena: Arena) -> None:
        assert arena.server
        arena.server.stop(signal.SIGQUIT)
        arena.server.start()

    def terminate(self, arena: Arena) -> None:
        arena.project.database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
            "current_database() AND pid <> pg_backend_pid() AND random() < 0.7"
        )

    def exhaust(self, arena: Arena) -> None:
        """Take all connections, those that come free when workers lose theirs too."""
        assert arena.server
        taken = []
        ends_at = time.monotonic() + (10 if arena.long else 2)
        self.terminate(arena)
        while time.monotonic() < ends_at:
            try:
                taken.append(psycopg.connect(arena.server.socket_url, connect_timeout=3))
            except psycopg.OperationalError:
                time.sleep(0.1)
        for each in taken:
            each.close()


class CutOff(Cell):
    name = "cut"
    title = "a host cut off from the database for longer than its lease, or its packets lost"
    databases = ("postgresql",)

    def prepare(self, arena: Arena, stack: ExitStack) -> None:
        arena.with_cables = True

    def strike(self, arena: Arena) -> None:
        member = arena.any_member()
        assert member.cable
        silent = arena.strikes % 2 == 0
        (member.cable.freeze if silent else member.cable.cut)()
        time.sleep(LEASE * arena.random.uniform(1.2, 2.5))
        (member.cable.thaw if silent else member.cable.join)()


class Freeze(Cell):
    name, title = "freeze", "SIGSTOP for longer than the lease, then SIGCONT"
    least = 3

    def strike(self, arena: Arena) -> None:
        member = arena.any_member()
        pids = self._some_of(arena, member)
        if arena.server or member.process.pid not in pids:
            send(pids, signal.SIGSTOP)  # a child that is stopped alone is killed by its supervisor
        else:  # what is frozen in the middle of a write would keep everybody from writing on SQLite
            arena.project.freeze(pids)
        time.sleep(LEASE * arena.random.uniform(1.2, 2))
        send(pids, signal.SIGCONT)

    def _some_of(self, arena: Arena, member: Member) -> list[int]:
        """All of a host, its main process, or one of the others."""
        turn = arena.strikes % 3
        if turn == 0:
            return member.pids
        return [member.process.pid] if turn == 1 else member.pids[-1:]


class Broker(Cell):
    name = "broker"
    title = "the broker restarted or away, its messages lost, or sent twice"
    engines = FLEETS
    least = 5
    restarts_broker = True
    _was_away = False

    def strike(self, arena: Arena) -> None:
        one_of(arena, self.lost, self.doubled, self.silent, self.restart, self.away)
        if arena.fleet.engine == "celery-redis" and self._was_away:
            # A Celery worker on Redis may not come back by itself, which is a fault of Celery's:
            # docs/operating/engines.md tells its operators to do this.
            for member in [each for each in arena.members if each.kind == "celery"]:
                send([member.process.pid], signal.SIGTERM)
                arena.replace(member)
        self._was_away = False

    def restart(self, arena: Arena) -> None:
        assert arena.broker_server
        self._was_away = True
        arena.broker_server.stop()
        arena.broker_server.start()

    def away(self, arena: Arena) -> None:
        assert arena.broker
        self._was_away = True
        arena.broker.cut()
        time.sleep(60 if arena.long else 3)
        arena.broker.join()

    def silent(self, arena: Arena) -> None:
        assert arena.broker
        arena.broker.freeze()
        time.sleep(15 if arena.long else 3)
        arena.broker.thaw()

    def lost(self, arena: Arena) -> None:
        purge = arena.fleet.celery("purge", "--force", "--queues", arena.fleet.queues)
        purge.wait()

    def doubled(self, arena: Arena) -> None:
        """Send again, twice, what was sent."""
        held = [
            (row["id"], row["locked_by"])
            for row in arena.project.rows(where="locked_by IS NOT NULL")
        ]
        send_again = "from bgtasks.engines.celery import run\n" + "".join(
            f"run.delay({pk}, {token!r})\n" for pk, token in held[:20] * 2
        )
        arena.fleet.run(f"import {APP}\n{send_again}")


class Disk(Cell):
    name = "disk"
    title = "a full disk under SQLite, and a process that holds its write lock for seconds"
    engines = ("builtin",)
    databases = ("sqlite",)

    def strike(self, arena: Arena) -> None:
        one_of(arena, self.full, self.locked)

    def full(self, arena: Arena) -> None:
        filler = Path(arena.project.database.path).parent / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        time.sleep(10 if arena.long else 2)
        filler.unlink()

    def locked(self, arena: Arena) -> None:
        code = (
            "import sqlite3, sys, time\n"
            "connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)\n"
            "connection.execute('BEGIN IMMEDIATE'); time.sleep(float(sys.argv[2]))"
        )
        seconds = str(10 if arena.long else 3)
        path = str(arena.project.database.path)
        subprocess.run([sys.executable, "-c", code, path, seconds], check=True)


class Clocks(Cell):
    name, title = "clocks", "clocks an hour ahead, an hour back, and stepping"

    def prepare(self, arena: Arena, stack: ExitStack) -> None:
        arena.with_clocks = True

    def strike(self, arena: Arena) -> None:
        for member in arena.members:
            assert member.clock
            arena.set_clock(member.clock)
        time.sleep(CLOCK_SEEN + 0.2)
        have_one_right(arena.members)
        time.sleep(CLOCK_SEEN + 0.2)

    def check(self, arena: Arena) -> None:
        # What enqueues has the right time; what was tried again is due at another one.
        first_runs = "attempts = 1 AND started_at IS NOT NULL AND due_at IS NOT NULL"
        rows = arena.project.rows("bgtasks_outcome", first_runs)
        waited = [_moment(row["started_at"]) - _moment(row["due_at"]) for row in rows]
        assert any(abs(seconds) > 1800 for seconds in waited), "no clock was off"


def _moment(value: object) -> float:
    """A date as a database gives it, as seconds since 1970."""
    return datetime.fromisoformat(str(value)).timestamp()


class Analytics(Cell):
    name = "analytics"
    title = "a long analytics transaction, and 100,000 dead rows a minute"
    databases = ("postgresql",)
    engines = ("builtin",)
    rest = 1.0

    def prepare(self, arena: Arena, stack: ExitStack) -> None:
        assert arena.server
        over = threading.Event()
        churn = threading.Thread(target=self._churn, args=[arena.server.socket_url, over])
        snapshot = psycopg.connect(arena.server.socket_url)
        stack.callback(snapshot.close)
        snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        snapshot.execute("SELECT count(*) FROM background_task")
        stack.callback(churn.join)
        stack.callback(over.set)
        churn.start()

    def _churn(self, url: str, over: threading.Event) -> None:
        """Insert and delete 500 rows that are not due, every 0.3 seconds."""
        insert = (
            "INSERT INTO background_task (task_name, task_params, task_hash, priority, run_at, "
            "attempts, last_error, repeat) SELECT 'churn', '[[], {}]', '', 0, "
            "now() + interval '1 year', 0, '', 0 FROM generate_series(1, 500)"
        )
        while not over.wait(0.3):
            with (
                suppress(psycopg.OperationalError),  # in a soak, it is restarted meanwhile
                psycopg.connect(url, autocommit=True) as connection,
            ):
                while not over.wait(0.3):
                    connection.execute(insert)
                    connection.execute("DELETE FROM background_task WHERE task_name = 'churn'")

    def strike(self, arena: Arena) -> None:
        """It goes on all the time."""


class Deploys(Cell):
    name, title = "deploys", "SIGTERM of everything at once, again and again"

    def strike(self, arena: Arena) -> None:
        time.sleep(9 if arena.long else 1)
        for member in list(arena.members):
            send([member.process.pid], signal.SIGTERM)
            arena.replace(member)


class Soak(Cell):
    """All of it at random, one after another."""

    name, title = "soak", "all of it at random"
    restarts_broker = True
    engines = ("builtin", "celery-rabbitmq")

    def prepare(self, arena: Arena, stack: ExitStack) -> None:
        if arena.fleet.engine == "builtin":
            arena.rate = FULL
        self._cells = [cell for cell in CELLS.values() if cell.suits(arena)]
        for cell in self._cells:
            cell.prepare(arena, stack)

    def strike(self, arena: Arena) -> None:
        cell = arena.random.choice(self._cells)
        cell.strike(arena)
        time.sleep(cell.rest)


CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        Kill(), Database(), CutOff(), Freeze(), Broker(), Disk(), Clocks(), Analytics(), Deploys()
    )
}  # fmt: skip
