"""Many rows, one after the other."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import psycopg

from bench.measures.rig import Bench, Rig, Skip
from tests.harness.process import children

WARM_UP = 1_000


def backlog(bench: Bench) -> dict[str, float]:
    """Tasks a second over 10,000 executions after 1,000, with few rows waiting and with many."""
    measured = bench.count(10_000, 2_000)
    few, many = bench.count(20_000, 4_000), bench.count(200_000, 40_000)
    rates = {rows: _rate_of(bench, rows, measured) for rows in (few, many)}
    return {"ratio": rates[many] / rates[few], "few": rates[few], "many": rates[many]}


def million(bench: Bench) -> dict[str, float]:
    """The same with 1,000,000 rows."""
    measured = bench.count(10_000, 2_000)
    few = _rate_of(bench, bench.count(20_000, 4_000), measured)
    many = _rate_of(bench, bench.count(1_000_000, 100_000), measured)
    return {"ratio": many / few, "many": many}


def _rate_of(bench: Bench, rows: int, measured: int) -> float:
    with bench.rig() as rig:
        rig.fill(rows)
        rig.worker()
        return rig.rate(WARM_UP, WARM_UP + measured)


def snapshot(bench: Bench) -> dict[str, float]:
    """Tasks a second over a whole drain of 100,000, without and with an old snapshot.

    The snapshot is that of a REPEATABLE READ transaction in the same database, taken when the
    rows are there and none has run. It keeps every version of every row from being cleared.
    """
    rows = bench.count(100_000, 4_000)
    with bench.rig() as rig:
        without = _drain(rig, rows)
    with bench.rig() as rig:
        rig.fill(rows)
        with psycopg.connect(rig.database.url) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.execute("SELECT count(*) FROM background_task")
            rig.worker()
            beside = rig.rate(1, rows)
    return {"ratio": beside / without, "without": without}


def _drain(rig: Rig, rows: int) -> float:
    rig.fill(rows)
    rig.worker()
    return rig.rate(1, rows)


def results(bench: Bench) -> dict[str, float]:
    """Tasks a second over 20,000 executions, whose results are kept and are not.

    The result is a number, or a dictionary of four entries, 80 bytes as JSON.
    """
    number = _kept(bench, 9)
    entries = {"id": 7, "state": "paid", "total": 12.5, "lines": ["one", "two", "three"]}
    return {**number, "entries": _kept(bench, entries)["ratio"]}


def _kept(bench: Bench, result: Any) -> dict[str, float]:
    rows = bench.count(20_000, 4_000)
    rates = {}
    for task in ("stored", "ignored"):
        with bench.rig() as rig:
            rig.fill(rows, task, result)
            rig.worker()
            rates[task] = rig.rate(WARM_UP, rows)
    return {"ratio": rates["stored"] / rates["ignored"], "stored": rates["stored"]}


def enqueueing(bench: Bench) -> dict[str, float]:
    """SQL statements of a call in each dialect, in autocommit, over 100 calls.

    As Django logs them, without BEGIN and COMMIT, and without the NOTIFY that follows a commit on
    PostgreSQL at most once in 50 ms.
    """
    with bench.rig() as rig:
        counted: dict[str, float] = rig.call("counted(100)")
    return counted


def statements(bench: Bench) -> dict[str, float]:
    """SQL statements for each task of a drain, from the worker's start to its end.

    As the database's own library saw them, in the supervisor and its child, with BEGIN and
    COMMIT: on PostgreSQL what libpq's trace has as completed (CommandComplete), on SQLite what
    its trace callback names. Left out is what Django sends before a connection is handed out.
    """
    rows = bench.count(10_000, 2_000)
    with bench.rig() as rig, tempfile.TemporaryDirectory(prefix="statements-") as folder:
        rig.fill(rows)
        rig.drain(STATEMENTS=folder)
        assert rig.executed() == rows, f"{rig.executed()} of {rows} tasks ran"
        traces = [path.read_text(errors="replace") for path in Path(folder).iterdir()]
        mark = "\tCommandComplete\t" if rig.database.on_postgresql else "\n"
        return {"each": sum(trace.count(mark) for trace in traces) / rows}


def bulk(bench: Bench) -> dict[str, float]:
    """Rows a second of one ``task.map(range(50_000))``, its commit included."""
    rows = bench.count(50_000, 5_000)
    with bench.rig() as rig:
        seconds = rig.call(f"in_bulk({rows})")
        if seconds is None:
            raise Skip("tasks have no map()")
        assert len(rig.database.query("SELECT id FROM background_task")) == rows + 1
        return {"rate": rows / seconds}


def memory(bench: Bench) -> dict[str, float]:
    """Resident memory (VmRSS) of the child after 500,000 tasks over that after 10,000."""
    early, late = 10_000, bench.count(500_000, 50_000)
    with bench.rig() as rig:
        rig.fill(late + early)
        worker = rig.worker()
        rig.until_executed(early)
        (child,) = children(worker.pid)
        before = _resident(child)
        rig.until_executed(late)
        after = _resident(child)
        return {"ratio": after / before, "megabytes": after / 1024}


def _resident(pid: int) -> int:
    """Kibibytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
